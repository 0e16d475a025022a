"""A verifier: predictions that do not come true end a chunk early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wamkit.controllers.base import Controller, ControllerState, Seen
from wamkit.controllers.comparing import Comparing
from wamkit.errors import ConfigError


@Controller.register_subclass("verifier_replan")
@dataclass(frozen=True)
class VerifierReplan(Comparing):
    """Replan early when a predicted future differs from what is seen (FFDC-WAM; survey eq. 34, adaptive K).

    At every tick that the newest call predicted, the observation is encoded by the design's own substrate and
    compared. A gap above the threshold asks for a call at that tick; otherwise the chunk goes on. A disturbance
    is noticed at the first predicted tick after it, at the latest ``execute`` ticks after it.

    Attributes:
        execute: K, ticks between two calls while predictions come true.
        stream: name of the future stream that is compared. It needs an offset below ``execute``.
        threshold: largest gap that is trusted: root mean square difference, or share of different token ids.
    """

    def check(self, mode: str, offsets: Sequence[int]) -> None:
        """See :meth:`Controller.check`."""
        if not any(offset < self.execute for offset in offsets):
            raise ConfigError(
                f"Controller 'verifier_replan': stream {self.stream!r} predicts {tuple(offsets)} ticks ahead and a "
                f"chunk ends after {self.execute}, so no prediction could end it early. Raise `execute` or train "
                f"with a smaller offset."
            )

    def wants_values(self, state: ControllerState) -> bool:
        """See :meth:`Controller.wants_values`: at the ticks that the newest call predicted."""
        return bool(state.plans) and state.tick in state.plans[-1].future

    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """See :meth:`Controller.watch`."""
        close = self.close(state, state.tick, seen)
        if close is None:
            return state
        return state.count("early_calls", 0) if close else self.early(state, "early_calls")
