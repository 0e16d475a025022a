"""Some columns of the action in a stream of their own: an arm, a hand, an embodiment (`ar.continuous-chunk`)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from wamkit.actions.chunk import ChunkConfig
from wamkit.config.ranges import SomeWords
from wamkit.contract.calls import ByColumn
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import ActionConfig, ActionRepresentation
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Batch, WindowSpec
from wamkit.errors import ConfigError, did_you_mean


@ActionConfig.register_subclass("columns")
@dataclass(frozen=True)
class ColumnsConfig(ActionConfig):
    """Some columns of the action in any other representation, for a head that owns a part of the robot.

    Attributes:
        entries: names of these entries of the action, in any order; the stream keeps that of the action spec.
        of: representation of these columns.
    """

    entries: SomeWords
    of: ActionConfig = field(default_factory=ChunkConfig)

    @override
    def build(self, data: DataSpec, horizon: int) -> Columns:
        """Build; raises :class:`ConfigError` when the action has no entry of that name."""
        names = data.action.names
        for name in self.entries:
            if name not in names:
                raise ConfigError(
                    f"action columns: the action has no entry {name!r}. {did_you_mean(name, names)}"
                )
        columns = tuple(i for i, name in enumerate(names) if name in self.entries)
        return Columns(self.of.build(restricted(data, columns), horizon), columns)


def restricted(data: DataSpec, columns: tuple[int, ...]) -> DataSpec:
    """Describe data whose action has only these columns."""
    spec, index = data.action, list(columns)
    action = dataclasses.replace(
        spec,
        names=tuple(spec.names[i] for i in index),
        low=tuple(spec.low[i] for i in index),
        high=tuple(spec.high[i] for i in index),
        gripper=spec.gripper if spec.gripper_at in index else "none",
        gripper_entry=spec.gripper_entry if spec.gripper_at in index else "",
    )
    stats = dict(data.stats)
    if "action" in stats:
        stats["action"] = {
            name: values[index] if np.shape(values) == (spec.width,) else values
            for name, values in stats["action"].items()
        }
    return dataclasses.replace(data, action=action, stats=stats)


@final
class ColumnWindows:
    """Windows of a dataset, cut to some columns of the action.

    Args:
        windows: the dataset.
        columns: indices of the columns.
    """

    def __init__(self, windows: Windows, columns: tuple[int, ...]) -> None:
        self._windows, self._columns = windows, list(columns)

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self._windows.num_frames

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        """Cut windows at the global frame ids ``index``."""
        batch = self._windows.windows(index, spec)
        seen = batch.observation
        if seen.action_columns is not None:
            seen = dataclasses.replace(seen, action_columns=seen.action_columns[:, self._columns])
        return dataclasses.replace(batch, observation=seen, action=batch.action[..., self._columns])


@final
class Columns(ActionRepresentation, ByColumn):
    """Columns of the action: (B, H, A) physical <-> values of another representation of these columns.

    Args:
        inner: representation of actions that have these columns only.
        columns: their indices in the action.
    """

    columns: tuple[int, ...]
    index: Tensor

    def __init__(self, inner: ActionRepresentation, columns: tuple[int, ...]) -> None:
        super().__init__()
        self.inner = inner
        self.columns = columns
        self.register_buffer("index", torch.tensor(columns), persistent=False)

    @override
    def spec(self, name: str) -> StreamSpec:
        return self.inner.spec(name)

    @override
    def encode(self, action: Tensor) -> Tensor:
        """Encode the columns of (B, H, A)."""
        return self.inner.encode(action[..., self.index])

    @override
    def real(self, columns: Tensor) -> Tensor:
        own = columns[:, self.index]
        if isinstance(self.inner, ByColumn):
            return self.inner.real(own)
        step = self.inner.spec("action").step
        return own.any(dim=1).view(-1, 1, *[1] * len(step)).expand(-1, 1, *step)

    @override
    def decode(self, values: Tensor) -> Tensor:
        """Decode to the columns alone, (B, H, number of columns), clipped to their limits."""
        return self.inner.decode(values)

    @override
    def fit(self, windows: Windows, seed: int) -> None:
        self.inner.fit(ColumnWindows(windows, self.columns), seed)
