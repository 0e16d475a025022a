"""Episodes simulated again with the actions that were recorded, now looking at every tick."""

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
from wamkit.evaluation.closed_loop.policy import Frame
from wamkit.evaluation.closed_loop.rollout import simulate


@dataclass(frozen=True)
class Recording:
    """One episode, tick by tick.

    Attributes:
        plan: the episode.
        instruction: the words the policy was given.
        status: how it ended this time, see :class:`wamkit.evaluation.report.episode.EpisodeRecord`.
        actions: (N, A), what was executed from tick 0 to N - 1.
        frames: N + 1 observations, tick 0 to N: ``images`` (camera -> (H, W, 3) uint8) and ``state`` (S,).
    """

    plan: PlannedEpisode
    instruction: str
    status: str
    actions: ActionArray
    frames: tuple[Frame, ...]


def record(config: EvaluationConfig, traces: Sequence[Trace], take: Callable[[Recording], None]) -> None:
    """Simulate these episodes again; ``take`` gets each when it has ended, in no promised order.

    A simulator shows the same physics again, and the same pictures, except where a picture depends on how many were
    taken before it (dropped frames): then the film has more of them than the policy saw.

    Args:
        config: the evaluation they are of.
        traces: its episodes.
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
        seen = tuple(frames[tick] for tick in range(run.tick + 1))
        take(Recording(run.plan, run.instruction, run.status or "", actions, seen))

    simulate(config, plan, ReplayPilot(traces, look="always"), finished=finished)
