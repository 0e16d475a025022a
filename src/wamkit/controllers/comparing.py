"""Controllers that compare a predicted future with what is seen."""

from __future__ import annotations

from dataclasses import dataclass

from wamkit.controllers.base import ControllerState, Seen, gap
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@dataclass(frozen=True)
class Comparing(Early):
    """Calls early, for what :attr:`stream` shows.

    Attributes:
        stream: name of the future stream that is compared with what is seen.
        threshold: gap at which the two count as different: root mean square difference, or share of different
            token ids.
    """

    stream: str = "future"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.threshold >= 0:
            raise ConfigError(f"{type(self).__name__}: `threshold` must be at least 0, got {self.threshold}.")

    @property
    def regular(self) -> bool:
        """False: what is seen calls early."""
        return False

    @property
    def compares(self) -> str:
        """The stream."""
        return self.stream

    def close(self, state: ControllerState, tick: int, seen: Seen) -> bool | None:
        """Whether what is seen lies within the threshold of what the newest plan predicted for ``tick``.

        None where nothing was predicted for it, or nothing is shown.
        """
        if seen.values is None or not state.plans or tick not in state.plans[-1].future:
            return None
        return gap(state.plans[-1].future[tick], seen.values) <= self.threshold
