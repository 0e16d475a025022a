"""Layouts of LeRobotDataset on disk: paths, features, and the place of the specs.

Reference: the reader and writer of ``lerobot==0.4.4`` (``lerobot/datasets``), codebase version v3.0, and of
``lerobot==0.3.3`` for v2.1; v2.0 is v2.1 with one file of statistics for all episodes. What is written is v3.0 unless
a conversion asks for v2.1. The full
:class:`ObservationSpec` and :class:`ActionSpec` are stored under the key ``wamkit`` of ``meta/info.json``, which
LeRobot ignores.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from wamkit.contract.specs import UNKNOWN_FRAME, ActionSpec, CameraSpec, ObservationSpec
from wamkit.data.channels import other_pictures
from wamkit.data.episode import ExtraSpecs
from wamkit.errors import DataError, SpecError

VERSION = "v3.0"
OLD_VERSION = "v2.1"
INFO = "meta/info.json"
INPUTS = "meta/info.inputs.json"  # what a recording was made of; only the verb that records reads it
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

OLD_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
OLD_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
OLD_EPISODES = "meta/episodes.jsonl"
OLD_EPISODE_STATS = "meta/episodes_stats.jsonl"
OLD_TASKS = "meta/tasks.jsonl"
# Version -> usual paths of data and videos, whose fields every path of that version has.
PATHS = {"v3.0": (DATA, VIDEO), "v2.1": (OLD_DATA, OLD_VIDEO), "v2.0": (OLD_DATA, OLD_VIDEO)}

STATE_KEY = "observation.state"
ACTION_KEY = "action"
VECTORS = (ACTION_KEY, STATE_KEY)
IMAGE_PREFIX = "observation.images."
# Not below "observation.": LeRobot turns every such key into a policy input.
EXTRA_PREFIX = "extra."
SUCCESS_KEY = "next.success"
# Whether a frame was recorded with its action. LeRobot v3.0 has no word for it. The name must not begin with "action",
# or LeRobot takes it for an action.
ACTED_KEY = "has_action"
SPEC_KEY = "wamkit"
CAMERA_NAME = (
    "wamkit.camera"  # entry of a camera's feature in memory, never on disk: its name by modality.json
)

WORDS = {field: get_args(get_type_hints(ActionSpec)[field]) for field in ("mode", "rotation", "gripper")}

INDEX_FEATURES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def features(
    observation: ObservationSpec,
    action: ActionSpec,
    extras: ExtraSpecs,
    video: Mapping[str, Any],
    actionless: bool = False,
) -> dict[str, dict[str, Any]]:
    """Build the ``features`` entry of ``info.json`` for a dataset written by wamkit.

    Args:
        observation: cameras and state.
        action: action entries.
        extras: extra name -> (shape of one frame, dtype).
        video: properties of the encoded stream that LeRobot stores under ``info`` (codec, pixel format, rate).
        actionless: true when episodes without actions are declared.
    """
    out: dict[str, dict[str, Any]] = {}
    for name, camera in observation.cameras.items():
        size = {"video.height": camera.height, "video.width": camera.width}
        out[IMAGE_PREFIX + name] = {
            "dtype": "video",
            "shape": [camera.height, camera.width, camera.channels],
            "names": ["height", "width", "channels"],
            "info": {**size, **video},
        }
    if (
        observation.state
    ):  # without proprioception there is no such feature: a vector of no entries cannot be stored
        out[STATE_KEY] = _vector(list(observation.state))
    out[ACTION_KEY] = _vector(list(action.names))
    out[SUCCESS_KEY] = {"dtype": "bool", "shape": [1], "names": None}
    if actionless:
        out[ACTED_KEY] = {"dtype": "bool", "shape": [1], "names": None}
    for name, (shape, dtype) in extras.items():
        out[EXTRA_PREFIX + name] = {"dtype": dtype, "shape": list(shape) or [1], "names": None}
    for name, dtype in INDEX_FEATURES.items():
        out[name] = {"dtype": dtype, "shape": [1], "names": None}
    return out


def _vector(names: list[str]) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [len(names)], "names": names}


def specs_to_json(observation: ObservationSpec, action: ActionSpec, extras: ExtraSpecs) -> dict[str, Any]:
    """Build the ``wamkit`` entry of ``info.json``."""
    block = {
        "observation_spec": dataclasses.asdict(observation),
        "action_spec": dataclasses.asdict(action),
        "extras": {name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in extras.items()},
    }
    return {**block, "digest": spec_digest(block)}


def spec_digest(block: Mapping[str, Any]) -> str:
    """Hash of the specs in a ``wamkit`` entry, which no other file repeats: action limits, frame, rotation."""
    specs = {key: block.get(key) for key in ("observation_spec", "action_spec", "extras")}
    text = json.dumps(specs, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def specs_from_json(block: Any, place: str) -> tuple[ObservationSpec, ActionSpec]:
    """Read the entry that :func:`specs_to_json` wrote.

    Raises:
        DataError: an entry is missing, unknown or of a wrong type, the specs contradict themselves, or they were
            changed since they were written.
    """
    try:
        observation, action = dict(block["observation_spec"]), dict(block["action_spec"])
        observation["cameras"] = {
            name: CameraSpec(**fields) for name, fields in observation["cameras"].items()
        }
        observation["state"] = _texts(observation["state"])
        action["names"] = _texts(action["names"])
        for name in ("low", "high"):
            action[name] = tuple(action[name])
        specs = ObservationSpec(**observation), ActionSpec(**action)
        _require_numbers(*specs)
    except (KeyError, TypeError, ValueError, AttributeError, SpecError) as error:
        raise DataError(
            f"{place}, key {SPEC_KEY!r}: not a spec that this version of wamkit can read ({error}). "
            f"Remove the key to have the specs inferred from the features."
        ) from error
    digest = block.get("digest")
    if digest is not None and digest != spec_digest(block):
        raise DataError(
            f"{place}, key {SPEC_KEY!r}: the specs were changed since they were recorded (they do not fit their "
            f"'digest'). Copy the dataset again, or, if you changed them on purpose, remove the entry 'digest'."
        )
    return specs


def _texts(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"expected a list of names, got {names!r}")
    return tuple(names)


def _require_numbers(observation: ObservationSpec, action: ActionSpec) -> None:
    """Raise :class:`TypeError` unless limits and rates are finite numbers and words are words."""
    for name, value in (("observation rate", observation.rate_hz), ("action rate", action.rate_hz)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise TypeError(f"{name} {value!r}")
    for low, high in zip(action.low, action.high, strict=True):
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high))
        if not numbers or not -math.inf < low <= high < math.inf:
            raise TypeError(f"limits {low!r} to {high!r}")
    for field, known in WORDS.items():
        if getattr(action, field) not in known:
            raise TypeError(f"{field} {getattr(action, field)!r}, known: {', '.join(known)}")
    if not isinstance(action.frame, str):
        raise TypeError(f"frame {action.frame!r}")


def camera_keys(all_features: Mapping[str, Mapping[str, Any]], place: str = INFO) -> dict[str, str]:
    """Map camera names to the keys of features of dtype ``video`` or ``image``.

    A name is the key's last part, or what :mod:`wamkit.data.modality` read.

    Raises:
        DataError: two keys give one name; ``place`` says where they stand.
    """
    keys: dict[str, str] = {}
    others = other_pictures(all_features)
    for key, feature in all_features.items():
        if feature["dtype"] in ("video", "image") and key not in others:
            usual = key.removeprefix(IMAGE_PREFIX) if key.startswith(IMAGE_PREFIX) else key.split(".")[-1]
            name = feature.get(CAMERA_NAME, usual)
            if name in keys:
                raise DataError(
                    f"{place}: {keys[name]!r} and {key!r} are both cameras of the name {name!r}. Remove one of them "
                    f"from 'features' to leave that camera out."
                )
            keys[name] = key
    return keys


def channels_first(feature: Mapping[str, Any]) -> bool:
    """Whether an image feature's shape begins with its channels: by its names, or else by its first number."""
    shape, names = feature["shape"], feature.get("names")
    axes = [str(n).lower().rstrip("s") for n in names] if isinstance(names, list) and len(names) == 3 else []
    known = ("channel", "rgb", "c")
    if any(axis in known for axis in axes):
        return axes[0] in known
    return shape[0] in (1, 3)


