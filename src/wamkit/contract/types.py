"""The values that travel between parts. Small, frozen, with shapes.

Letters: B batch, T observed steps, F future steps, H action horizon, A action width, S state width,
N tokens, D features, C channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from wamkit.errors import SpecError, did_you_mean

T = TypeVar("T")

Aim = Literal["end", "next"]

# Values that one part carries from call to call: tensors with leading dimension B, nested in mappings, tuples and
# dataclasses. Only the part itself looks inside.
Carry: TypeAlias = Any

# Values that a whole design carries: estimator name (or :data:`wamkit.design.sampling.PLANNER_CARRY`) -> its carry.
Carries: TypeAlias = Mapping[str, Carry]


@dataclass(frozen=True)
class Observation:
    """A window of what the robot saw.

    Attributes:
        images: camera -> (B, T, 3, height, width), uint8.
        state: (B, T, S), float32, in the units of the observation spec.
        task: B instructions in plain language.
        pad: (B, T), bool, True where a step lies outside the episode (its content repeats the nearest step).
        extras: further per-step ground truth of a dataset, name -> (B, T, ...) (depth, poses, contacts).
        past_action: (B, P, A), float32, the actions executed before "now", or None when nobody asked.
        past_action_pad: (B, P), bool, True where no action was executed (the start of the episode).
        missing: modality -> (B, T), bool, True where its sensor gave nothing; the buffer then holds garbage.
        goal: the observation that is to be reached, T = 1, or None when nobody says.
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

    @property
    def batch_size(self) -> int:
        """Number of windows B."""
        return self.state.shape[0]

    def view(self, camera: str) -> Tensor:
        """Frames of a camera, (B, T, 3, height, width) uint8; raises :class:`SpecError` when it is not there."""
        if camera not in self.images:
            raise SpecError(f"no image of camera {camera!r}. {did_you_mean(camera, self.images)}")
        return self.images[camera]

    def steps(self, index: slice | list[int]) -> Observation:
        """The same windows, cut to the time steps in ``index``."""
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
        )


@dataclass(frozen=True)
class Batch:
    """Windows of demonstrations, for training.

    Attributes:
        observation: the observed window, T steps, the last one is "now".
        action: (B, P + H, A), float32, raw units: P executed actions before "now", then the H that follow.
        action_pad: (B, P + H), bool, True where the action lies outside the episode.
        past: P.
        future: the observed future, F steps, or None when no part asks for one.
        goal: what is to be reached, 1 step: the last observation of the episode, or that of its next milestone;
            None when no part asks for one.
        milestones: the next milestones of the episode (:mod:`wamkit.data.milestones`), after the last one the last
            one again, or None when no part asks for them.
        index: (B,) int64, the dataset frame each window was cut at.
    """

    observation: Observation
    action: Tensor
    action_pad: Tensor
    past: int = 0
    future: Observation | None = None
    goal: Observation | None = None
    index: Tensor | None = None
    milestones: Observation | None = None


@dataclass(frozen=True)
class WindowSpec:
    """Which steps a design needs around "now", in control ticks.

    Attributes:
        observation: offsets of the observed steps, ascending, the last one 0, e.g. ``(-8, 0)``.
        past_actions: P, executed actions before "now".
        horizon: H, actions from "now" on.
        future: offsets of the future observations, ascending, all positive, e.g. ``(8, 16)``.
        goal: whether a goal observation is needed.
        milestones: how many of the next milestones of the episode are needed.
        aim: which observation the goal is: the ``end`` of the episode, or the ``next`` of its milestones after
            "now" (:mod:`wamkit.data.milestones`), of which the last one is the end.
    """

    observation: tuple[int, ...] = (0,)
    past_actions: int = 0
    horizon: int = 16
    future: tuple[int, ...] = ()
    goal: bool = False
    milestones: int = 0
    aim: Aim = "end"


@dataclass(frozen=True)
class Budget:
    """What one call may spend. Given at call time; None means "as the design was configured".

    Attributes:
        nfe: stream name -> function evaluations (denoising steps) for that stream. Zero skips a stream that
            the action does not need.
        exit: stream name -> evaluation after which its denoising stops. Whoever reads it then reads the partly
            denoised state.
        future: whether predicted futures are generated at all.
        candidates: action candidates that a planner considers.
        iterations: refinement rounds of a planner.
        horizon: how many of the H predicted actions are needed (autoregressive designs stop early).
        rounds: how often the streams of one factor are generated again in turns, each reading the others' latest
            estimate; zero is the first sample.
    """

    nfe: Mapping[str, int] = field(default_factory=dict)
    exit: Mapping[str, int] = field(default_factory=dict)
    future: bool | None = None
    candidates: int | None = None
    iterations: int | None = None
    horizon: int | None = None
    rounds: int | None = None


@dataclass(frozen=True)
class Forecast:
    """What a design returns for one call: p(s, a | c) sampled.

    Attributes:
        action: (B, H, A), float32, in the units of the action spec.
        future: stream name -> predicted values in that stream's substrate, (B, F, N, D) or token ids.
        cost: (B,) or None, the planner's cost of the chosen candidate.
        nfe: stream name -> function evaluations spent on it.
        stage_ms: stage name -> milliseconds (preprocess, encode, future, action, plan).
    """

    action: Tensor
    future: Mapping[str, Tensor] = field(default_factory=dict)
    cost: Tensor | None = None
    nfe: Mapping[str, int] = field(default_factory=dict)
    stage_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Losses:
    """Training losses.

    Attributes:
        total: weighted sum, scalar.
        terms: stream name -> unweighted loss, scalar.
    """

    total: Tensor
    terms: Mapping[str, Tensor]

    @classmethod
    def weighted(cls, terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Losses:
        """Losses whose total weights every term by ``weights``, 1 for streams without an entry."""
        total = sum((weights.get(name, 1.0) * term for name, term in terms.items()), torch.zeros(()))
        return cls(total, terms)


@dataclass(frozen=True)
class Perceived:
    """How what is seen becomes values of a future stream.

    Attributes:
        stream: the stream's name.
        offsets: ticks after a call that it predicts, ascending.
        encode: (seen, now), both (B, 1) -> (B, N, D) values or (B, N) ids; ``now`` is what the call saw.
    """

    stream: str
    offsets: tuple[int, ...]
    encode: Callable[[Observation, Observation], Tensor]


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


def to_device(value: T, device: torch.device | str) -> T:
    """Move every tensor inside ``value`` to ``device``."""
    return map_tensors(value, lambda t: t.to(device))
