"""A view bound to a robot: the same code shows it to a design in training, evaluation and serving."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.data import Scaling
from wamkit.contract.specs import ActionSpec, Gripper, ObservationSpec, Rotation
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.views.columns import Columns
from wamkit.views.config import ViewConfig
from wamkit.views.extras import SeenExtras
from wamkit.views.pictures import Sizing

EVEN = 0.02  # ticks by which a recorded time may lie beside an even rate: single precision of an hour


def nearest_ticks(ticks: np.ndarray, every: float) -> np.ndarray:
    """Control ticks of the robot that are nearest to ticks of a view which reads one in ``every``."""
    return np.floor(ticks * every + 0.5).astype(np.int64)


class View:
    """What a design sees of a robot, and the actions that the robot gets.

    Args:
        config: the view.
        observation: observation spec of the robot, or of a recording of it.
        action: its action spec.
        state_scaling: scaling of the state that is shown; None for none.
        action_scaling: scaling of the actions that are shown; None for none.

    Attributes:
        config: the view.
        recorded: observation spec and action spec of the robot, with what the view declares.
        scaling: scalings of state and action; None without them.
        cameras: name that the design reads -> recorded camera.
        sizing: name that the design reads -> change of the picture's size.
        extras: further features.
        state: columns of the state.
        action: columns of the action.

    Raises:
        ConfigError: a camera or column does not exist, or actions cannot be relative.
    """

    def __init__(
        self,
        config: ViewConfig,
        observation: ObservationSpec,
        action: ActionSpec,
        state_scaling: Scaling | None = None,
        action_scaling: Scaling | None = None,
    ) -> None:
        self.config = config
        action = config.declare.of(action)
        self.recorded = observation, action
        self.scaling = (
            None if state_scaling is None or action_scaling is None else (state_scaling, action_scaling)
        )
        chosen = config.cameras
        self.cameras = dict(chosen) if chosen is not None else {name: name for name in observation.cameras}
        for name in self.cameras.values():
            if name not in observation.cameras:
                raise ConfigError(
                    f"view.cameras: no recorded camera {name!r}. {did_you_mean(name, observation.cameras)}"
                )
        self.sizing = {name: Sizing.of(config, observation.cameras[c]) for name, c in self.cameras.items()}
        self.extras = SeenExtras(config, self.cameras, self.sizing, observation.cameras)
        self.state = Columns(
            observation.state,
            config.state,
            config.state_rotations,
            config.state_ranges,
            config.state_width,
            "state",
            scaling=state_scaling,
            renamed=config.state_names,
        )
        self.action = Columns(
            action.names,
            config.action,
            config.action_rotations,
            config.action_ranges,
            config.action_width,
            "action",
            self._against(),
            {r.name: self._states(r.against) for r in config.action_rotations if r.against},
            config.relative,
            action_scaling,
            config.action_names,
        )
        if config.relative != "none" and not any(piece.against for piece in self.action.pieces):
            raise ConfigError(
                f"view.relative: {config.relative}, but no action column is relative to a state column: actions are "
                f"{', '.join(action.names)}, states {', '.join(observation.state) or 'none'}. Name pairs in "
                f"`view.relative_columns`."
            )
        if config.relative != "none" and action.mode != "absolute":
            raise ConfigError(
                f"view.relative: the recorded actions are {action.mode} already"
                f"{', as `view.declare.mode` says' if config.declare.mode else ''}. Leave `view.relative` at none."
            )

    @property
    def same(self) -> bool:
        """True where the design sees the data as they are recorded."""
        named = all(name == camera for name, camera in self.cameras.items())
        whole = len(self.cameras) == len(self.recorded[0].cameras)
        still = all(sizing.same for sizing in self.sizing.values())
        return named and whole and still and self.state.same and self.action.same and self.every == 1

    @property
    def every(self) -> float:
        """Recorded ticks per tick that the design sees."""
        rate = self.recorded[1].rate_hz
        return float(self.config.every) if self.config.rate_hz is None else rate / self.config.rate_hz

    @cached_property
    def observation_spec(self) -> ObservationSpec:
        """Spec of the observations that the design sees."""
        spec, _ = self.recorded
        cameras = {
            name: dataclasses.replace(
                spec.cameras[self.cameras[name]], height=size.target[0], width=size.target[1]
            )
            for name, size in self.sizing.items()
        }
        return ObservationSpec(cameras, self.state.names, spec.rate_hz / self.every)

    @cached_property
    def action_spec(self) -> ActionSpec:
        """Spec of the actions that the design sees."""
        _, spec = self.recorded
        if self.action.same and self.every == 1:
            return spec
        low, high = self.action.limits(np.asarray(spec.low), np.asarray(spec.high))
        forms = {r.read for r in self.config.action_rotations}
        # A spec has one word for all rotations, and none for matrices and most orders of angles.
        rotation: Rotation = spec.rotation if not forms else "none"
        if len(forms) == 1:
            (form,) = forms
            rotation = next((word for word in get_args(Rotation) if word == form), "none")
        mode = "relative" if self.config.relative != "none" else spec.mode
        gripper, entry = self._gripper(spec)
        return dataclasses.replace(
            spec,
            gripper=gripper,
            gripper_entry=entry,
            names=self.action.names,
            low=tuple(low.tolist()),
            high=tuple(high.tolist()),
            rate_hz=spec.rate_hz / self.every,
            mode=mode,
            rotation=rotation,
        )

    def _gripper(self, spec: ActionSpec) -> tuple[Gripper, str]:
        """Sign that closes the gripper as the design sees it, and its column: empty for the last one."""
        pieces = (p for p in self.action.pieces if p.source == (spec.gripper_at,) and p.rotation is None)
        piece = next(pieces, None)
        if piece is None:
            return "none", ""
        turned: Mapping[Gripper, Gripper] = {
            "positive_closes": "negative_closes",
            "negative_closes": "positive_closes",
        }
        (name,) = piece.names
        sign = turned[spec.gripper] if piece.scale < 0 else spec.gripper
        return sign, "" if name == self.action.names[-1] else name

    @property
    def relative(self) -> bool:
        """True if actions depend on the state at "now"."""
        return any(piece.against for piece in self.action.pieces)

    def observe(self, observation: Observation) -> Observation:
        """Change an observation of the robot to what the design sees.

        Raises:
            SpecError: a camera is missing, or a picture or the state has another size than the robot's.
            ConfigError: an extra cannot follow its camera.
        """
        spec, _ = self.recorded
        if observation.state.shape[-1] != len(spec.state):
            raise SpecError(
                f"the state has {observation.state.shape[-1]} entries; this policy reads {len(spec.state)}: "
                f"{', '.join(spec.state)}."
            )
        for camera in self.cameras.values():
            size, recorded = tuple(observation.view(camera).shape[-2:]), spec.cameras[camera]
            if size != (recorded.height, recorded.width):
                raise SpecError(
                    f"camera {camera!r}: a picture of {size[0]} x {size[1]} pixels; this policy was trained on "
                    f"{recorded.height} x {recorded.width}. Bring pictures to that size, or show the robot through a "
                    f"view (wamkit.design.robot.seen_through)."
                )
        goal = observation.goal
        past = observation.past_action
        if past is not None:
            past = self.actions(past, observation.state[:, -1], past=past.shape[1])
        state_columns, action_columns = self.columns(observation.batch_size, observation.state.device)
        return dataclasses.replace(
            observation,
            state_columns=state_columns,
            action_columns=action_columns,
            images={name: self.sizing[name].tensor(observation.view(c)) for name, c in self.cameras.items()},
            state=self.states(observation.state),
            past_action=past,
            extras=self.extras.see(observation.extras),
            missing=self._missing(observation.missing),
            goal=None if goal is None else self.observe(goal),
        )

    def _missing(self, missing: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Flags of what a sensor did not deliver, under the names that the design reads."""
        shown: dict[str, Tensor] = {}
        for name, flags in missing.items():
            if name in self.recorded[0].cameras:
                seen = [own for own, camera in self.cameras.items() if camera == name]
            else:
                seen = self.extras.names(name)
            shown.update(dict.fromkeys(seen, flags))
        return shown

    def columns(self, rows: int, device: torch.device | str = "cpu") -> tuple[Tensor | None, Tensor | None]:
        """Columns (``rows``, S) and (``rows``, A) bool that the robot has; None where the view pads none."""
        state, action = (
            (torch.arange(len(own.names), device=device) < own.real).repeat(rows, 1)
            if own.real < len(own.names)
            else None
            for own in (self.state, self.action)
        )
        return state, action

    def states(self, state: Tensor) -> Tensor:
        """Change recorded states (..., S) to what the design sees, (..., S')."""
        if self.state.same:
            return state
        return torch.from_numpy(self.state.see(state.cpu().numpy()).astype(np.float32))

    def actions(self, action: Tensor, state: Tensor, past: int = 0) -> Tensor:
        """Change recorded actions (B, P + H, A) to what the design sees, given the states (B, S) at "now"."""
        if self.action.same:
            return action
        seen = self.action.see(action.cpu().numpy(), state.cpu().numpy(), past)
        return torch.from_numpy(seen.astype(np.float32))

    def commands(self, action: Tensor, state: Tensor) -> Tensor:
        """Change a design's actions (B, H, A') to the robot's, (B, H, A), given the states (B, S) at "now"."""
        if self.action.same:
            return action
        back = self.action.back(action.cpu().numpy(), state.cpu().numpy())
        return torch.from_numpy(back.astype(np.float32))

    def measured(self, action: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Change a design's actions (B, H, A') to the recorded columns that it reads, (B, H, A), in their units.

        Args:
            action: actions that the design gave, the first at "now".
            state: recorded states (B, S) at "now".
        """
        return self.action.back(action, state, partly=True)[..., list(self.action.read)]

    def uneven(self, times: np.ndarray) -> bool:
        """True if ticks were recorded, at ``times`` (T,) in seconds, beside an even rate by more than rounding."""
        period = 1 / self.recorded[0].rate_hz
        beside = np.abs(times - times[0] - np.arange(len(times)) * period)
        return self.config.rate_hz is not None and bool((beside > EVEN * period).any())

    def ticks(self, count: int, times: np.ndarray | None = None) -> np.ndarray:
        """Recorded ticks of an episode of ``count`` that are read, each the nearest one, (T,).

        Args:
            count: number of recorded ticks.
            times: (count,) ascending, when they were recorded, seconds; None for an even rate. With ``rate_hz``, ticks
                are the nearest ones in time, and one that was lost is replaced by the nearest that is there.
        """
        rate = self.config.rate_hz
        if rate is not None and times is not None and self.uneven(times):
            read = int(np.floor((times[-1] - times[0]) * rate + 1e-6)) + 1
            wanted = times[0] + np.arange(read) / rate
            return np.searchsorted((times[1:] + times[:-1]) / 2, wanted, side="right")
        if self.every == 1:
            return np.arange(count)
        read = max(1, int(np.floor((count - 1) / self.every + 1e-9)) + 1)
        return np.minimum(nearest_ticks(np.arange(read), self.every), count - 1)

    def _states(self, names: tuple[str, ...]) -> tuple[int, ...]:
        known = self.recorded[0].state
        for name in names:
            if name not in known:
                raise ConfigError(f"view: no recorded state column {name!r}. {did_you_mean(name, known)}")
        return tuple(known.index(name) for name in names)

    def _against(self) -> Mapping[str, int]:
        """Action column -> place of the state column that it is relative to."""
        config, (observation, action) = self.config, self.recorded
        if config.relative == "none":
            return {}
        turned = {column for rotation in config.action_rotations for column in rotation.columns}
        named = config.relative_columns
        pairs = named or {n: n for n in action.names if n in observation.state and n not in turned}
        for column in pairs:
            if column not in action.names:
                raise ConfigError(
                    f"view.relative_columns: no recorded action column {column!r}. "
                    f"{did_you_mean(column, action.names)}"
                )
            if column in turned:
                raise ConfigError(
                    f"view.relative_columns: {column!r} is an entry of a rotation, which is composed, not "
                    f"subtracted. Name the state's columns in `against` of that rotation."
                )
        return {column: self._states((state,))[0] for column, state in pairs.items()}
