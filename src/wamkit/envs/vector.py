"""Many environments at once: slots spread over worker processes.

A request carries a whole chunk of actions, so a worker simulates without round trips and renders only the requested
ticks. Requests are asynchronous: the caller may compute while the workers simulate.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_readable
from types import TracebackType
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from wamkit.envs.base import EnvConfig, OutOfReachError
from wamkit.envs.facts import Facts
from wamkit.envs.perturbations import Perturbation
from wamkit.envs.worker import Answer, Worker, WorkerLostError, WorkerState, words
from wamkit.errors import ConfigError, SpecError, WamkitError


@dataclass(frozen=True)
class Step:
    """Answer of a slot to a reset or a chunk of actions.

    Attributes:
        observations: observations, one per requested tick that was reached, plus the last one if the episode ended.
        ticks: episode tick of each observation; 0 is the tick after the reset.
        executed: number of executed actions.
        success: true if the task is solved.
        done: true if the episode is over, by success, out of time or because the demonstrator gave up.
        error: traceback or description of a fault, or None. An error does not reflect on the policy: the episode
            counts as neither success nor failure. The slot needs a reset.
        facts: privileged facts, one per executed action, for reports only; empty if the simulator reports none.
    """

    observations: tuple[dict[str, Any], ...] = ()
    ticks: tuple[int, ...] = ()
    executed: int = 0
    success: bool = False
    done: bool = False
    error: str | None = None
    facts: tuple[Facts, ...] = ()


@final
class VectorEnv:
    """Slots over worker processes.

    Slot i lives in worker ``i % workers``; the slots of one worker take turns. Each slot runs one episode and accepts
    one request at a time. A slot whose simulator raises, or that receives an action that is not finite or has the wrong
    width, reports ``Step.error``; the others continue. When a worker dies or times out, the episodes running in it
    report an error. A new worker replaces it at the next reset, and takes over the resets that waited for the dead one.

    Args:
        configs: default environment of each slot.
        workers: number of processes.
        timeout_s: time limit of one request, including building an environment, seconds.

    Raises:
        ConfigError: no slot or no worker.
    """

    def __init__(self, configs: Sequence[EnvConfig], workers: int = 2, timeout_s: float = 120.0) -> None:
        if not configs or workers < 1:
            raise ConfigError(
                f"VectorEnv: {len(configs)} slots over {workers} workers; both must be at least 1."
            )
        self._configs = tuple(configs)
        self._timeout_s = timeout_s
        self._workers: list[Worker | None] = [None] * min(workers, len(configs))
        self._answered: dict[int, Step] = {}
        self._pending: set[int] = set()
        self._lost: dict[int, str] = {}  # slot -> why its episode was lost with its worker
        self._running: set[int] = set()
        self._starting: dict[int, tuple[Any, ...]] = {}  # slot -> unanswered request that begins an episode
        self._closed = False

    def __enter__(self) -> VectorEnv:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the running workers."""
        return tuple(worker.pid for worker in self._workers if worker is not None)

    def reset_async(
        self,
        slot: int,
        seed: int,
        instruction: str | None = None,
        config: EnvConfig | None = None,
        perturbation: Perturbation | None = None,
    ) -> None:
        """Begin the episode of ``seed``; the answer contains its first observation.

        Args:
            slot: index of the slot.
            seed: environment seed of the episode; see :func:`wamkit.envs.episode_seed`.
            instruction: instruction in plain language; None for the canonical one.
            config: environment to run in the slot from now on; None for the current one.
            perturbation: change of this episode.
        """
        self._start(slot, config, reset_slot, seed, instruction, perturbation)

    def play_async(
        self,
        slot: int,
        seed: int,
        instruction: str | None = None,
        config: EnvConfig | None = None,
        perturbation: Perturbation | None = None,
    ) -> None:
        """Let the scripted demonstrator play a whole episode without rendering; the answer holds the outcome.

        The arguments are those of :meth:`reset_async`. The time limit applies to the whole episode.
        """
        self._start(slot, config, play_slot, seed, instruction, perturbation)

    def step_async(self, slot: int, actions: NDArray[Any], look: Sequence[int] | None = None) -> None:
        """Execute a chunk of actions, stopping early when the episode ends.

        Args:
            slot: index of the slot.
            actions: (K, A), in the units of the action spec.
            look: actions after which to observe, ascending from 1 to K; None observes after the last.
        """
        self._begin(slot)
        if slot in self._lost or slot not in self._running:
            reason = self._lost.get(slot, f"slot {slot} does not have a running episode.")
            self._answered[slot] = Step(error=f"{reason} Reset the slot.")
            return
        looks = (len(actions),) if look is None else tuple(look)
        self._submit(slot, step_slot, slot, np.asarray(actions), looks)

    def wait(self, slots: Iterable[int]) -> dict[int, Step]:
        """Wait for the answers of ``slots``, all of which must have a pending request.

        Raises:
            RuntimeError: a slot without a pending request.
        """
        wanted = list(slots)
        for slot in wanted:
            if slot not in self._pending:
                raise RuntimeError(f"slot {slot} does not have a pending request; nothing will ever answer.")
        while any(slot not in self._answered for slot in wanted):
            self._collect()
        self._pending.difference_update(wanted)
        return {slot: self._answered.pop(slot) for slot in wanted}

    def close(self) -> None:
        """Kill all workers. Safe to call twice."""
        self._closed = True
        for worker in self._workers:
            if worker is not None:
                worker.stop()
        self._workers = [None] * len(self._workers)

    def _begin(self, slot: int) -> None:
        if self._closed:
            raise RuntimeError("this VectorEnv is closed; create a new one.")
        if not 0 <= slot < len(self._configs):
            raise ConfigError(f"slot {slot} does not exist: there are {len(self._configs)}.")
        if slot in self._pending:
            raise RuntimeError(f"slot {slot} has a pending request; wait for it first.")
        self._pending.add(slot)

    def _start(self, slot: int, config: EnvConfig | None, function: Any, *arguments: Any) -> None:
        self._begin(slot)
        if config is not None:
            self._configs = (*self._configs[:slot], config, *self._configs[slot + 1 :])
        self._lost.pop(slot, None)
        self._running.add(slot)
        self._starting[slot] = (function, slot, self._configs[slot], *arguments)
        self._submit(slot, *self._starting[slot])

    def _submit(self, slot: int, function: Any, *arguments: Any) -> None:
        index = slot % len(self._workers)
        worker = self._workers[index]
        if worker is None:
            worker = self._workers[index] = Worker(f"simulator worker {index}", self._timeout_s)
        try:
            worker.submit(slot, function, *arguments)
        except WorkerLostError as error:
            worker.pending.append(slot)
            self._bury(index, worker, str(error), guilty=None)

    def _collect(self) -> None:
        """Take all available answers, or wait for the next answer or deadline."""
        busy = {
            index: worker
            for index, worker in enumerate(self._workers)
            if worker is not None and worker.pending
        }
        due = min(worker.deadline for worker in busy.values())
        ready = wait_readable(
            [worker.connection for worker in busy.values()], timeout=max(0.0, due - time.monotonic()) + 0.01
        )
        for index, worker in busy.items():
            try:
                if worker.connection in ready:
                    self._take(worker.receive())
                else:
                    worker.require_in_time()
            except WorkerLostError as error:
                self._bury(index, worker, str(error), guilty=worker.pending[0] if worker.pending else None)

    def _take(self, answer: Answer) -> None:
        self._starting.pop(answer.key, None)
        step = Step(error=answer.error) if answer.error is not None else answer.value
        self._answered[answer.key] = step
        if step.error is not None:
            self._running.discard(answer.key)

    def _bury(self, index: int, worker: Worker, reason: str, guilty: int | None) -> None:
        """Remove a dead worker: report an error for every episode that ran in it, and restart those that waited.

        Args:
            index: index of the worker.
            worker: the dead worker.
            reason: cause of death, for the errors.
            guilty: slot whose request the worker was serving, None if unknown.
        """
        waiting = [slot for slot in worker.pending if slot in self._starting and slot != guilty]
        for slot in range(index, len(self._configs), len(self._workers)):
            if slot in waiting:
                continue
            if slot in worker.pending:
                self._answered[slot] = Step(error=reason)
            elif slot in self._running:
                self._lost[slot] = f"{reason} The episode of slot {slot} was lost with it."
            self._running.discard(slot)
            self._starting.pop(slot, None)
        worker.stop()
        self._workers[index] = None
        for slot in waiting:
            self._submit(slot, *self._starting[slot])


