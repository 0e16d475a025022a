"""``meta/modality.json``: named parts of state and action, names of cameras, and where the instruction stands.

Datasets for GR00T carry this file beside the usual ones (NVIDIA, Isaac-GR00T, "Robot data conversion guide"). A part
is a range of entries, such as ``"left_arm": {"start": 0, "end": 7}``; its entries are named ``left_arm_0`` to
``left_arm_6``. Specs that wamkit stored have names of their own, so that parts and cameras are then left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wamkit.data import layout
from wamkit.data.faults import placed
from wamkit.data.tables import COPY_AGAIN
from wamkit.errors import DataError, did_you_mean
from wamkit.storage import read_json

FILE = "meta/modality.json"
KINDS = {"state": layout.STATE_KEY, "action": layout.ACTION_KEY}
VIDEO, ANNOTATION = "video", "annotation"
INSTRUCTION = "task_description"  # last word of the annotation that is the instruction
TASK_KEY = "task_index"


def apply(root: Path, info: dict[str, Any]) -> None:
    """Put the names of ``meta/modality.json``, where there is one, into the features of ``info``.

    Raises:
        DataError: the file is broken, or names a feature or entries that do not exist.
    """
    with placed(file=root / FILE):
        content = _read(root)
        if content is not None:
            _name(content, info, root / FILE)


def _name(content: Mapping[str, Any], info: Mapping[str, Any], path: Path) -> None:
    """Put the names that the file holds into the features of ``info``."""
    features = info["features"]
    known = (*KINDS, VIDEO, ANNOTATION)
    for kind, parts in content.items():
        if kind not in known:
            raise DataError(f"{path}: no modality {kind!r}. {did_you_mean(kind, known)}")
        if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
            raise DataError(f"{path}, key {kind!r}: must be an object of objects. {COPY_AGAIN}")
    for kind, key in KINDS.items():
        names = _entries(content.get(kind, {}), kind, key, features, path)
        if names is not None and layout.SPEC_KEY not in info:
            features[key] = {**features[key], "names": names}
    for name, part in content.get(VIDEO, {}).items():
        key = _feature(part, layout.IMAGE_PREFIX + name, features, f"{path}, {VIDEO} {name!r}")
        if features[key]["dtype"] not in ("video", "image"):
            raise DataError(f"{path}, {VIDEO} {name!r}: {key!r} is no camera. Name the key of a camera.")
        if layout.SPEC_KEY not in info:
            features[key] = {**features[key], layout.CAMERA_NAME: name}
    layout.camera_keys(features, str(path))
    _annotations(content, features, path)


def instruction_key(root: Path, info: Mapping[str, Any]) -> str:
    """Feature whose values are the task index of every frame: an annotation ``*task_description``, or ``task_index``.

    Raises:
        DataError: ``meta/modality.json`` is broken.
    """
    with placed(file=root / FILE):
        content = _read(root)
        if content is None:
            return TASK_KEY
        found = _annotations(content, info["features"], root / FILE)
    chosen = [key for name, key in found.items() if name.split(".")[-1] == INSTRUCTION]
    return chosen[0] if chosen else TASK_KEY


def _read(root: Path) -> dict[str, Any] | None:
    path = root / FILE
    way_out = f"{COPY_AGAIN} Or remove it: entries and cameras then have the names of their features."
    return read_json(path, way_out) if path.exists() else None


def _annotations(
    content: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]], path: Path
) -> dict[str, str]:
    """Annotation -> its feature of whole numbers."""
    found = {}
    for name, part in content.get(ANNOTATION, {}).items():
        place = f"{path}, {ANNOTATION} {name!r}"
        key = _feature(part, f"{ANNOTATION}.{name}", features, place)
        if not features[key]["dtype"].startswith(("int", "uint")) and name.split(".")[-1] == INSTRUCTION:
            raise DataError(
                f"{place}: {key!r} is {features[key]['dtype']}, but an instruction is the index of a task. Store the "
                f"index, or remove the annotation to have {TASK_KEY!r} read."
            )
        found[name] = key
    return found


def _feature(part: Mapping[str, Any], usual: str, features: Mapping[str, Any], place: str) -> str:
    """Key that a part is read from; raises :class:`DataError` unless it is a feature."""
    key = part.get("original_key") or usual
    if not isinstance(key, str) or key not in features:
        hint = did_you_mean(str(key), features)
        raise DataError(f"{place}: {key!r} is no feature of {layout.INFO}. {hint}")
    return key


def _entries(
    parts: Mapping[str, Mapping[str, Any]], kind: str, own: str, features: Mapping[str, Any], path: Path
) -> list[str] | None:
    """Names of the entries of state or action; None where the file names none of them.

    Parts of other features are left out: those features are read as extras, under their own names.
    """
    spans: list[tuple[int, int, str]] = []
    for name, part in parts.items():
        place = f"{path}, {kind} {name!r}"
        key = _feature(part, own, features, place)
        shape = features[key].get("shape")  # of a feature that nothing reads it may be anything
        width = shape[0] if isinstance(shape, list) and shape and isinstance(shape[0], int) else 0
        start, end = part.get("start", 0), part.get("end", width)
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (start, end))
        if not whole or not 0 <= start < end <= width:
            raise DataError(
                f"{place}: the range from {start!r} to {end!r} does not lie within the {width} entries of {key!r}. "
                f"Correct 'start' and 'end'; 'end' is not included."
            )
        if key == own:
            spans.append((start, end, name))
    if not spans:
        return None
    names = list(layout.entry_names(features[own], "state" if kind == "state" else "action"))
    taken = 0
    for start, end, name in sorted(spans):
        if start < taken:
            raise DataError(
                f"{path}, {kind} {name!r}: its entries from {start} on are those of another part."
            )
        taken = end
        names[start:end] = [name] if end - start == 1 else [f"{name}_{i}" for i in range(end - start)]
    return names
