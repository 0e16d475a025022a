"""Base of the controllers that compare a predicted future with the observed one."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from wamkit.config.ranges import NonNegative
from wamkit.controllers.base import ControllerState, Seen, gap
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@dataclass(frozen=True)
class Comparing(Early):
    """Base of controllers whose early calls depend on how well :attr:`stream` was predicted.

    Attributes:
        execute: K, ticks between two calls when no early call is made.
        stream: name of the future stream that is compared with the observation.
        threshold: largest gap at which the two count as equal, a root mean square difference or a share of
            differing token ids.
    """

    stream: str = "future"
    threshold: NonNegative = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.threshold >= 0:
            raise ConfigError(f"{type(self).__name__}: `threshold` must be at least 0, got {self.threshold}.")

    @property
    @override
    def compares(self) -> str:
        return self.stream

    def close(self, state: ControllerState, tick: int, seen: Seen) -> bool | None:
        """Return true if the observation lies within the threshold of the newest plan's prediction for ``tick``.

        Returns:
            None when the plan has no prediction for that tick, or no encoded observation is given.
        """
        if seen.values is None or not state.plans or tick not in state.plans[-1].future:
            return None
        return gap(state.plans[-1].future[tick], seen.values) <= self.threshold
