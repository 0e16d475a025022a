"""Recorder of noise: the seeds that designs sample with, and the noise that is really drawn from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from torch import Tensor

from wamkit.contract.streams import RowNoise
from wamkit.design import Design


@dataclass
class Recorded:
    """Seeds by design, in the order of the calls, and the first values of every row of noise."""

    seeds: list[tuple[str, int]] = field(default_factory=list)
    draws: list[tuple[float, ...]] = field(default_factory=list)

    def shared_seeds(self) -> list[int]:
        """Seeds that were sampled with more than once, by any design."""
        return [seed for seed, count in Counter(seed for _, seed in self.seeds).items() if count > 1]

    def shared_draws(self) -> int:
        """Rows of noise that were drawn before."""
        return len(self.draws) - len(set(self.draws))


def record_noise(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Record from now on every call of `Design.sample` and every draw of `RowNoise`."""
    recorded, sample = Recorded(), Design.sample

    def sampled(design: Design, *args: Any, seeds: Sequence[int], **more: Any) -> Any:
        recorded.seeds += [(design.name, int(seed)) for seed in seeds]
        return sample(design, *args, seeds=seeds, **more)

    def listening(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(noise: RowNoise, *shape: int) -> Tensor:
            rows = draw(noise, *shape)
            recorded.draws += [tuple(row.flatten()[:8].tolist()) for row in rows]
            return rows

        return drawn

    monkeypatch.setattr(Design, "sample", sampled)
    for name in ("normal", "uniform"):
        monkeypatch.setattr(RowNoise, name, listening(getattr(RowNoise, name)))
    return recorded
