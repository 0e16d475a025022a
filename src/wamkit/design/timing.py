"""Wall-clock time per stage of one call, with the device synchronised."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stages:
    """Stopwatch that adds up milliseconds per stage name."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time the body and add it to ``stage``."""
        start = self._now()
        yield
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + 1e3 * (self._now() - start)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
