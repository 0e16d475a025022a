"""``meta/info.json``, read with suspicion: every entry that is used has its type, its range and its partner."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from wamkit.data import faults, layout, modality
from wamkit.data.channels import channels
from wamkit.data.tables import COPY_AGAIN, storable
from wamkit.errors import DataError
from wamkit.storage import read_json

MAX_HZ = 10_000
PICTURES = ("video", "image")
CHANNELS = (1, 2, 3, 4)  # of a picture
# What a format text raises; one that asks for a billion characters is out of memory.
FILLING = (ValueError, KeyError, IndexError, AttributeError, TypeError, MemoryError, OverflowError)


def read_info(root: Path) -> dict[str, Any]:
    """Read and check ``meta/info.json``.

    Features that no part of wamkit reads (text, ragged arrays) may look as they like, beside having a dtype.

    Raises:
        DataError: the file or an entry is missing, has a wrong type or value, or contradicts another entry; it is not
            JSON, or the version is not one of :data:`wamkit.data.layout.PATHS`.
    """
    path = root / layout.INFO
    if not path.is_file():
        partial = root.with_name(root.name + ".partial")
        hint = (
            f" There is an interrupted recording at {partial}: record it again." if partial.exists() else ""
        )
        raise DataError(
            f"{path}: no such file, so {root} is not a LeRobotDataset.{hint} {where(root)}".rstrip()
        )
    info = read_json(path, COPY_AGAIN)
    _check_version(info, path)
    for key in ("total_episodes", "total_frames"):  # the rest can be read without them
        number: Any = info.get(key)
        if not (_is_int(number) and number >= 1):
            got = f"got {info[key]!r}" if key in info else "but is missing"
            faults.report(
                "info", f"{path}, entry {key!r}: must be a whole number from 1 up, {got}. {COPY_AGAIN}"
            )
    with faults.together():
        _check_entries(info, path)
    modality.apply(root, info)
    return info


def where(path: Path) -> str:
    """Sentence that names the dataset that was meant by another path; empty where none is found."""
    if path.parts[:1] == ("~",):
        return f"'~' was not replaced by your home folder; write {path.expanduser()}."
    near = [parent for parent in path.parents if (parent / layout.INFO).is_file()]
    inside = sorted(found.parents[1] for found in path.glob(f"*/{layout.INFO}"))
    if near:
        return f"It lies inside the dataset {near[0]}: name that folder."
    if inside:
        more = f", and {len(inside) - 1} others" if len(inside) > 1 else ""
        return f"It holds the dataset {inside[0]}{more}: name one of them."
    return ""


def _check_entries(info: Mapping[str, Any], path: Path) -> None:
    """Report every entry without which nothing else can be read."""
    for key in ("fps", "features", "data_path"):
        if key not in info:
            faults.report("info", f"{path}: the entry {key!r} is missing. {COPY_AGAIN}")
    fps: Any = info.get("fps", 0)
    if "fps" in info and not (_is_number(fps) and 0 < fps <= MAX_HZ):
        faults.report(
            "info",
            f"{path}, entry 'fps': must be a number of frames per second up to {MAX_HZ}, got {fps!r}. "
            f"Write the rate at which the dataset was recorded.",
        )
    if "features" in info:
        with faults.apart("feature"):
            _check_features(info["features"], path)
    if "data_path" in info:
        with faults.apart("info"):
            _check_template(info, "data_path", path)
    with faults.apart("info"):
        _check_video_path(info, path)


def _check_features(features: Any, path: Path) -> None:
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise DataError(f"{path}, entry 'features': must be an object of objects. {COPY_AGAIN}")
    required = (layout.ACTION_KEY, *layout.INDEX_FEATURES)
    for key in required:
        if key not in features:
            faults.report(
                "feature",
                f"{path}, features: {key!r} is missing; the features are {', '.join(features)}. {COPY_AGAIN}",
                feature=key,
            )
    with faults.together():
        for key, feature in features.items():
            if not storable(key) or "\0" in key:
                faults.report(
                    "feature",
                    f"{path}, features: {key!r} holds a character that no file can store. {COPY_AGAIN}",
                )
            with faults.apart("feature", feature=key):
                _check_feature(key, feature, path)
    layout.camera_keys(features, f"{path}, features")


def _check_video_path(info: Mapping[str, Any], path: Path) -> None:
    features = info.get("features")
    known = features.values() if isinstance(features, dict) else ()
    if any(isinstance(feature, dict) and feature.get("dtype") == "video" for feature in known):
        if "video_path" not in info:
            raise DataError(
                f"{path}: the entry 'video_path' is missing, but features are videos. {COPY_AGAIN}"
            )
        _check_template(info, "video_path", path)


def _check_version(info: Mapping[str, Any], path: Path) -> None:
    version = info.get("codebase_version")
    if not isinstance(version, str) or version not in layout.PATHS:
        way_out = "Update wamkit, or write the dataset as v3.0."
        plain = re.search(r"\d+\.\d+", str(version))
        meant = f"v{plain[0]}" if plain else ""
        if meant.startswith("v1"):
            way_out = "Convert it to v2.1 with the converters of the lerobot package."
        elif meant in layout.PATHS:
            way_out = f"If {meant} is meant, write {meant!r} there."
        raise DataError(
            f"{path}: codebase_version is {version!r}, but only {', '.join(layout.PATHS)} can be read. {way_out}"
        )
    chunk: Any = info.get("chunks_size")
    if version != layout.VERSION and (not _is_int(chunk) or chunk < 1):
        raise DataError(
            f"{path}, entry 'chunks_size': must be the number of episodes in one folder, from 1 up, got {chunk!r}. "
            f"The usual value is 1000."
        )


def _check_feature(key: str, feature: Mapping[str, Any], path: Path) -> None:
    """Raise :class:`DataError` unless a feature has a dtype and, if wamkit reads it, a shape and names that fit."""
    place = f"{path}, features, {key!r}"
    dtype = feature.get("dtype")
    if not isinstance(dtype, str):
        raise DataError(
            f'{place}: \'dtype\' must be a text such as "float32" or "video", got {dtype!r}. {COPY_AGAIN}'
        )
    if key in (layout.ACTION_KEY, layout.STATE_KEY):
        _check_vector(feature, place)
    elif key in layout.INDEX_FEATURES:
        if feature.get("shape") != [1] or _kind(dtype) != _kind(layout.INDEX_FEATURES[key]):
            raise DataError(
                f"{place}: must be {layout.INDEX_FEATURES[key]} of shape [1], got {dtype} of shape "
                f"{feature.get('shape')!r}. {COPY_AGAIN}"
            )
    elif key == layout.ACTED_KEY:
        if feature.get("shape") != [1] or dtype != "bool":
            raise DataError(
                f"{place}: must be bool of shape [1], one per frame, got {dtype} of shape {feature.get('shape')!r}. "
                f"Write it so, or remove the feature when every frame has its action."
            )
    elif dtype in PICTURES:
        _check_camera(key, feature, place)
    elif key.startswith(layout.EXTRA_PREFIX):
        check_extra(key, feature, str(path))


def _check_vector(feature: Mapping[str, Any], place: str) -> None:
    shape = _shape(feature, place)
    if len(shape) != 1:
        raise DataError(
            f"{place}: shape {list(shape)}, but only vectors are supported. Flatten it to one axis."
        )
    if _kind(feature["dtype"]) not in "iuf":
        raise DataError(
            f"{place}: dtype {feature['dtype']!r}, but only numbers can be read. Store it as float32."
        )
    names = layout.listed_names(feature)
    if not all(isinstance(name, str | int | float) and not isinstance(name, bool) for name in names):
        raise DataError(
            f"{place}: 'names' must be texts, got {feature['names']!r}. Write one name per entry."
        )
    # One name for several entries is the name of the axis, as many converters write it.
    if len(names) > 1 and len(names) != shape[0]:
        raise DataError(
            f"{place}: 'names' lists {len(names)} entries, but the shape is {list(shape)}. Correct the names, or "
            f"write null there to have the entries numbered."
        )


def _check_camera(key: str, feature: Mapping[str, Any], place: str) -> None:
    """Check form only; pictures that are not RGB are left out (:mod:`wamkit.data.channels`)."""
    shape = _shape(feature, place)
    if len(shape) not in (2, 3):
        raise DataError(
            f"{place}: shape {list(shape)}, but a picture has rows, columns and channels. {COPY_AGAIN}"
        )
    if len(shape) == 3 and channels(feature) not in CHANNELS:
        raise DataError(
            f"{place}: {channels(feature)} channels, by the shape {list(shape)} and the names "
            f"{feature.get('names')!r}. Correct them: a picture has 1 to 4."
        )
    for entry in ("info", "video_info"):
        if not isinstance(feature.get(entry) or {}, dict):
            raise DataError(f"{place}: {entry!r} must be an object, got {feature[entry]!r}. {COPY_AGAIN}")
    if feature["dtype"] == "video" and "/" in key:
        raise DataError(f"{place}: a feature's name is a folder, so it must not contain '/'. {COPY_AGAIN}")


def check_extra(key: str, feature: Mapping[str, Any], path: str) -> None:
    """Raise :class:`DataError` unless a further feature is an array of numbers with a fixed shape."""
    place = f"{path}, features, {key!r}"
    if _kind(feature["dtype"]) not in "biuf":
        raise DataError(
            f"{place}: dtype {feature['dtype']!r} is not numeric, so it cannot be loaded as an extra. "
            f"Leave it out of the extras."
        )
    _shape(feature, place)


def _shape(feature: Mapping[str, Any], place: str) -> tuple[int, ...]:
    shape = feature.get("shape")
    if not isinstance(shape, list) or not all(_is_int(n) and 0 < n < 2**31 for n in shape) or not shape:
        raise DataError(
            f"{place}: 'shape' must be a list of whole numbers from 1 up, got {shape!r}. {COPY_AGAIN}"
        )
    return tuple(shape)


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _check_template(info: Mapping[str, Any], key: str, path: Path) -> None:
    """Raise :class:`DataError` unless a path template has all its fields, no other, and stays below the dataset."""
    template = info[key]
    place = f"{path}, entry {key!r}"
    usual = layout.PATHS[info["codebase_version"]][key == "video_path"]
    fields = _fields(usual)
    way_out = f"With codebase_version {info['codebase_version']!r} the usual value is {usual!r}."
    if not isinstance(template, str):
        raise DataError(f"{place}: must be a text, got {template!r}. {way_out}")
    try:
        found = _fields(template)
        example = template.format(**{name: "key" if name == "video_key" else 0 for name in found & fields})
    except FILLING as error:
        raise DataError(f"{place}: {template!r} cannot be filled in ({error!r}). {way_out}") from error
    if found != fields:
        raise DataError(
            f"{place}: {template!r} must have the fields {sorted(fields)}, has {sorted(found)}. {way_out}"
        )
    parts = PurePosixPath(example)
    if parts.is_absolute() or ".." in parts.parts or "\0" in example:
        raise DataError(f"{place}: {template!r} leads out of the dataset's folder. {way_out}")


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _kind(dtype: str) -> str:
    """Letter of a numpy dtype: ``b``, ``i``, ``u`` or ``f``; ``-`` for every other word, such as ``string``."""
    try:
        kind = np.dtype(dtype).kind
    except TypeError:
        return "-"
    return kind if kind in "biuf" else "-"
