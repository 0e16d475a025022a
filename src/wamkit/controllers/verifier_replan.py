"""Verification of predictions: a chunk ends early when its predicted future does not come true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from wamkit.controllers.base import Controller, ControllerState, Seen
from wamkit.controllers.comparing import Comparing
from wamkit.errors import ConfigError


@Controller.register_subclass("verifier_replan")
@dataclass(frozen=True)
class VerifierReplan(Comparing):
    """Replan early when the observation deviates from the predicted future (FFDC-WAM; eq. 34, adaptive K).

    At every tick that the newest call predicted, the observation is encoded by the design's own substrate and
    compared with the prediction. A gap above the threshold requests a call at that tick; otherwise the chunk
    continues. A disturbance is noticed at the next predicted tick, at most ``execute`` ticks later.

    Attributes:
        execute: K, ticks between two calls while predictions come true.
        stream: name of the future stream that is compared. It needs an offset below ``execute``.
        threshold: largest gap that does not trigger a call, a root mean square difference or a share of differing
            token ids.
    """

    @override
    def check(self, mode: str, offsets: Sequence[int]) -> None:
        if not any(offset < self.execute for offset in offsets):
            raise ConfigError(
                f"Controller 'verifier_replan': stream {self.stream!r} predicts {tuple(offsets)} ticks ahead and a "
                f"chunk ends after {self.execute}, so no prediction could end it early. Raise `execute` or train "
                f"with a smaller offset."
            )

    @override
    def wants_values(self, state: ControllerState) -> bool:
        return bool(state.plans) and state.tick in state.plans[-1].future

    @override
    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        close = self.close(state, state.tick, seen)
        if close is None:
            return state
        return state.count("early_calls", 0) if close else self.early(state, "early_calls")
