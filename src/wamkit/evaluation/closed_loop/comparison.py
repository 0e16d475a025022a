"""Comparison of predictions with observations, both as values of one future stream."""

from __future__ import annotations

import dataclasses
from typing import final

from wamkit.contract.types import Forecast, Perceived, WindowSpec
from wamkit.controllers import ValueArray
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, Senses, observe


@final
class StreamComparison:
    """Reads predicted and observed values of the stream that a controller compares.

    Args:
        perceived: encoder of observations into the stream.
        width: action width A.
        senses: extras shown to the encoder.
    """

    def __init__(self, perceived: Perceived, width: int, senses: Senses) -> None:
        self._perceived = perceived
        self._width = width
        self._senses = senses

    def observed(self, run: EpisodeRun) -> ValueArray:
        """Encode the observation at the episode's tick, relative to the call of its newest plan."""
        called = dataclasses.replace(run, tick=run.controller.plans[-1].start)
        now, before = (observe([r], WindowSpec(), self._width, self._senses) for r in (run, called))
        values: ValueArray = self._perceived.encode(now, before)[0].cpu().numpy()
        return values

    def predicted(self, forecast: Forecast) -> list[dict[int, ValueArray]]:
        """Return, for each row of a forecast, ticks after the call -> predicted values."""
        values = forecast.future[self._perceived.stream].detach().cpu().numpy()
        return [dict(zip(self._perceived.offsets, row, strict=True)) for row in values]
