"""Scripted demonstrations on disk: experts in worker processes, one LeRobot v3 dataset out.

The same configuration gives the same frames, whatever the number of workers: an attempt depends on its seed
alone, the first ``episodes`` successes of a task are kept, and they are written in the order of their seeds.
Training seeds lie below 1_000_000, where no evaluation seed does (:func:`wamkit.envs.episode_seed`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_readable
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wamkit.data.episode import Episode
from wamkit.data.writer import DatasetWriter
from wamkit.envs.base import episode_seed, instructions
from wamkit.envs.demonstrations import ActionNoise, DemonstrationAttempt, Recorded, record_demonstration
from wamkit.envs.ground_truth import extras_spec
from wamkit.envs.metaworld import MetaWorldConfig
from wamkit.envs.worker import Worker
from wamkit.errors import ConfigError, DataError

REQUESTS_PER_WORKER = 2  # one running, one waiting: the worker never idles while an episode is written
MAX_DISCARDED = 3  # attempts per wanted episode before a task counts as not demonstrable


@dataclass(frozen=True)
class CollectConfig:
    """What to collect.

    Attributes:
        out: folder of the new dataset; it must not exist unless ``overwrite``.
        tasks: MetaWorld tasks.
        episodes: successful episodes per task.
        seed: 0 to 99; two collections with different seeds share no episode.
        workers: simulator processes.
        noise: disturbances of the executed action.
        recorded: which action is stored: the demonstrator's ``clean`` one, to imitate, or the ``executed`` one, so that
            what is seen next follows from it. A world model needs the latter; without noise they are the same.
        tail_ticks: control ticks recorded after success.
        record: ground truth to store beside the observations; see :mod:`wamkit.envs.ground_truth`.
        cameras: cameras to record.
        image_size: height and width of the pictures, pixels.
        action_repeat: physics ticks per control tick.
        max_ticks: control ticks before an attempt is discarded.
        overwrite: replace a dataset at ``out``, at the moment the new one is complete.
        timeout_s: seconds that one attempt may take before the run is given up.
    """

    out: Path
    tasks: tuple[str, ...]
    episodes: int = 50
    seed: int = 0
    workers: int = 2
    noise: ActionNoise = field(default_factory=ActionNoise)
    recorded: Recorded = "clean"
    tail_ticks: int = 4
    record: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ("scene", "gripper")
    image_size: int = 64
    action_repeat: int = 2
    max_ticks: int = 200
    overwrite: bool = False
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ConfigError(f"collect: tasks = {self.tasks} must name at least one task, each once.")
        for task in self.tasks:
            instructions(task)  # raises with a hint when there is no such task
        for name, least in (("episodes", 1), ("workers", 1), ("tail_ticks", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"collect: {name} = {getattr(self, name)} must be at least {least}.")
        episode_seed("train", self.seed, self.episodes)

    def environment(self, task: str) -> MetaWorldConfig:
        """The environment that ``task`` is demonstrated in."""
        return MetaWorldConfig(
            task=task,
            image_size=self.image_size,
            action_repeat=self.action_repeat,
            max_ticks=self.max_ticks,
            cameras=self.cameras,
            record=self.record,
        )


@dataclass(frozen=True)
class TaskCount:
    """Episodes of one task: how many were kept, and how many the demonstrator tried for that."""

    kept: int
    tried: int


@dataclass(frozen=True)
class CollectReport:
    """What a collection gave.

    Attributes:
        tasks: task -> counts. The difference of the two was discarded as not successful.
        frames: frames in the dataset.
        seconds: wall time, start of the workers included.
    """

    tasks: dict[str, TaskCount]
    frames: int
    seconds: float


class _Attempts:
    """The attempts at one task: which seed comes next, and how many successes are still missing.

    No attempt is begun while those under way could be enough. So the attempts made are the first ones, up to
    the one that gave the last success needed, in whatever order they came back.
    """

    def __init__(self, config: CollectConfig, task: str) -> None:
        self._config, self.task = config, task
        self._waiting: dict[int, DemonstrationAttempt] = {}  # answered, but an earlier one is still under way
        self._released = 0
        self._answered = 0
        self._successes = 0
        self.begun = 0

    @property
    def count(self) -> TaskCount:
        """Successes and attempts so far."""
        return TaskCount(self._successes, self.begun)

    @property
    def complete(self) -> bool:
        """Whether all episodes are there and released."""
        return self._released == self.begun and self.missing == 0

    @property
    def missing(self) -> int:
        """Attempts that can be begun now without ever making one too many."""
        return self._config.episodes - self._successes - (self.begun - self._answered)

    def begin(self) -> tuple[int, int]:
        """Index and seed of the next attempt.

        Raises:
            DataError: too many attempts failed.
        """
        if self.begun >= MAX_DISCARDED * self._config.episodes + 10:
            raise DataError(
                f"collect, task {self.task!r}: only {self._successes} of {self._answered} attempts "
                f"succeeded with {self._config.noise} and max_ticks = {self._config.max_ticks}. "
                f"Use less noise or more ticks."
            )
        self.begun += 1
        return self.begun - 1, episode_seed("train", self._config.seed, self.begun - 1)

    def end(self, index: int, recording: DemonstrationAttempt) -> None:
        """Take what attempt ``index`` gave."""
        self._waiting[index] = recording
        self._answered += 1
        self._successes += recording.success

    def release(self) -> Iterator[DemonstrationAttempt]:
        """The successes whose turn has come, in the order of their seeds."""
        while self._released in self._waiting:
            recording = self._waiting.pop(self._released)
            self._released += 1
            if recording.success:
                yield recording


def collect(config: CollectConfig, progress: bool = True) -> CollectReport:
    """Record ``config.episodes`` successful demonstrations of every task into a new dataset.

    Nothing lies at ``config.out`` until the dataset is complete: neither after Ctrl-C nor when a worker dies.

    Args:
        config: what to collect.
        progress: show a progress bar.

    Raises:
        DataError: ``out`` exists, or the demonstrator fails too often.
        WorkerLostError: a simulator process died or hung.
    """
    start = time.perf_counter()
    first = config.environment(config.tasks[0])
    size = (config.image_size, config.image_size)
    frames = 0
    with (
        DatasetWriter(
            config.out,
            first.observation_spec(),
            first.action_spec(),
            robot_type="metaworld_sawyer",
            extras=extras_spec(config.record, config.cameras, size),
            overwrite=config.overwrite,
        ) as writer,
        Progress(
            TextColumn("collect {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            disable=not progress,
        ) as bar,
    ):
        line = bar.add_task("", total=config.episodes * len(config.tasks))
        queue = [_Attempts(config, task) for task in config.tasks]
        for task, recording in _record(config, queue):
            writer.add(_episode(recording))
            frames += len(recording.action)
            bar.update(line, description=task, advance=1)
    counts = {attempts.task: attempts.count for attempts in queue}
    return CollectReport(counts, frames, time.perf_counter() - start)


def _episode(recording: DemonstrationAttempt) -> Episode:
    return Episode(
        images=dict(recording.images),
        state=recording.state,
        action=recording.action,
        task=recording.task,
        success=recording.success,
        extras=dict(recording.extras),
    )


def _record(config: CollectConfig, tasks: Sequence[_Attempts]) -> Iterator[tuple[str, DemonstrationAttempt]]:
    """Yield task and recording of every success, task by task, in the order of the seeds."""
    queue = list(tasks)
    requests: dict[int, tuple[_Attempts, int]] = {}
    with ExitStack() as stack:
        workers = []
        for index in range(config.workers):
            workers.append(Worker(f"collector {index}", config.timeout_s))
            stack.callback(workers[-1].stop)
        while queue:
            _assign(config, queue, workers, requests)
            readable = wait_readable([w.connection for w in workers if w.pending], timeout=1.0)
            for worker in workers:
                worker.require_in_time()
                if worker.connection in readable:
                    _receive(worker, requests)
            _assign(config, queue, workers, requests)  # before writing, so that no worker waits for it
            while queue:
                yield from ((queue[0].task, recording) for recording in queue[0].release())
                if not queue[0].complete:
                    break
                queue.pop(0)


def _receive(worker: Worker, requests: dict[int, tuple[_Attempts, int]]) -> None:
    answer = worker.receive()
    attempts, index = requests.pop(answer.key)
    if answer.error is not None:
        raise DataError(f"collect, task {attempts.task!r}, attempt {index}:\n{answer.error}")
    attempts.end(index, answer.value)


def _assign(
    config: CollectConfig,
    queue: Sequence[_Attempts],
    workers: Sequence[Worker],
    requests: dict[int, tuple[_Attempts, int]],
) -> None:
    """Keep every worker busy with the next attempts, the first unfinished task first."""
    for attempts in queue:
        while attempts.missing > 0:
            worker = min(workers, key=lambda w: len(w.pending))
            if len(worker.pending) >= REQUESTS_PER_WORKER:
                return
            index, seed = attempts.begin()
            key = max(requests, default=0) + 1
            requests[key] = (attempts, index)
            worker.submit(
                key,
                record_demonstration,
                config.environment(attempts.task),
                seed,
                config.noise,
                config.tail_ticks,
                config.recorded,
            )
