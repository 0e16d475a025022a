"""Dynamic movement primitives as an action representation (`ar.dmp-head`): Ijspeert et al. 2013, eqs. 2.1 to 2.6.

Per dimension a critically damped spring pulls the path y to a goal g, and a forcing term that fades with the phase x
shapes the way there; time s runs in units of the duration:

    y'' = a (b (g - y) - y') + x * sum_k psi_k(x) w_k / sum_k psi_k(x),     x = exp(-c s),  b = a / 4

The path is linear in (start, goal, weights). So the responses are integrated once, a rollout is one product with
them, and weights are fitted by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from wamkit.errors import ConfigError, SpecError
from wamkit.protocols import ActionConfig, ActionRepresentation, DataSpec, Windows
from wamkit.streams import StreamSpec
from wamkit.types import WindowSpec

SPRING = 25.0  # a
FADE = float(np.log(100.0))  # c: one per cent of the forcing is left when the duration is over
SUBSTEPS = 400  # integration steps per duration
FIT_CHUNKS = 1000


@dataclass(frozen=True)
class Movement:
    """One dimension-wise movement, in physical units; meant to be printed and edited.

    Attributes:
        start: (A,), where the path begins.
        goal: (A,), where it ends.
        weights: (A, K), shape of the way there; all zero is the straight spring.
        duration_ticks: control ticks until it is (nearly) there.
    """

    start: tuple[float, ...]
    goal: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    duration_ticks: int


def forcing(phase: float, weights: int) -> np.ndarray:
    """Basis of the forcing term at phase x, (K,)."""
    centres = np.exp(-FADE * np.linspace(0, 1, weights))
    gaps = np.diff(centres, append=centres[-1] * 0.5) if weights > 1 else np.ones(1)
    activation = np.exp(-0.5 * np.square((phase - centres) / (0.7 * gaps)))
    return phase * activation / max(activation.sum(), 1e-12)


def rollout(
    start: np.ndarray,
    goal: np.ndarray,
    weights: np.ndarray,
    durations: float,
    push: np.ndarray | None = None,
) -> np.ndarray:
    """Integrate the equations.

    Args:
        start: (A,). goal: (A,). weights: (A, K).
        durations: how long to integrate, in units of the duration.
        push: (steps, A) acceleration added at each step, or None.

    Returns:
        (steps + 1, A), the path; ``SUBSTEPS`` steps per duration.
    """
    steps = round(durations * SUBSTEPS)
    y, v = start.astype(np.float64), np.zeros(len(start))
    path = [y]
    for i in range(steps):
        shape = weights @ forcing(float(np.exp(-FADE * i / SUBSTEPS)), weights.shape[1])
        # The forcing is scaled by the spring so that weights are of the size of the path.
        pull = SPRING * (SPRING / 4 * (goal - y) - v) + SPRING**2 / 4 * shape
        v = v + (pull + (push[i] if push is not None else 0.0)) / SUBSTEPS
        y = y + v / SUBSTEPS
        path.append(y)
    return np.stack(path)


@ActionConfig.register_subclass("movement_primitive")
@dataclass(frozen=True)
class MovementPrimitiveConfig(ActionConfig):
    """Goal, shape weights and duration of a dynamic movement primitive (Ijspeert et al. 2013).

    Attributes:
        weights: forcing weights per dimension.
        settle: a movement is over when it stays within this share of its range around its end.
    """

    weights: int = 8
    settle: float = 0.02

    def build(self, data: DataSpec, horizon: int) -> MovementPrimitive:
        """Build; raises :class:`ConfigError` when there are more weights than ticks."""
        if not 1 <= self.weights <= horizon or not 0 < self.settle < 1:
            raise ConfigError(
                f"action movement_primitive: weights {self.weights} must be 1 to the horizon {horizon}, "
                f"and settle {self.settle} between 0 and 1"
            )
        return MovementPrimitive(self, data, horizon)


@final
class MovementPrimitive(ActionRepresentation):
    """(B, H, A) physical <-> (B, 1, 1, D): start, goal, weights and duration, normalised by the training chunks.

    The path of delta actions is their sum, which starts at zero; that of absolute actions is themselves.
    """

    responses: Tensor
    solve: Tensor
    shift: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, config: MovementPrimitiveConfig, data: DataSpec, horizon: int) -> None:
        super().__init__()
        self.config = config
        self.horizon = horizon
        self.width = data.action.width
        self.delta = data.action.mode == "delta"
        self.points = horizon + 1 if self.delta else horizon
        self.shortest = max(2, (self.points - 1) // 4)
        k = config.weights
        identity = np.eye(2 + k)  # one unit response each: start, goal, weights
        curve = rollout(identity[:, 0], identity[:, 1], identity[:, 2:], (self.points - 1) / self.shortest)
        ticks = np.arange(self.points) * SUBSTEPS
        at = [np.minimum(np.round(ticks / d).astype(int), len(curve) - 1) for d in self._durations()]
        table = np.stack([curve[index] for index in at])  # (durations, points, 2 + K)
        self.register_buffer("responses", torch.from_numpy(table).float(), persistent=False)
        shape = table[:, :, 2:]
        gram = shape.transpose(0, 2, 1) @ shape + 1e-6 * np.eye(k)
        solve = np.linalg.solve(gram, shape.transpose(0, 2, 1))
        self.register_buffer("solve", torch.from_numpy(solve).float(), persistent=False)
        size = self.width * (2 + k) + 1
        self.register_buffer("shift", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("low", torch.tensor(data.action.low), persistent=False)
        self.register_buffer("high", torch.tensor(data.action.high), persistent=False)

    def _durations(self) -> range:
        return range(self.shortest, self.points)

    def spec(self, name: str) -> StreamSpec:
        """See :class:`wamkit.protocols.ActionRepresentation`."""
        return StreamSpec(name, "action", 1, 1, len(self.shift), ticks_per_step=self.horizon)

    def parameters_of(self, action: Tensor) -> Tensor:
        """(B, H, A) -> physical parameters (B, D), fitted by least squares."""
        if action.shape[1] != self.horizon:
            raise SpecError(
                f"action movement_primitive codes chunks of {self.horizon} ticks as a whole, but got "
                f"{action.shape[1]}. A design that keeps its past needs stride = horizon, or another representation."
            )
        path = action
        if self.delta:
            path = torch.cat((torch.zeros_like(action[:, :1]), action.cumsum(dim=1)), dim=1)
        start, goal = path[:, 0], path[:, -1]
        reach = (path.amax(dim=1) - path.amin(dim=1)).clamp(min=1e-6)
        moving = ((path - goal[:, None]).abs() > self.config.settle * reach[:, None]).any(dim=2)
        last = (moving * torch.arange(1, self.points + 1, device=action.device)).amax(dim=1)
        row = last.clamp(self.shortest, self.points - 1) - self.shortest
        response = self.responses[row]
        rest = path - response[:, :, :1] * start[:, None] - response[:, :, 1:2] * goal[:, None]
        weights = (self.solve[row] @ rest).transpose(1, 2)  # (B, A, K)
        return torch.cat((start, goal, weights.flatten(1), (row + self.shortest)[:, None].float()), dim=1)

    def unroll(self, parameters: Tensor) -> Tensor:
        """Physical parameters (B, D) -> actions (B, H, A), clipped to the limits."""
        a = self.width
        start, goal, flat, duration = parameters.split((a, a, a * self.config.weights, 1), dim=1)
        row = duration[:, 0].round().long().clamp(self.shortest, self.points - 1) - self.shortest
        stacked = torch.cat(
            (start[:, None], goal[:, None], flat.unflatten(1, (a, -1)).transpose(1, 2)), dim=1
        )
        path = self.responses[row] @ stacked
        return (path.diff(dim=1) if self.delta else path).clamp(self.low, self.high)

    def encode(self, action: Tensor) -> Tensor:
        """(B, H, A) -> (B, 1, 1, D), normalised; raises :class:`SpecError` on chunks of another length."""
        return ((self.parameters_of(action) - self.shift) / self.scale)[:, None, None]

    def decode(self, values: Tensor) -> Tensor:
        """(B, 1, 1, D) -> (B, H, A)."""
        return self.unroll(values[:, 0, 0] * self.scale + self.shift)

    def movements(self, values: Tensor) -> list[Movement]:
        """(B, 1, 1, D) -> B movements to read, print and edit."""
        a, k = self.width, self.config.weights
        found = []
        for row in (values[:, 0, 0] * self.scale + self.shift).tolist():
            weights = tuple(tuple(row[2 * a + i * k : 2 * a + (i + 1) * k]) for i in range(a))
            found.append(Movement(tuple(row[:a]), tuple(row[a : 2 * a]), weights, round(row[-1])))
        return found

    def values(self, movements: list[Movement]) -> Tensor:
        """Inverse of :meth:`movements`."""
        rows = [
            [*m.start, *m.goal, *(w for per in m.weights for w in per), m.duration_ticks] for m in movements
        ]
        return ((torch.tensor(rows).to(self.shift) - self.shift) / self.scale)[:, None, None]

    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Measure mean and spread of the parameters, which the statistics of single actions do not tell."""
        rng = np.random.default_rng(seed)
        index = np.sort(rng.permutation(windows.num_frames)[:FIT_CHUNKS])
        window = WindowSpec(horizon=self.horizon)
        chunks = [
            windows.windows(part, window).action for part in np.array_split(index, len(index) // 64 + 1)
        ]
        found = self.parameters_of(torch.cat(chunks).to(self.low.device))
        self.shift.copy_(found.mean(dim=0))
        spread = found.std(dim=0, correction=0)
        self.scale.copy_(torch.where(spread < 1e-4, torch.ones_like(spread), spread))
