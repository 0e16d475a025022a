"""Filming of predicted futures: forecasts are decoded into frames, shown later beside the frames that followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
from torch import Tensor

from wamkit.contract.types import Forecast
from wamkit.evaluation.closed_loop.attempt import Failed, attempt
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, ImaginedFrames
from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.closed_loop.tree import take_row


@final
class Filming:
    """Decodes the forecasts of filmed episodes.

    Args:
        policy: policy under test.
        imagine: calls the policy for one episode with its future generated; used for the picture only, where the
            policy acts without one. None if the policy's calls generate their futures themselves.
        note: receives a remark for the report on each forecast that could not be decoded.
    """

    def __init__(
        self,
        policy: Policy,
        imagine: Callable[[EpisodeRun], Forecast] | None,
        note: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._imagine = imagine
        self._note = note

    def film(self, run: EpisodeRun, forecast: Forecast, row: int, rows: int) -> None:
        """Add the decoded future of row ``row`` of ``rows`` to the episode if it is filmed and can be decoded."""
        if not run.plan.filmed:
            return
        result = attempt(self._decode, run, forecast, row, rows)
        if isinstance(result, Failed):
            place = f"{run.plan.task} seed {run.plan.seed} tick {run.tick}"
            self._note(f"no picture of {place}: {result.reason}")
        elif result is not None:
            run.imagined.append(result)

    def look(self, run: EpisodeRun, count: int) -> set[int]:
        """Return the 1-based positions among the next ``count`` actions that the filmed forecasts predict."""
        positions = {
            film.tick + offset - run.tick for film in run.imagined for offset in self._policy.window.future
        }
        return {position for position in positions if 1 <= position <= count}

    def _decode(self, run: EpisodeRun, forecast: Forecast, row: int, rows: int) -> ImaginedFrames | None:
        decoded, acted = self._policy.decode_future(take_row(forecast, row, rows)), True
        if decoded is None and self._imagine is not None:
            decoded, acted = self._policy.decode_future(self._imagine(run)), False
        if decoded is None:
            return None
        return ImaginedFrames(run.tick, {name: to_frames(video[0]) for name, video in decoded.items()}, acted)


def to_frames(video: Tensor) -> np.ndarray:
    """Convert a (F, 3, H, W) uint8 tensor to an (F, H, W, 3) array on the CPU."""
    return np.ascontiguousarray(video.detach().cpu().permute(0, 2, 3, 1).numpy())
