"""Recorded episode in memory, and the check that it fits the specs of its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.data.video import frame_rate
from wamkit.errors import DataError, SpecError

NAME_BYTES = 150
EXTRA_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
)  # fmt: skip

ExtraSpecs = Mapping[str, tuple[tuple[int, ...], str]]
"""Extra name -> (shape of one frame's value, numpy dtype)."""


@dataclass(frozen=True)
class Episode:
    """One recorded episode of T frames.

    Attributes:
        images: camera -> (T, H, W, 3), uint8.
        state: states (T, S), float32, in the units of the observation spec.
        action: actions (T, A), float32; ``action[t]`` is applied at frame t. None for a clip that was recorded without
            actions, in a dataset that is declared to hold such.
        task: instruction in plain language.
        success: true if the episode reached its goal.
        extras: name -> (T, ...), numeric ground truth (depth, poses, contacts).
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray | None
    task: str
    success: bool = True
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.state if self.action is None else self.action)


def check_episode(
    episode: Episode,
    observation: ObservationSpec,
    action: ActionSpec,
    extras: ExtraSpecs,
    place: str,
    actionless: bool = False,
) -> None:
    """Raise :class:`DataError` when ``episode`` cannot be stored under these specs.

    Args:
        episode: the episode.
        observation: observation spec of the dataset.
        action: action spec of the dataset.
        extras: declared extras of the dataset.
        place: name of the episode in messages, e.g. ``data/demo, episode 3``.
        actionless: true when the dataset is declared to hold episodes without actions.
    """
    if episode.action is None and not actionless:
        raise DataError(
            f"{place}: it has no actions, but the dataset is not declared to hold such episodes. Record it with "
            f"`DatasetWriter(..., actionless=True)`, or leave it out."
        )
    for field_name, values in (
        ("observation.state", episode.state),
        *((("action", episode.action),) if episode.action is not None else ()),
        *((f"observation.images.{name}", images) for name, images in episode.images.items()),
        *((f"extra.{name}", extra) for name, extra in episode.extras.items()),
    ):
        if not isinstance(values, np.ndarray) or not values.ndim:
            raise DataError(
                f"{place}, field {field_name!r}: expected a numpy array with one row per frame, "
                f"got {type(values).__name__}"
            )
    frames = len(episode)
    if frames == 0:
        raise DataError(f"{place}: the episode has no frames; leave it out")
    if not isinstance(episode.task, str) or not episode.task.strip() or not _is_text(episode.task):
        raise DataError(
            f"{place}: the task is {episode.task!r}, an empty string or no text; give the instruction in plain language"
        )
    if not isinstance(episode.success, bool | np.bool_):
        raise DataError(f"{place}: success is {episode.success!r}, but must be true or false")
    _check_array(episode.state, (frames, len(observation.state)), "float32", "observation.state", place)
    if episode.action is not None:
        _check_array(episode.action, (frames, action.width), "float32", "action", place)
    require_finite(episode.state, observation.state, "observation.state", place)
    if episode.action is not None:
        require_finite(episode.action, action.names, "action", place)
        _check_limits(episode.action, action, place)
    _check_keys(set(episode.images), set(observation.cameras), "camera", place)
    for name, camera in observation.cameras.items():
        shape = (frames, camera.height, camera.width, camera.channels)
        _check_array(episode.images[name], shape, "uint8", f"observation.images.{name}", place)
    _check_keys(set(episode.extras), set(extras), "extra", place)
    for name, (frame_shape, dtype) in extras.items():
        _check_array(episode.extras[name], (frames, *frame_shape), dtype, f"extra.{name}", place)


def check_specs(
    observation: ObservationSpec, action: ActionSpec, extras: ExtraSpecs, pixel_format: str
) -> None:
    """Raise :class:`SpecError` when episodes of these specs cannot be stored, as videos of ``pixel_format``."""
    if observation.rate_hz != action.rate_hz:
        raise SpecError(
            f"a dataset has one rate, but the observation spec says {observation.rate_hz:g} Hz and "
            f"the action spec {action.rate_hz:g} Hz"
        )
    rate = action.rate_hz
    if not 0 < rate < 1e6 or abs(float(frame_rate(rate)) - rate) > 1e-6 * rate:
        raise SpecError(
            f"{rate:g} Hz cannot be the rate of a video, which is a fraction of at most 1001 parts; "
            f"use one such as {float(frame_rate(rate)) if 0 < rate < 1e6 else 30.0:g} Hz"
        )
    if not action.names:
        raise SpecError("the action spec has no entries, so there is nothing to record; name at least one")
    for name, camera in observation.cameras.items():
        size = f"camera {name!r} is {camera.height}x{camera.width}x{camera.channels}"
        if camera.channels != 3:
            raise SpecError(f"{size}: only RGB cameras can be stored as video; store others as extras")
        if pixel_format == "yuv420p" and (camera.height % 2 or camera.width % 2):
            raise SpecError(f"{size}: yuv420p needs even rows and columns. Use yuv444p or another size.")
    for name in (*observation.cameras, *extras):
        # LeRobot rejects "/" in a key and treats every key with "image" in it as an image.
        if "/" in name or (name in extras and "image" in name) or not _is_name(name):
            raise SpecError(
                f"the name {name!r} cannot be a dataset key: names must not contain '/', control characters, nor "
                f"'image' in an extra, and have 1 to {NAME_BYTES} bytes; rename it"
            )
    for name in (*observation.state, *action.names):
        if not _is_text(name):
            raise SpecError(f"the entry name {name!r} is no text that can be stored; rename it")
    for name, (shape, dtype) in extras.items():
        if dtype not in EXTRA_DTYPES or any(axis < 1 for axis in shape):
            raise SpecError(
                f"the extra {name!r} has dtype {dtype} and shape {shape}; stored are {', '.join(EXTRA_DTYPES)}, with "
                f"axes of at least 1"
            )


def _is_name(name: str) -> bool:
    """Whether a name can be a part of a file's path and a key."""
    return _is_text(name) and name.isprintable() and 0 < len(name.encode()) <= NAME_BYTES


def _is_text(text: str) -> bool:
    """Whether a text can be written as UTF-8; a lone half of a surrogate pair cannot."""
    return text.encode("utf-8", "replace").decode() == text


def require_finite(values: np.ndarray, names: tuple[str, ...], field_name: str, place: str) -> None:
    """Raise :class:`DataError` naming frame and entry of the first NaN or infinity in ``values`` (T, D)."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise DataError(not_finite(values, bad, names, field_name, place))


def not_finite(
    values: np.ndarray, bad: np.ndarray, names: tuple[str, ...], field_name: str, place: str
) -> str:
    """Message about the values (T, D) at ``bad`` (K, 2), which are not finite."""
    frame, entry = (int(i) for i in bad[0])
    return (
        f"{place}, field {field_name!r}: frame {frame}, entry {names[entry]!r} is {values[frame, entry]} "
        f"({len(bad)} such values in this episode). Record the episode again or leave it out."
    )


def _check_array(values: np.ndarray, shape: tuple[int, ...], dtype: str, field_name: str, place: str) -> None:
    if values.shape != shape or values.dtype != np.dtype(dtype):
        raise DataError(
            f"{place}, field {field_name!r}: got shape {values.shape} of {values.dtype}, but "
            f"the dataset stores {shape} of {dtype}"
        )


def _check_keys(names: set[str], expected: set[str], kind: str, place: str) -> None:
    if names != expected:
        raise DataError(
            f"{place}: {kind} names differ from the dataset's: "
            f"missing {sorted(expected - names) or 'none'}, unknown {sorted(names - expected) or 'none'}"
        )


def _check_limits(values: np.ndarray, action: ActionSpec, place: str) -> None:
    low, high = np.array(action.low), np.array(action.high)
    slack = 1e-5 * (1.0 + np.abs(values))  # float32 rounding of a limit such as 0.1
    bad = np.argwhere((values < low - slack) | (values > high + slack))
    if len(bad):
        frame, entry = (int(i) for i in bad[0])
        raise DataError(
            f"{place}, field 'action': frame {frame}, entry {action.names[entry]!r} is "
            f"{values[frame, entry]:g}, outside the limits [{low[entry]:g}, {high[entry]:g}] of the action "
            f"spec. Clip actions before applying and recording them, or widen the spec."
        )


def frame_columns(
    episode: Episode, index: int, start: int, task: int, action: ActionSpec, actionless: bool = False
) -> dict[str, np.ndarray]:
    """Columns of an episode's frames in a table, name -> (T,) or (T, ...).

    Args:
        episode: the episode.
        index: its number in the dataset.
        start: global index of its first frame.
        task: index of its instruction.
        action: spec of the action.
        actionless: true when the dataset says of every frame whether it has an action.
    """
    frames = len(episode)
    ticks = np.arange(frames, dtype=np.int64)
    success = np.zeros(frames, dtype=bool)
    success[-1] = episode.success
    # A column has no gaps, so an episode without actions has zeros.
    acts = np.zeros((frames, action.width), np.float32) if episode.action is None else episode.action
    columns = {"action": acts, "next.success": success}
    if actionless:
        columns["has_action"] = np.full(frames, episode.action is not None)
    if episode.state.shape[1]:
        columns = {"observation.state": episode.state, **columns}
    columns |= {f"extra.{name}": values for name, values in episode.extras.items()}
    # A shape of (1,) is stored as a plain column, as LeRobot does.
    columns = {k: v[:, 0] if v.shape[1:] == (1,) else v for k, v in columns.items()}
    columns["timestamp"] = (ticks / float(frame_rate(action.rate_hz))).astype(np.float32)
    columns["frame_index"] = ticks
    columns["episode_index"] = np.full(frames, index, dtype=np.int64)
    columns["index"] = ticks + start
    columns["task_index"] = np.full(frames, task, dtype=np.int64)
    return columns
