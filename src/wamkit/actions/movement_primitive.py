"""Movement primitives as actions (`ar.dmp-head`): Ijspeert et al. 2013, with the package movement_primitives.

A chunk is represented by the parameters of one dynamic movement primitive: its duration, start, goal, and a few shape
weights per dimension. The path of a primitive is linear in its start, goal and weights, and a longer duration only
stretches it in time. The package therefore runs once, when the part is built, and gives the response to every
parameter; fitting a batch of chunks to these responses, and reconstructing the chunks, are matrix products.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from wamkit.actions.demonstrated import columns_of, demonstrated_chunks
from wamkit.config.ranges import NonNegative, Range
from wamkit.contract.calls import ByColumn
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import ActionConfig, ActionRepresentation
from wamkit.contract.specs import ActionSpec
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError, MissingExtraError, SpecError
from wamkit.geometry.poses import PoseLayout

FINE = 1024  # points of a response per duration; the package integrates with an error of first order
REACH = 4  # durations after which every primitive rests at its goal
LEAST_TICKS = 2.0  # shortest duration
FIT_CHUNKS = 2000  # training chunks that parameters are normalised on


def import_dmp() -> Any:
    """Import ``movement_primitives.dmp``; raises :class:`MissingExtraError` when it is not installed."""
    try:
        return importlib.import_module("movement_primitives.dmp")
    except ImportError as error:
        raise MissingExtraError(
            "movement_primitives is not installed: pip install 'wamkit[primitives]'."
        ) from error


@ActionConfig.register_subclass("movement_primitive")
@dataclass(frozen=True)
class MovementPrimitiveConfig(ActionConfig):
    """Goal, duration and shape weights of a dynamic movement primitive (DMP, Ijspeert et al. 2013; LMP).

    Attributes:
        weights: number of shape weights per action dimension.
        rest: largest change per tick that counts as resting, as a fraction of an entry's range. A chunk that comes
            to rest early becomes a primitive of that shorter duration.
    """

    packages: ClassVar[tuple[str, ...]] = ("primitives",)
    weights: Annotated[int, Range(2, 1024)] = 8
    rest: NonNegative = 0.002

    @override
    def build(self, data: DataSpec, horizon: int) -> MovementPrimitive:
        """Build; raises :class:`ConfigError` on actions that cannot be summed entry by entry."""
        import_dmp()
        if horizon < 3:
            raise ConfigError(f"action movement_primitive: the horizon {horizon} must be at least 3")
        if data.action.rotation in ("quaternion_wxyz", "rot6d"):
            raise ConfigError(
                f"action movement_primitive: the entries of a {data.action.rotation} rotation do not move "
                f"independently; record it as axis_angle"
            )
        return MovementPrimitive(self, data.action, horizon, responses(self.weights))


@lru_cache(maxsize=8)
def responses(weights: int) -> np.ndarray:
    """Compute the responses of a primitive of duration 1 with the package: (points, 2 + weights).

    The columns are the paths for start 1, goal 1 and each weight 1, everything else 0, ``FINE`` points per duration.
    """
    dmp = import_dmp().DMP(2 + weights, execution_time=1.0, dt=1 / FINE, n_weights_per_dim=weights)
    unit = np.eye(2 + weights)
    dmp.configure(start_y=unit[0], goal_y=unit[1])
    dmp.set_weights(unit[:, 2:])
    _, path = dmp.open_loop(run_t=REACH)
    return np.asarray(path, dtype=np.float64)


@final
class MovementPrimitive(ActionRepresentation, ByColumn):
    """Movement primitives: (B, H, A) physical <-> (B, 1, 1, P) normalised parameters.

    The P parameters are the duration, the starts of absolute entries, the goals and the weights. Delta entries are
    summed to a path that starts at zero, so their goal is a displacement; rotation vectors are summed as vectors.
    Absolute entries start at the chunk's first value.
    """

    mean: Tensor
    scale: Tensor
    response: Tensor
    solver: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self, config: MovementPrimitiveConfig, spec: ActionSpec, horizon: int, table: np.ndarray
    ) -> None:
        super().__init__()
        self.config, self.action, self.horizon = config, spec, horizon
        self.moving = PoseLayout.of(spec).moving if spec.mode == "delta" else 0  # summed over time
        self.absolute = spec.width - self.moving
        self.size = 1 + self.absolute + spec.width * (1 + config.weights)
        # Learned, hence saved with the weights.
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("scale", torch.ones(self.size))
        self.register_buffer("response", torch.from_numpy(table).float(), persistent=False)
        durations = torch.arange(horizon + 1).clamp(min=LEAST_TICKS)
        shapes = self.basis(durations.float())[:, :, 2:].double()
        solver = torch.linalg.pinv(shapes, rtol=1e-4).float()
        self.register_buffer("solver", solver, persistent=False)
        self.register_buffer("low", torch.tensor(spec.low), persistent=False)
        self.register_buffer("high", torch.tensor(spec.high), persistent=False)

    @override
    def spec(self, name: str) -> StreamSpec:
        return StreamSpec(name, "action", 1, 1, self.size, ticks_per_step=self.horizon)

    def basis(self, ticks: Tensor) -> Tensor:
        """Interpolate the responses at ticks 0 to H, (B, H + 1, 2 + weights), for durations (B,) in ticks."""
        ticks = ticks.clamp(min=LEAST_TICKS)
        at = torch.arange(self.horizon + 1, device=ticks.device) / ticks[:, None] * FINE
        at = at.clamp(max=len(self.response) - 1.001)
        before = at.floor().long()
        share = (at - before)[..., None]
        return self.response[before] * (1 - share) + self.response[before + 1] * share

    def _path(self, action: Tensor) -> Tensor:
        """Target path (B, H + 1, A) of the primitive for chunks (B, H, A)."""
        if action.shape[1] != self.horizon:
            raise SpecError(
                f"action movement_primitive codes chunks of {self.horizon} ticks as a whole, but got "
                f"{action.shape[1]} ticks. A design that keeps its past needs stride = horizon = {self.horizon}, or "
                f"another representation."
            )
        summed = action[:, :, : self.moving].cumsum(dim=1)
        path = torch.cat((summed, action[:, :, self.moving :]), dim=2)
        start = torch.cat((torch.zeros_like(summed[:, :1]), action[:, :1, self.moving :]), dim=2)
        return torch.cat((start, path), dim=1)

    def parameters_of(self, action: Tensor) -> Tensor:
        """Fit a primitive to every chunk (B, H, A): parameters (B, P) in physical units, duration in ticks."""
        path = self._path(action)
        change = (path.diff(dim=1).abs() > self.config.rest * (self.high - self.low)).any(dim=2)
        last = (change * torch.arange(1, self.horizon + 1, device=action.device)).amax(dim=1)
        ticks = last.clamp(min=int(LEAST_TICKS))
        start, goal = path[:, :1], path[:, -1:]
        basis = self.basis(ticks.float())
        rest = path - basis[:, :, :1] * start - basis[:, :, 1:2] * goal
        weights = (self.solver[ticks] @ rest).transpose(1, 2)  # (B, A, weights)
        parts = (ticks[:, None].float(), start[:, 0, self.moving :], goal[:, 0], weights.flatten(1))
        return torch.cat(parts, dim=1)

    def chunk_of(self, parameters: Tensor) -> Tensor:
        """Reconstruct chunks (B, H, A) from parameters (B, P), without clipping."""
        ticks, start, goal, weights = self._split(parameters)
        curves = torch.cat((start[:, None], goal[:, None], weights.transpose(1, 2)), dim=1)
        path = self.basis(ticks) @ curves
        return torch.cat((path[:, :, : self.moving].diff(dim=1), path[:, 1:, self.moving :]), dim=2)

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Split parameters (B, P) into ticks (B,), starts (B, A), goals (B, A) and weights (B, A, weights)."""
        width = self.action.width
        ticks, start, goal, weights = parameters.split(
            [1, self.absolute, width, width * self.config.weights], dim=1
        )
        start = torch.cat((torch.zeros_like(goal[:, : self.moving]), start), dim=1)
        return ticks[:, 0].clamp(min=LEAST_TICKS), start, goal, weights.unflatten(1, (width, -1))

    @override
    def encode(self, action: Tensor) -> Tensor:
        """Encode (B, H, A) as (B, 1, 1, P); raises :class:`SpecError` on chunks of another length."""
        return ((self.parameters_of(action) - self.mean) / self.scale)[:, None, None]

    @override
    def real(self, columns: Tensor) -> Tensor:
        """All parameters of the columns that the robot has, and the duration, which they share."""
        duration = columns.new_ones(len(columns), 1)
        weights = columns.repeat_interleave(self.config.weights, dim=1)
        return torch.cat((duration, columns[:, self.moving :], columns, weights), dim=1)[:, None, None]

    @override
    def decode(self, values: Tensor) -> Tensor:
        """Decode (B, 1, 1, P) to (B, H, A), clipped to the action limits."""
        return self.chunk_of(values[:, 0, 0] * self.scale + self.mean).clamp(self.low, self.high)

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Learn the mean and standard deviation of every parameter on the training chunks."""
        chunks = demonstrated_chunks(windows, self.horizon, FIT_CHUNKS, seed)
        parameters = torch.cat([self.parameters_of(part.to(self.mean.device)) for part, _ in chunks])
        mean, spread = parameters.mean(dim=0), parameters.std(dim=0, correction=0)
        if any(columns is not None for _, columns in chunks):
            real = torch.cat([self.real(columns_of(*part))[:, 0, 0] for part in chunks]).to(mean.device)
            count = real.sum(dim=0).clamp(min=1)
            mean = parameters.masked_fill(~real, 0).sum(dim=0) / count
            spread = ((parameters - mean).masked_fill(~real, 0).square().sum(dim=0) / count).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(spread < 1e-6, torch.ones_like(spread), spread))

    # ------------------------------------------------------------------------------------- editing

    def describe(self, values: Tensor) -> list[dict[str, Any]]:
        """Convert values (B, 1, 1, P) to one plain dictionary per chunk, to print and to edit.

        A dictionary holds ``duration_s`` and, per entry of the action, its ``start``, ``goal`` and ``shape`` weights.
        The goal of a delta entry is its displacement over the whole motion.
        """
        ticks, start, goal, weights = self._split(values[:, 0, 0] * self.scale + self.mean)
        rows = []
        for i in range(len(values)):
            row: dict[str, Any] = {"duration_s": float(ticks[i]) / self.action.rate_hz}
            for k, name in enumerate(self.action.names):
                row[name] = {
                    "start": float(start[i, k]),
                    "goal": float(goal[i, k]),
                    "shape": weights[i, k].tolist(),
                }
            rows.append(row)
        return rows

    def values(self, rows: Sequence[Mapping[str, Any]]) -> Tensor:
        """Invert :meth:`describe`; raises :class:`ConfigError` when an entry is missing or does not fit."""
        names = {"duration_s", *self.action.names}
        vectors = []
        for row in rows:
            if set(row) != names:
                raise ConfigError(f"movement primitive: need the entries {sorted(names)}, got {sorted(row)}")
            entries = [row[name] for name in self.action.names]
            shape = [w for entry in entries for w in entry["shape"]]
            if len(shape) != len(entries) * self.config.weights:
                raise ConfigError(
                    f"movement primitive: every entry needs {self.config.weights} weights in `shape`"
                )
            starts = [entry["start"] for entry in entries]
            if any(starts[: self.moving]):
                raise ConfigError(
                    "movement primitive: the path of a delta entry must start at 0; move its goal"
                )
            goals = [entry["goal"] for entry in entries]
            ticks = row["duration_s"] * self.action.rate_hz
            vectors.append([ticks, *starts[self.moving :], *goals, *shape])
        raw = torch.tensor(vectors, dtype=torch.float32, device=self.mean.device)
        return ((raw - self.mean) / self.scale)[:, None, None]

    def primitive(self, row: Mapping[str, Any]) -> Any:
        """Return the package's own primitive for one entry of :meth:`describe`, to step it in closed loop."""
        dmp = import_dmp().DMP(
            self.action.width,
            execution_time=row["duration_s"],
            dt=1 / self.action.rate_hz,
            n_weights_per_dim=self.config.weights,
        )
        entries = [row[name] for name in self.action.names]
        dmp.configure(
            start_y=np.array([e["start"] for e in entries]), goal_y=np.array([e["goal"] for e in entries])
        )
        dmp.set_weights(np.array([e["shape"] for e in entries]))
        return dmp
