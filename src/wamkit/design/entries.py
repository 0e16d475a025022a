"""Entries of a design: what each of its calls is given, checked before any part runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.checks import OPEN, Reads
from wamkit.contract.data import Windows
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Batch, Budget, Observation, WindowSpec
from wamkit.errors import BudgetError, SpecError, did_you_mean


@dataclass(frozen=True)
class Entries:
    """Checks of the values that a design is called with.

    Attributes:
        reads: comparison with the specs of its data.
        acting: window that it reads when acting.
        training: window that training cuts.
        streams: stream name -> spec.
        sensors: extras that it reads when acting.
        extras: extras that training needs.
        carries: names of the entries of its carried state.
    """

    reads: Reads
    acting: WindowSpec
    training: WindowSpec
    streams: Mapping[str, StreamSpec]
    sensors: Collection[str]
    extras: Collection[str]
    carries: Collection[str]

    def observed(
        self, observation: Observation, device: torch.device | None = None, past: bool = False
    ) -> int:
        """Check an observation that is acted on and return its rows; with ``past``, the executed actions too."""
        return self.reads.observation(
            observation,
            len(self.acting.observation),
            extras=self.sensors,
            now=True,
            past=self.acting.past_actions if past else 0,
            device=device,
        )

    def called(
        self,
        observation: Observation,
        state: Any,
        budget: Budget,
        seeds: Sequence[int],
        given: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Check the arguments of a call of the policy."""
        rows = self.observed(observation, past=True)
        self.reads.carried(state, self.carries, rows)
        self.sampled(rows, budget, seeds, given)

    def sampled(
        self,
        rows: int,
        budget: Budget,
        seeds: Sequence[int],
        given: Mapping[str, Tensor] | None = None,
        context: Mapping[str, Cache] | None = None,
        carry: Any = None,
    ) -> None:
        """Check the arguments of a sample besides its observation; unknown streams are left to the sampler."""
        if not isinstance(budget, Budget):
            raise BudgetError(
                f"budget {budget!r} must be a `wamkit.contract.Budget`; `Budget()` sets no limit"
            )
        self.reads.seeds(seeds, rows)
        if carry is not None:
            self.reads.carried(carry, self.carries, rows)
        known = {name: value for name, value in (given or {}).items() if name in self.streams}
        self.reads.values(known, self.streams, rows)
        for trunk, cache in (context or {}).items():
            if cache.pad.shape[0] != rows:
                raise SpecError(
                    f"design {self.reads.name!r}: the context of trunk {trunk!r} has {cache.pad.shape[0]} rows, the "
                    f"observation {rows}. Encode the context of the same observation."
                )

    def fitted(self, windows: Windows) -> None:
        """Check that the dataset that is fitted on was opened with the extras that training needs."""
        if not self.extras:
            return
        seen = windows.windows(np.zeros(1, np.int64), WindowSpec(observation=(0,), horizon=1)).observation
        missing = sorted(set(self.extras) - set(seen.extras))
        if missing:
            raise SpecError(
                f"design {self.reads.name!r} learns from {', '.join(sorted(self.extras))}, and the dataset was opened "
                f"without {', '.join(missing)}. {OPEN}"
            )

    def known(self, names: Sequence[str]) -> None:
        """Raise :class:`BudgetError` when a name is not that of a stream."""
        for name in names:
            if name not in self.streams:
                raise BudgetError(f"sample: unknown stream {name!r}. {did_you_mean(name, self.streams)}")

    def batch(self, batch: Batch, device: torch.device) -> None:
        """Check a batch that is learned from."""
        self.reads.batch(batch, self.training, self.extras, device)

    def acted(self, action: Tensor, rows: int, place: str) -> None:
        """Check actions (B, H, A) that futures follow, H the horizon of the design."""
        self.reads.action(action, rows, self.acting.horizon, place)
