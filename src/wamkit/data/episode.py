"""Recorded episode in memory, and the check that it fits the specs of its dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.errors import DataError

ExtraSpecs = Mapping[str, tuple[tuple[int, ...], str]]
"""Extra name -> (shape of one frame's value, numpy dtype)."""


@dataclass(frozen=True)
class Episode:
    """One recorded episode of T frames.

    Attributes:
        images: camera -> (T, H, W, 3), uint8.
        state: states (T, S), float32, in the units of the observation spec.
        action: actions (T, A), float32; ``action[t]`` is applied at frame t.
        task: instruction in plain language.
        success: true if the episode reached its goal.
        extras: name -> (T, ...), numeric ground truth (depth, poses, contacts).
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray
    task: str
    success: bool = True
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.action)


def check_episode(
    episode: Episode, observation: ObservationSpec, action: ActionSpec, extras: ExtraSpecs, place: str
) -> None:
    """Raise :class:`DataError` when ``episode`` cannot be stored under these specs.

    Args:
        episode: the episode.
        observation: observation spec of the dataset.
        action: action spec of the dataset.
        extras: declared extras of the dataset.
        place: name of the episode in messages, e.g. ``data/demo, episode 3``.
    """
    frames = len(episode)
    if frames == 0:
        raise DataError(f"{place}: the episode has no frames; leave it out")
    if not episode.task:
        raise DataError(f"{place}: the task is an empty string; give the instruction in plain language")
    _check_array(episode.state, (frames, len(observation.state)), "float32", "observation.state", place)
    _check_array(episode.action, (frames, action.width), "float32", "action", place)
    require_finite(episode.state, observation.state, "observation.state", place)
    require_finite(episode.action, action.names, "action", place)
    _check_limits(episode.action, action, place)
    _check_keys(set(episode.images), set(observation.cameras), "camera", place)
    for name, camera in observation.cameras.items():
        shape = (frames, camera.height, camera.width, camera.channels)
        _check_array(episode.images[name], shape, "uint8", f"observation.images.{name}", place)
    _check_keys(set(episode.extras), set(extras), "extra", place)
    for name, (frame_shape, dtype) in extras.items():
        _check_array(episode.extras[name], (frames, *frame_shape), dtype, f"extra.{name}", place)


def require_finite(values: np.ndarray, names: tuple[str, ...], field_name: str, place: str) -> None:
    """Raise :class:`DataError` naming frame and entry of the first NaN or infinity in ``values`` (T, D)."""
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        frame, entry = (int(i) for i in bad[0])
        raise DataError(
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
