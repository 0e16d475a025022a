"""Open-loop errors of a policy: its actions against those that were recorded from the same observations.

Nothing is executed, so no simulator and no robot is needed, and nothing is said about what errors add up to in closed
loop. Two trivial policies stand beside it: ``repeat`` goes on with the action that was executed last (which holds still
where actions are absolute), ``mean`` always takes the mean action of what the policy was trained on. A policy that is
no better than these has learned nothing that this measure could see.
"""

from __future__ import annotations

from dataclasses import dataclass

from wamkit.evaluation.prediction.estimates import Estimate


@dataclass(frozen=True)
class OpenLoopRow:
    """Mean absolute error of one action entry, in its own unit.

    Attributes:
        column: name of the entry.
        step: number of the action within the chunk, from 1; None for the mean over the chunk.
        model: error of the policy.
        repeat: error of the last executed action, repeated; windows without an action before them are left out.
        mean: error of the mean action.
        over_repeat: ``repeat`` minus ``model``, window by window; positive where the policy is better.
        over_mean: ``mean`` minus ``model``, window by window; positive where the policy is better.
    """

    column: str
    step: int | None
    model: Estimate
    repeat: Estimate
    mean: Estimate
    over_repeat: Estimate
    over_mean: Estimate


@dataclass(frozen=True)
class Chunk:
    """Actions that were predicted by one call.

    Attributes:
        tick: tick of the episode at which the call was made.
        actions: (H, A), those beyond the end of the episode left out.
    """

    tick: int
    actions: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Trace:
    """One episode over time.

    Attributes:
        episode: its number in the dataset.
        recorded: recorded actions (T, A).
        chunks: what was predicted, a call from every observation at which the chunk before it ends.
    """

    episode: int
    recorded: tuple[tuple[float, ...], ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class OpenLoop:
    """Open-loop errors of a checkpoint.

    Attributes:
        rows: rows by entry, the mean over the chunk first.
        traces: episodes to draw.
        windows: number of windows.
        episodes: numbers of the episodes that they come from.
        rate_hz: control ticks per second.
    """

    rows: tuple[OpenLoopRow, ...]
    traces: tuple[Trace, ...]
    windows: int
    episodes: tuple[int, ...]
    rate_hz: float

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the action entries."""
        return tuple(dict.fromkeys(row.column for row in self.rows))

    def of_chunk(self) -> tuple[OpenLoopRow, ...]:
        """One row per entry: the mean over the chunk."""
        return tuple(row for row in self.rows if row.step is None)

    def of_steps(self, column: str) -> tuple[OpenLoopRow, ...]:
        """Rows of an entry by step."""
        return tuple(row for row in self.rows if row.column == column and row.step is not None)

    def headline(self) -> str:
        """Summary in one line: of how many entries the policy is better than both trivial ones beyond chance."""
        better = [
            row.column
            for row in self.of_chunk()
            if all(e.low is not None and e.low > 0 for e in (row.over_repeat, row.over_mean))
        ]
        return (
            f"open loop: better than repeating the last action and than the mean action in {len(better)} of "
            f"{len(self.columns)} action entries (95 % intervals above 0), n = {self.windows} windows of "
            f"{len(self.episodes)} {'episode' if len(self.episodes) == 1 else 'episodes'}"
        )