def camera_size(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Return rows and columns of an image feature, for channels first or last."""
    shape = feature["shape"]
    rows, columns = shape[1:] if channels_first(feature) else shape[:2]
    return int(rows), int(columns)


def listed_names(feature: Mapping[str, Any]) -> list[Any]:
    """The entries of ``names`` in one list; empty for null.

    They are written as ``["x", "y"]``, ``{"motors": ["x", "y"]}``, ``[["x", "y"]]``, or ``{"x": 0, "y": 1}``.
    """
    names = feature.get("names")
    if isinstance(names, dict):
        places = [place for place in names.values() if type(place) is int]
        if len(places) == len(names) and sorted(places) == list(range(len(names))):
            return sorted(names, key=names.__getitem__)
    groups = list(names.values()) if isinstance(names, dict) else [names]
    while any(isinstance(group, list) for group in groups):
        groups = [name for group in groups for name in (group if isinstance(group, list) else [group])]
    return [] if names is None else groups


def entry_names(feature: Mapping[str, Any], stem: str) -> tuple[str, ...]:
    """Return the names of a vector feature's entries; ``<stem>_<i>`` where the dataset does not name them all."""
    width = int(feature["shape"][0])
    names = listed_names(feature)
    return tuple(str(n) for n in names) if len(names) == width else tuple(f"{stem}_{i}" for i in range(width))


def infer_specs(
    all_features: Mapping[str, Mapping[str, Any]], fps: float, low: list[float], high: list[float]
) -> tuple[ObservationSpec, ActionSpec]:
    """Infer the specs of a dataset that stores none, from its features and fixed defaults.

    Names, sizes and rate are read from the features; limits are the smallest and largest recorded action. What v3.0
    does not record is set to ``mode="absolute"``, ``frame="unknown"``, ``rotation="none"``, ``gripper="none"``, so
    that a comparison with an environment's spec fails visibly instead of passing by chance.
    """
    cameras = {
        name: CameraSpec(*camera_size(all_features[key])) for name, key in camera_keys(all_features).items()
    }
    state = entry_names(all_features[STATE_KEY], "state") if STATE_KEY in all_features else ()
    action = ActionSpec(
        names=entry_names(all_features[ACTION_KEY], "action"),
        low=tuple(low),
        high=tuple(high),
        rate_hz=fps,
        mode="absolute",
        frame=UNKNOWN_FRAME,
    )
    return ObservationSpec(cameras=cameras, state=state, rate_hz=fps), action
