"""Recordings: episodes simulated again with their recorded actions and rendered at every tick."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wamkit.controllers import ActionArray
from wamkit.errors import DataError
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode, Trace
from wamkit.evaluation.closed_loop.pilot import ReplayPilot
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.policy import RenderedFrame
from wamkit.evaluation.closed_loop.rollout import simulate


@dataclass(frozen=True)
class Recording:
    """One episode, tick by tick.

    Attributes:
        plan: planned episode.
        instruction: instruction that the policy was given.
        status: status at the end of the simulation, see :class:`wamkit.evaluation.report.episode.EpisodeRecord`.
        actions: executed actions (N, A), from tick 0 to N - 1.
        frames: N + 1 observations, tick 0 to N: ``images`` (camera -> (H, W, 3) uint8) and ``state`` (S,).
    """

    plan: PlannedEpisode
    instruction: str
    status: str
    actions: ActionArray
    frames: tuple[RenderedFrame, ...]


def record(config: EvaluationConfig, traces: Sequence[Trace], take: Callable[[Recording], None]) -> None:
    """Simulate episodes again and pass each to ``take`` when it has ended, in no guaranteed order.

    A simulator repeats its physics and its images, except where an image depends on the number of images rendered
    before it (dropped frames): a recording then has more such frames than the policy saw.

    Args:
        config: evaluation that the episodes belong to.
        traces: episodes to record.
        take: receives one recording at a time; nothing else keeps it.

    Raises:
        DataError: a simulator broke.
    """
    if not traces:
        return
    plan = [dataclasses.replace(trace.plan, filmed=True) for trace in traces]

    def finished(run: EpisodeRun) -> None:
        frames, run.frames = run.frames, {}
        if run.error is not None:
            last = run.error.strip().splitlines()[-1]
            raise DataError(
                f"record: episode {run.plan.key}: {last}. Evaluate again without films or exports."
            )
        actions = np.concatenate([block.actions for block in run.blocks])[: run.tick]
        observations = tuple(frames[tick] for tick in range(run.tick + 1))
        take(Recording(run.plan, run.instruction, run.status or "", actions, observations))

    simulate(config, plan, ReplayPilot(traces, look="always"), finished=finished)
