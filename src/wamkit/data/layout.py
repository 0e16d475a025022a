"""Layout of LeRobotDataset v3.0 on disk: paths, features, and the place of the specs.

Reference: the reader and writer of ``lerobot==0.4.4`` (``lerobot/datasets``), codebase version v3.0. The full
:class:`ObservationSpec` and :class:`ActionSpec` are stored under the key ``wamkit`` of ``meta/info.json``, which
LeRobot ignores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.data.channels import other_pictures
from wamkit.data.episode import ExtraSpecs
from wamkit.errors import DataError

VERSION = "v3.0"
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

STATE_KEY = "observation.state"
ACTION_KEY = "action"
IMAGE_PREFIX = "observation.images."
# Not below "observation.": LeRobot turns every such key into a policy input.
EXTRA_PREFIX = "extra."
SUCCESS_KEY = "next.success"
SPEC_KEY = "wamkit"

INDEX_FEATURES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def features(
    observation: ObservationSpec, action: ActionSpec, extras: ExtraSpecs, video: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Build the ``features`` entry of ``info.json`` for a dataset written by wamkit.

    Args:
        observation: cameras and state.
        action: action entries.
        extras: extra name -> (shape of one frame, dtype).
        video: properties of the encoded stream that LeRobot stores under ``info`` (codec, pixel format, rate).
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
    for name, (shape, dtype) in extras.items():
        out[EXTRA_PREFIX + name] = {"dtype": dtype, "shape": list(shape) or [1], "names": None}
    for name, dtype in INDEX_FEATURES.items():
        out[name] = {"dtype": dtype, "shape": [1], "names": None}
    return out


def _vector(names: list[str]) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [len(names)], "names": names}


def specs_to_json(observation: ObservationSpec, action: ActionSpec, extras: ExtraSpecs) -> dict[str, Any]:
    """Build the ``wamkit`` entry of ``info.json``."""
    return {
        "observation_spec": dataclasses.asdict(observation),
        "action_spec": dataclasses.asdict(action),
        "extras": {name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in extras.items()},
    }


def specs_from_json(block: Mapping[str, Any], place: str) -> tuple[ObservationSpec, ActionSpec]:
    """Read the entry that :func:`specs_to_json` wrote.

    Raises:
        DataError: an entry is missing or unknown.
    """
    try:
        observation, action = dict(block["observation_spec"]), dict(block["action_spec"])
        observation["cameras"] = {
            name: CameraSpec(**fields) for name, fields in observation["cameras"].items()
        }
        observation["state"] = tuple(observation["state"])
        for name in ("names", "low", "high"):
            action[name] = tuple(action[name])
        return ObservationSpec(**observation), ActionSpec(**action)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{place}, key {SPEC_KEY!r}: not a spec that this version of wamkit can read ({error}). "
            f"Remove the key to have the specs inferred from the features."
        ) from error


def camera_keys(all_features: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Map camera names to the keys of features of dtype ``video`` or ``image``; a name is the key's last part."""
    keys = {}
    others = other_pictures(all_features)
    for key, feature in all_features.items():
        if feature["dtype"] in ("video", "image") and key not in others:
            name = key.removeprefix(IMAGE_PREFIX) if key.startswith(IMAGE_PREFIX) else key.split(".")[-1]
            keys[name] = key
    return keys


def camera_size(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Return rows and columns of an image feature, for channels first or last."""
    shape, names = feature["shape"], feature.get("names")
    axes = [str(n).rstrip("s") for n in names] if isinstance(names, list) else []
    if axes[0] == "channel" if axes else shape[0] in (1, 3):
        return int(shape[1]), int(shape[2])
    return int(shape[0]), int(shape[1])


def entry_names(feature: Mapping[str, Any], stem: str) -> tuple[str, ...]:
    """Return the names of a vector feature's entries; ``<stem>_<i>`` where the dataset does not name them all."""
    width = int(feature["shape"][0]) if len(feature["shape"]) == 1 else 0
    names = feature.get("names")
    if isinstance(names, dict):  # {"motors": [...]}, as in some converted datasets
        names = [n for group in names.values() for n in (group if isinstance(group, list) else [group])]
    if isinstance(names, list) and len(names) == width:
        return tuple(str(n) for n in names)
    return tuple(f"{stem}_{i}" for i in range(width))


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
        frame="unknown",
    )
    return ObservationSpec(cameras=cameras, state=state, rate_hz=fps), action
