"""Data as parts see it: what a design is built for, and the windows that codecs and teachers are fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec, check_data
from wamkit.contract.types import Batch, WindowSpec
from wamkit.errors import ConfigError, SpecError, did_you_mean


@dataclass(frozen=True)
class Scaling:
    """Affine change of the columns that a view shows: ``(x - shift) / scale``, one number per column.

    Attributes:
        shift: what is subtracted.
        scale: what is divided by; never 0.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.shift) != len(self.scale) or 0.0 in self.scale:
            raise SpecError(
                f"Scaling: {len(self.shift)} shifts and {len(self.scale)} scales must be as many, and no scale is 0"
            )


@dataclass(frozen=True)
class Recorded:
    """Conventions of a robot before a view.

    Attributes:
        observation: spec of its observations.
        action: spec of its actions.
        state_scaling: scaling of the state that its view shows; None for none.
        action_scaling: scaling of the actions that its view shows; None for none.
    """

    observation: ObservationSpec
    action: ActionSpec
    state_scaling: Scaling | None = None
    action_scaling: Scaling | None = None


@dataclass(frozen=True)
class DataSpec:
    """Data that a design is built for, as its view shows them.

    Attributes:
        observation: spec of the observations: cameras, state and rate.
        action: spec of the embodiment's actions.
        stats: feature key -> statistic name (mean, std, min, max, q01, ...) -> values.
        extras: name -> shape per step of further features of the dataset (depth, poses, contacts).
        robots: name -> conventions of the robot before its view; empty for one robot whose view changes nothing.
    """

    observation: ObservationSpec
    action: ActionSpec
    stats: Mapping[str, Mapping[str, np.ndarray]]
    extras: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    robots: Mapping[str, Recorded] = field(default_factory=dict)

    @property
    def recorded(self) -> tuple[Recorded, ...]:
        """Conventions of all robots."""
        return tuple(self.robots.values()) or (Recorded(self.observation, self.action),)

    def __post_init__(self) -> None:
        check_data(self.observation, self.action, self.extras)

    def camera(self, name: str, reader: str) -> CameraSpec:
        """Spec of a camera; raises :class:`ConfigError` when the dataset does not have it."""
        if name not in self.observation.cameras:
            raise ConfigError(f"{reader}: no camera {name!r}. {did_you_mean(name, self.observation.cameras)}")
        return self.observation.cameras[name]

    def extra(self, name: str, reader: str) -> tuple[int, ...]:
        """Shape of an extra; raises :class:`ConfigError` when the dataset does not have it."""
        if name not in self.extras:
            raise ConfigError(
                f"{reader} needs the extra {name!r}, which the dataset does not have. "
                f"{did_you_mean(name, self.extras)} Collect with `record` to store ground truth."
            )
        return self.extras[name]


class Windows(Protocol):
    """Dataset as parts see it while they fit a codec or a teacher."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        """Cut windows at the global frame ids ``index``."""
