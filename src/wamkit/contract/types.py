"""Values that travel between parts: small, frozen, with shapes.

Letters: B batch, T observed steps, F future steps, H action horizon, A action width, S state width,
N tokens, D features, C channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from wamkit.config.ranges import Count, Room, Size, Whole
from wamkit.config.values import Config, FieldError
from wamkit.contract.values import whole
from wamkit.errors import BudgetError, SpecError, did_you_mean

T = TypeVar("T")

Aim = Literal["end", "next"]
GREY = 128  # what stands in place of a picture that is missing

# Values that one part carries from call to call: tensors with leading dimension B, nested in mappings, tuples and
# dataclasses. Only the part itself looks inside.
Carry: TypeAlias = Any

# Values that a whole design carries: estimator name (or :data:`wamkit.design.sampling.PLANNER_CARRY`) -> its carry.
Carries: TypeAlias = Mapping[str, Carry]


@dataclass(frozen=True)
class Observation:
    """Window of a robot's observations.

    Attributes:
        images: camera -> (B, T, 3, height, width) uint8.
        state: (B, T, S) float32, in the units of the observation spec.
        task: B instructions in plain language.
        pad: (B, T) bool, True where a step lies outside the episode (its content repeats the nearest step).
        extras: name -> (B, T, ...), further features per step, such as ground truth (depth, poses, contacts).
        past_action: (B, P, A) float32, actions of the current block, P ticks from one multiple of P to the next; None
            when they were not requested. "Now" lies at its end, except in a call between two multiples.
        past_action_pad: (B, P) bool, True where no action was executed: at the start of the episode, or because the
            block is not over yet.
        missing: modality (an extra or a camera) -> (B, T) bool, True where its sensor delivered nothing; the buffer's
            content is then undefined.
        goal: observation to be reached, T = 1; None without a goal.
        state_columns: (B, S) bool, False for columns of the state that the robot does not have (padding of its view);
            None where it has all.
        action_columns: (B, A) bool, the same of the action.
    """

    images: Mapping[str, Tensor]
    state: Tensor
    task: tuple[str, ...]
    pad: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    past_action: Tensor | None = None
    past_action_pad: Tensor | None = None
    missing: Mapping[str, Tensor] = field(default_factory=dict)
    goal: Observation | None = None
    state_columns: Tensor | None = None
    action_columns: Tensor | None = None

    @classmethod
    def of_robot(cls, images: Mapping[str, np.ndarray], state: np.ndarray, task: str) -> Observation:
        """Observation of one robot, B = 1, as a driver delivers it.

        Args:
            images: camera -> (height, width, 3) uint8, or (T, height, width, 3) for the T steps that a design observes.
            state: (S,) or (T, S).
            task: instruction.

        Raises:
            SpecError: a picture is not uint8, or has other axes.
        """
        steps = torch.from_numpy(np.atleast_2d(np.asarray(state, np.float32)).copy())
        pictures = {}
        for camera, image in images.items():
            if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3:
                raise SpecError(
                    f"camera {camera!r}: its picture is {image.dtype} of the shape {image.shape}; give uint8 of the "
                    f"shape (height, width, 3), red first."
                )
            stacked = image.reshape(-1, *image.shape[-3:]).transpose(0, 3, 1, 2)
            pictures[camera] = torch.from_numpy(np.ascontiguousarray(stacked))[None]
        return cls(pictures, steps[None], (task,), torch.zeros(1, len(steps), dtype=torch.bool))

    @property
    def batch_size(self) -> int:
        """Number of windows B."""
        return self.state.shape[0]

    def view(self, camera: str) -> Tensor:
        """Frames of a camera, (B, T, 3, height, width) uint8; raises :class:`SpecError` when there are none."""
        if camera not in self.images:
            raise SpecError(f"no image of camera {camera!r}. {did_you_mean(camera, self.images)}")
        return self.images[camera]

    def shown(self, camera: str) -> tuple[Tensor, Tensor]:
        """Frames of a camera as an encoder may read them, grey where it delivered nothing, and these steps (B, T) bool.

        Raises :class:`SpecError` when there are no frames of it.
        """
        images = self.view(camera)
        missing = self.missing.get(camera)
        if missing is None:
            return images, torch.zeros_like(self.pad)
        return images.masked_fill(missing[..., None, None, None], GREY), missing

    def steps(self, index: slice | list[int]) -> Observation:
        """Cut the windows to the time steps in ``index``."""
        return Observation(
            images={k: v[:, index] for k, v in self.images.items()},
            state=self.state[:, index],
            task=self.task,
            pad=self.pad[:, index],
            extras={k: v[:, index] for k, v in self.extras.items()},
            past_action=self.past_action,
            past_action_pad=self.past_action_pad,
            missing={k: v[:, index] for k, v in self.missing.items()},
            goal=self.goal,
            state_columns=self.state_columns,
            action_columns=self.action_columns,
        )


@dataclass(frozen=True)
class Batch:
    """Windows of demonstrations for training.

    Attributes:
        observation: observed window of T steps; the last one is "now".
        action: (B, P + H, A) float32 in raw units: P executed actions before "now", then the H that follow.
        action_pad: (B, P + H) bool, True where the action lies outside the episode.
        past: P, number of executed actions before "now".
        future: observed future of F steps; None when no part reads one.
        goal: observation to be reached, 1 step: the last one of the episode or that of its next milestone; None when
            no part reads one.
        milestones: next milestones of the episode (:mod:`wamkit.data.milestones`), of which the last one is repeated
            once there are no more; None when no part reads them.
        index: (B,) int64, dataset frame that each window was cut at.
    """

    observation: Observation
    action: Tensor
    action_pad: Tensor
    past: int = 0
    future: Observation | None = None
    goal: Observation | None = None
    index: Tensor | None = None
    milestones: Observation | None = None

    def acting(self, window: WindowSpec) -> Observation:
        """Observation that a design would receive at these windows when acting: with the actions executed before "now".

        Args:
            window: what the design reads when acting (``design.window``). The batch may be cut with it or with
                ``design.training_window``, which sees at least as much.
        """
        seen = replace(self.observation.steps(slice(-len(window.observation), None)), goal=self.goal)
        if not window.past_actions:
            return seen
        past = slice(self.past - window.past_actions, self.past)
        return replace(seen, past_action=self.action[:, past], past_action_pad=self.action_pad[:, past])


@dataclass(frozen=True)
class WindowSpec:
    """Steps that a design reads around "now", in control ticks.

    Attributes:
        observation: offsets of the observed steps, ascending, the last one 0, e.g. ``(-8, 0)``.
        past_actions: P, number of executed actions before "now". When acting, a policy with P above 0 takes in the
            episode in blocks of P ticks, counted from its start.
        horizon: H, number of actions from "now" on.
        future: offsets of the future observations, ascending, all positive, e.g. ``(8, 16)``.
        goal: true when a goal observation is read.
        milestones: number of the episode's next milestones that are read.
        aim: goal observation: ``end`` for the end of the episode, ``next`` for its first milestone after "now"
            (:mod:`wamkit.data.milestones`). The last milestone is the end.
        every: control ticks of the robot per tick of the window, of a view that reads fewer; all counts above are in
            ticks of the window.
    """

    observation: tuple[int, ...] = (0,)
    past_actions: int = 0
    horizon: int = 16
    future: tuple[int, ...] = ()
    goal: bool = False
    milestones: int = 0
    aim: Aim = "end"
    every: float = 1.0

    def __post_init__(self) -> None:
        for name in ("observation", "future"):
            offsets = getattr(self, name)
            if not isinstance(offsets, tuple):
                raise SpecError(f"WindowSpec: {name} {offsets!r} must be a tuple of ticks, such as {(-8, 0)}")
            for offset in offsets:
                whole(offset, f"WindowSpec: {name}: offset")
            if list(offsets) != sorted(set(offsets)):
                raise SpecError(f"WindowSpec: {name} {offsets} must ascend; sort it, each offset once")
        if not self.observation or self.observation[-1] != 0:
            raise SpecError(
                f"WindowSpec: observation {self.observation} must end with 0, the moment of prediction"
            )
        if self.future and self.future[0] < 1:
            raise SpecError(
                f"WindowSpec: future {self.future} must lie after now; its first offset is at least 1"
            )
        for name, least in (("past_actions", 0), ("horizon", 1), ("milestones", 0)):
            whole(getattr(self, name), f"WindowSpec: {name}", least)
        if self.aim not in get_args(Aim):
            raise SpecError(
                f"WindowSpec: unknown aim {self.aim!r}. {did_you_mean(str(self.aim), get_args(Aim))}"
            )


class BudgetFieldError(FieldError, BudgetError):
    """A limit that no call can have."""


@dataclass(frozen=True)
class Budget(Config):
    """Limits on what one call may spend, given at call time. None means "as the design was configured".

    A design has a budget of its own (``DesignConfig.budget``), which a call's budget overrides field by field.

    Attributes:
        nfe: stream name -> function evaluations (denoising steps) for this stream; 0 skips a stream that the action
            does not need.
        exit: stream name -> function evaluation after which its denoising stops. Streams that read it then read the
            partly denoised state.
        future: false to skip predicted futures, which is an error when the action is generated from one. A planner
            that chooses by futures then does not search: the action is its first proposal.
        candidates: number of action candidates that a planner considers.
        iterations: number of refinement rounds of a planner.
        horizon: number of the H predicted actions that are needed (autoregressive designs stop early).
        rounds: number of times that the streams of one factor are generated again in turns, each reading the latest
            estimate of the others; 0 keeps the first sample.
        attempts: number of times that rows whose result is flagged (:attr:`Forecast.flags`) are sampled again, with
            other noise; 0 passes the first sample on.
    """

    error: ClassVar[type[FieldError]] = BudgetFieldError

    nfe: Mapping[str, Whole] = field(default_factory=dict)
    exit: Mapping[str, Whole] = field(default_factory=dict)
    future: bool | None = None
    candidates: Count | None = None
    iterations: Room | None = None
    horizon: Size | None = None
    rounds: Whole | None = None
    attempts: Whole | None = None

    def over(self, default: Budget) -> Budget:
        """Override ``default`` by every field that is set here; ``nfe`` and ``exit`` stream by stream."""
        return Budget(
            nfe={**default.nfe, **self.nfe},
            exit={**default.exit, **self.exit},
            **{
                name: getattr(default if getattr(self, name) is None else self, name)
                for name in ("future", "candidates", "iterations", "horizon", "rounds", "attempts")
            },
        )


@dataclass(frozen=True)
class Forecast:
    """Result of one call of a design: a sample of p(s, a | c).

    Attributes:
        action: (B, H, A) float32, in the units of the action spec.
        future: stream name -> predicted values in the stream's substrate, (B, F, N, D) or token ids.
        cost: planner's cost of the chosen candidate, (B,), or None without a planner.
        nfe: stream name -> function evaluations spent on it.
        stage_ms: stage name -> milliseconds (preprocess, encode, future, action, plan).
        costs: planner's costs of all candidates in the order of their evaluation, (B, n), or None without a planner.
        flags: stream name -> (B,) bool, True in rows whose values of this stream must not be trusted.
        text: stream of text -> B texts that were written.
    """

    action: Tensor
    future: Mapping[str, Tensor] = field(default_factory=dict)
    cost: Tensor | None = None
    nfe: Mapping[str, int] = field(default_factory=dict)
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    costs: Tensor | None = None
    flags: Mapping[str, Tensor] = field(default_factory=dict)
    text: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Losses:
    """Training losses.

    Attributes:
        total: weighted sum of the terms, scalar.
        terms: stream name -> unweighted loss, scalar.
        facts: name -> scalar that is no loss and is logged beside them, such as an imagined return.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    facts: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def weighted(cls, terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Losses:
        """Losses whose total weights every term by ``weights``, 1 for streams without an entry."""
        total = sum((weights.get(name, 1.0) * term for name, term in terms.items()), torch.zeros(()))
        return cls(total, terms)


@dataclass(frozen=True)
class Perceived:
    """Encoder of observations into a future stream, for comparison with the prediction.

    Attributes:
        stream: name of the stream.
        offsets: ticks after a call that the stream predicts, ascending.
        encode: (observation, now), both (B, 1), -> values (B, N, D) or ids (B, N); ``now`` is the observation at the
            call.
        extras: names of the extras that both observations must carry.
        rebase: (values, observation, now) -> values (B, T, N, D) that were predicted at ``now``, as a prediction made
            at the later ``observation``. None where values do not depend on the moment of prediction.
    """

    stream: str
    offsets: tuple[int, ...]
    encode: Callable[[Observation, Observation], Tensor]
    extras: tuple[str, ...] = ()
    rebase: Callable[[Tensor, Observation, Observation], Tensor] | None = None


def map_tensors(value: T, fn: Callable[..., Tensor]) -> T:
    """Apply ``fn`` to every tensor inside nested dataclasses, mappings, tuples and lists."""
    result: Any = value
    if isinstance(value, Tensor):
        result = fn(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {f.name: map_tensors(getattr(value, f.name), fn) for f in dataclasses.fields(value)}
        result = dataclasses.replace(value, **changes)
    elif isinstance(value, Mapping):
        result = {k: map_tensors(v, fn) for k, v in value.items()}
    elif isinstance(value, tuple | list):
        result = type(value)(map_tensors(v, fn) for v in value)
    return result


def choose_rows(rows: Tensor, chosen: T, other: T) -> T:
    """Take the rows (B,) bool of ``chosen`` and the rest of ``other``, in every tensor of two trees of one shape."""
    result: Any = chosen
    if isinstance(chosen, Tensor) and isinstance(other, Tensor):
        result = torch.where(rows.view(-1, *[1] * (chosen.dim() - 1)), chosen, other)
    elif dataclasses.is_dataclass(chosen) and not isinstance(chosen, type):
        names = [f.name for f in dataclasses.fields(chosen)]
        parts = {n: choose_rows(rows, getattr(chosen, n), getattr(other, n)) for n in names}
        result = dataclasses.replace(chosen, **parts)
    elif isinstance(chosen, Mapping) and isinstance(other, Mapping):
        result = {k: choose_rows(rows, v, other[k]) for k, v in chosen.items()}
    elif isinstance(chosen, tuple | list) and isinstance(other, tuple | list):
        result = type(chosen)(choose_rows(rows, a, b) for a, b in zip(chosen, other, strict=True))
    return result


def to_device(value: T, device: torch.device | str) -> T:
    """Move every tensor inside ``value`` to ``device``."""
    return map_tensors(value, lambda t: t.to(device))
