"""The closed loop: simulators in worker processes, decisions in this one, never waiting for each other.

The slots form two groups. While the workers simulate one group, this process decides for the other. Groups
are served in strict turn and slots in order, so what is batched with what depends on the episodes alone: the
same plan gives the same batches and the same numbers, however fast the machine is. When no episode is left for one of
the groups, the other one is split, so that the last episodes are simulated and decided for at the same time as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode, Queue
from wamkit.evaluation.closed_loop.pilot import Pilot
from wamkit.evaluation.closed_loop.policy import Simulators, SimulatorStep

EpisodeHook = Callable[[EpisodeRun], None]


@dataclass(frozen=True)
class LoopResult:
    """Finished episodes in plan order, and the seconds from the end of the first resets to the last answer."""

    runs: tuple[EpisodeRun, ...]
    seconds: float


def two_groups(slots: Sequence[int], workers: int) -> list[tuple[int, ...]]:
    """Deal slots to two groups, each spread over all workers (slot i lives in worker i % workers); none is empty."""
    by_worker = [[slot for slot in slots if slot % workers == worker] for worker in range(workers)]
    halves = [tuple(sorted(slot for own in by_worker for slot in own[half::2])) for half in (0, 1)]
    return [half for half in halves if half]


class ClosedLoop:
    """Runner of a plan of episodes through simulators in slots.

    Args:
        simulators: simulators, one per slot.
        slots: number of slots used.
        workers: number of worker processes; slot i lives in worker i % workers.
        pilot: source of all decisions.
        max_ticks: control ticks after which an episode is out of time.
    """

    def __init__(
        self, simulators: Simulators, slots: int, workers: int, pilot: Pilot, max_ticks: int
    ) -> None:
        self._simulators = simulators
        self._workers = min(workers, slots)
        self._groups = two_groups(range(slots), self._workers)
        self._pilot = pilot
        self._max_ticks = max_ticks
        self._running: dict[int, EpisodeRun] = {}
        self._done: list[EpisodeRun] = []

    def run(
        self,
        plan: Sequence[PlannedEpisode],
        ready: Callable[[Sequence[EpisodeRun]], None] = lambda runs: None,
        finished: EpisodeHook = lambda run: None,
    ) -> LoopResult:
        """Run all episodes.

        Args:
            plan: the episodes.
            ready: called once, when the first episodes are reset and all simulators stand still.
            finished: called after each episode.
        """
        queue = Queue(plan)
        for slot in sorted(slot for group in self._groups for slot in group):
            self._start(slot, queue.next(None))
        first = self._simulators.wait(sorted(self._running))
        self._absorb(first)
        ready([run for _, run in sorted(self._running.items()) if run.status is None])
        start = time.perf_counter()
        for group in self._groups:
            self._serve(group, queue, finished)
        while self._running:
            self._balance()
            for group in self._groups:
                busy = [slot for slot in group if slot in self._running]
                if busy:
                    self._absorb(self._simulators.wait(busy))
                    self._serve(group, queue, finished)
        seconds = time.perf_counter() - start
        return LoopResult(tuple(sorted(self._done, key=lambda run: run.order)), seconds)

    def _start(self, slot: int, run: EpisodeRun | None) -> None:
        if run is None:
            return
        self._running[slot] = run
        plan = run.plan
        self._simulators.reset_async(
            slot,
            plan.seed,
            instruction=plan.instruction,
            config=plan.config,
            perturbation=plan.variant.perturbation if plan.variant is not None else None,
        )

    def _balance(self) -> None:
        """Split what is left when a group has run out of episodes, which only happens when the plan has."""
        if not all(any(slot in self._running for slot in group) for group in self._groups):
            self._groups = two_groups(sorted(self._running), self._workers)

    def _absorb(self, steps: Mapping[int, SimulatorStep]) -> None:
        for slot, step in sorted(steps.items()):
            run = self._running[slot]
            fresh = not run.frames
            run.absorb(step, self._max_ticks)
            if fresh and run.status is None:
                self._pilot.begin(run)

    def _serve(self, group: Sequence[int], queue: Queue, finished: EpisodeHook) -> None:
        """Replace finished episodes, then decide for the others: the resets run while the policy computes."""
        alive = self._replace_finished(group, queue, finished)
        blocks = self._pilot.decide([run for _, run in alive])
        for slot, run in alive:
            if run.order in blocks:
                block = blocks[run.order]
                self._simulators.step_async(slot, block.actions, block.look)
        self._replace_finished([slot for slot, run in alive if run.status is not None], queue, finished)

    def _replace_finished(
        self, slots: Sequence[int], queue: Queue, finished: EpisodeHook
    ) -> list[tuple[int, EpisodeRun]]:
        alive = []
        for slot in slots:
            run = self._running.get(slot)
            if run is None:
                continue
            if run.status is None:
                alive.append((slot, run))
                continue
            del self._running[slot]
            self._done.append(run)
            run.release()
            finished(run)
            self._start(slot, queue.next(run.plan.task))
        return alive