@contextmanager
def broken_discarded(session: WorkerState, slot: int) -> Iterator[None]:
    """Discard the environment of a slot if the block raises, because its state is then unknown."""
    try:
        yield
    except Exception:
        session.discard(slot)
        raise


def reset_slot(
    session: WorkerState,
    slot: int,
    config: EnvConfig,
    seed: int,
    instruction: str | None,
    perturbation: Perturbation | None,
) -> Step:
    """Worker side of :meth:`VectorEnv.reset_async`."""
    env = session.assign(slot, config)
    with broken_discarded(session, slot):
        env.restart(seed, instruction, perturbation)
        return Step((env.observe(),), (0,))


def play_slot(
    session: WorkerState,
    slot: int,
    config: EnvConfig,
    seed: int,
    instruction: str | None,
    perturbation: Perturbation | None,
) -> Step:
    """Worker side of :meth:`VectorEnv.play_async`."""
    env = session.assign(slot, config)
    with broken_discarded(session, slot):
        env.restart(seed, instruction, perturbation)
        try:
            expert = env.expert()
        except OutOfReachError:  # the demonstrator's failure, not a fault: the episode ends unsolved
            return Step(done=True)
        while True:
            outcome = env.advance(expert())
            if outcome.success or outcome.out_of_time:
                return Step(executed=env.tick, success=outcome.success, done=True)


def step_slot(session: WorkerState, slot: int, actions: NDArray[Any], look: tuple[int, ...]) -> Step:
    """Worker side of :meth:`VectorEnv.step_async`."""
    env = session.slots[slot][1]
    observations: list[dict[str, Any]] = []
    ticks: list[int] = []
    facts: list[Facts] = []
    executed, success, done = 0, False, False
    with broken_discarded(session, slot):
        try:
            _check_chunk(actions, look)
            for action in actions:
                outcome = env.advance(action)
                executed += 1
                success = outcome.success
                tick_facts = env.facts()
                facts += [] if tick_facts is None else [tick_facts]
                done = success or outcome.out_of_time
                if executed in look or done:
                    observations.append(env.observe())
                    ticks.append(env.tick)
                if done:
                    break
        except WamkitError as error:  # the simulator still runs, only this episode is over
            return Step(tuple(observations), tuple(ticks), executed, error=words(error))
    return Step(tuple(observations), tuple(ticks), executed, success, done, facts=tuple(facts))


def _check_chunk(actions: NDArray[Any], look: tuple[int, ...]) -> None:
    if actions.ndim != 2 or len(actions) == 0:
        raise SpecError(f"a chunk of actions has shape (K, A) with K at least 1, got {actions.shape}.")
    if any(not 1 <= tick <= len(actions) for tick in look) or list(look) != sorted(set(look)):
        raise SpecError(
            f"look = {look} must ascend from 1 to at most {len(actions)}, the actions of the chunk."
        )
