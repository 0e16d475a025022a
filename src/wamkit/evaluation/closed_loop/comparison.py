"""Comparison of predictions with observations, both as values of one future stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import final

from torch import Tensor

from wamkit.contract.types import Forecast, Observation, Perceived, WindowSpec
from wamkit.controllers import Controller, ValueArray
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, Senses, observe


@final
class StreamComparison:
    """Reads predicted and observed values of the stream that a controller compares.

    Args:
        perceived: encoder of observations into the stream.
        controller: controller that compares it.
        width: action width A.
    """

    def __init__(self, perceived: Perceived, controller: Controller, width: int) -> None:
        self._perceived = perceived
        self._controller = controller
        self._width = width
        self._senses = Senses(perceived.extras)

    def observed(self, run: EpisodeRun) -> ValueArray:
        """Encode the observation at the episode's tick, relative to the call whose prediction is compared."""
        values: ValueArray = self._perceived.encode(*self._seen([run]))[0].cpu().numpy()
        return values

    def rebased(self, runs: Sequence[EpisodeRun], values: Tensor) -> Tensor:
        """Express values (B, ...) predicted at an earlier tick of each episode as predictions made at this tick."""
        if self._perceived.rebase is None:
            return values
        return self._perceived.rebase(values, *self._seen(runs)).cpu()

    def _seen(self, runs: Sequence[EpisodeRun]) -> tuple[Observation, Observation]:
        """Observations of all episodes at this tick, and at the tick of the prediction that is compared."""
        called = [dataclasses.replace(r, tick=self._controller.compared_from(r.controller)) for r in runs]
        now, before = (observe(each, WindowSpec(), self._width, self._senses) for each in (runs, called))
        return now, before

    def predicted(self, forecast: Forecast) -> list[dict[int, ValueArray]]:
        """Return, for each row of a forecast, ticks after the call -> predicted values."""
        values = forecast.future[self._perceived.stream].detach().cpu().numpy()
        return [dict(zip(self._perceived.offsets, row, strict=True)) for row in values]
