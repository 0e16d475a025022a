"""Verb ``collect``: scripted demonstrations from worker processes, written as one LeRobot v3 dataset.

Equal configs give equal frames, regardless of the number of workers: an attempt depends on its seed alone, the first
``episodes`` successes of a task are kept, and they are written in the order of their seeds. Training seeds lie below
1_000_000, evaluation seeds above (:func:`wamkit.envs.episode_seed`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from multiprocessing.connection import wait as wait_readable
from pathlib import Path
from typing import Annotated, Any

from wamkit.config.ranges import Count, Positive, Range, Seed, Size, SomeWords, Words
from wamkit.config.values import Config
from wamkit.data import layout
from wamkit.data.episode import Episode
from wamkit.data.writer import DatasetWriter
from wamkit.envs.base import EnvConfig, episode_seed
from wamkit.envs.demonstrations import ActionNoise, DemonstrationAttempt, Recorded, record_demonstration
from wamkit.envs.metaworld import MetaWorldConfig
from wamkit.envs.worker import Worker
from wamkit.errors import ConfigError, DataError
from wamkit.progress import shown, stage
from wamkit.storage.output import Result, inputs_document, require_free
from wamkit.verbs.inputs import inputs_of

REQUESTS_PER_WORKER = 2  # one running, one waiting, so that a worker never idles while an episode is written
MAX_DISCARDED = 3  # attempts per requested episode before a task counts as not demonstrable
OVERRIDES = (
    "record",
    "cameras",
    "image_size",
    "action_repeat",
    "max_ticks",
)  # options that replace a field of `env`


@dataclass(frozen=True)
class CollectConfig(Config):
    """Settings of a collection of scripted demonstrations.

    Attributes:
        out: folder of the new dataset, which must not exist unless ``overwrite`` is set.
        tasks: names of the tasks to demonstrate.
        episodes: number of successful episodes per task.
        seed: seed of the collection, 0 to 99. Collections with different seeds do not share episodes.
        workers: number of simulator processes.
        noise: disturbances of the executed actions.
        recorded: action to store: the demonstrator's ``clean`` one, to imitate, or the ``executed`` one, from which the
            next observation follows. A world model needs the latter; without noise both are equal.
        tail_ticks: control ticks to record after success.
        env: environment of the demonstrations; its task is replaced by each of ``tasks`` in turn.
        record: kinds of ground truth to store with the observations, null for those of ``env``. This option and the
            next four override ``env``, and are refused if the environment does not have them.
        cameras: cameras to record, null for those of ``env``.
        image_size: height and width of the images in pixels, null for that of ``env``.
        action_repeat: physics ticks per control tick, null for that of ``env``.
        max_ticks: control ticks before an attempt is discarded, null for that of ``env``.
        overwrite: true to replace an existing dataset at ``out`` once the new one is complete.
        timeout_s: time limit of one attempt, after which the collection is aborted, seconds.
    """

    out: Path
    tasks: SomeWords
    episodes: Count = 50
    seed: Seed = 0
    workers: Annotated[int, Range(1, 1024)] = 2
    noise: ActionNoise = field(default_factory=ActionNoise)
    recorded: Recorded = "clean"
    tail_ticks: Count = 4
    env: EnvConfig = field(default_factory=MetaWorldConfig)
    record: Words | None = None
    cameras: Words | None = None
    image_size: Annotated[int, Range(8, 4096)] | None = None
    action_repeat: Size | None = None
    max_ticks: Count | None = None
    overwrite: bool = False
    timeout_s: Positive = 120.0

    def __post_init__(self) -> None:
        if self.out.name in ("", ".."):
            raise ConfigError(f"collect: out = {str(self.out)!r} has no name of its own. Name a new folder.")
        offered = {f.name for f in fields(self.env)}
        for name, value in self.overrides().items():
            if name not in offered:
                raise ConfigError(
                    f"collect: {name} = {value} cannot be set: {type(self.env).__name__} has the options "
                    f"{', '.join(sorted(offered))}. Leave {name} out or choose another env.type."
                )
        for task in self.tasks:
            self.environment(task)  # raises with a hint if the task or an option is invalid
        episode_seed("train", self.seed, self.episodes)

    def overrides(self) -> dict[str, Any]:
        """Options of :data:`OVERRIDES` that are set and therefore replace a field of ``env``."""
        values = {name: getattr(self, name) for name in OVERRIDES}
        return {name: value for name, value in values.items() if value is not None}

    def environment(self, task: str) -> EnvConfig:
        """Config of the environment in which ``task`` is demonstrated."""
        return replace(self.env, task=task, **self.overrides())


@dataclass(frozen=True)
class TaskCount:
    """Attempts at one task.

    Attributes:
        kept: number of successful attempts, all of which are stored.
        tried: number of all attempts.
    """

    kept: int
    tried: int


@dataclass(frozen=True)
class CollectReport:
    """Result of a collection.

    Attributes:
        tasks: counts of attempts by task; unsuccessful attempts were discarded.
        frames: number of frames in the dataset.
        seconds: wall time, including the start of the workers.
    """

    tasks: dict[str, TaskCount]
    frames: int
    seconds: float


class _Attempts:
    """Attempts at one task: the next seed, and the number of successes still missing.

    No attempt is begun while the running ones may suffice. The attempts made are therefore always the first ones, up to
    the one with the last success needed, regardless of the order in which they finish.
    """

    def __init__(self, config: CollectConfig, task: str) -> None:
        self._config, self.task = config, task
        self._waiting: dict[int, DemonstrationAttempt] = {}  # finished, while an earlier one is still running
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
        """True once all episodes are finished and released."""
        return self._released == self.begun and self.missing == 0

    @property
    def missing(self) -> int:
        """Number of attempts that can be begun now without risking a superfluous one."""
        return self._config.episodes - self._successes - (self.begun - self._answered)

    def begin(self) -> tuple[int, int]:
        """Index and seed of the next attempt.

        Raises:
            DataError: too many attempts failed.
        """
        if self.begun >= MAX_DISCARDED * self._config.episodes + 10:
            raise DataError(
                f"collect, task {self.task!r}: only {self._successes} of {self._answered} attempts "
                f"succeeded with {self._config.noise} and "
                f"max_ticks = {self._config.environment(self.task).max_ticks}. Use less noise or more ticks."
            )
        self.begun += 1
        return self.begun - 1, episode_seed("train", self._config.seed, self.begun - 1)

    def end(self, index: int, recording: DemonstrationAttempt) -> None:
        """Accept the result of attempt ``index``."""
        self._waiting[index] = recording
        self._answered += 1
        self._successes += recording.success

    def release(self) -> Iterator[DemonstrationAttempt]:
        """Yield the successes whose turn has come, in the order of their seeds."""
        while self._released in self._waiting:
            recording = self._waiting.pop(self._released)
            self._released += 1
            if recording.success:
                yield recording


def collect(config: CollectConfig, progress: bool = True) -> CollectReport:
    """Record ``config.episodes`` successful demonstrations of every task into a new dataset.

    Nothing is written to ``config.out`` until the dataset is complete, so Ctrl-C or a dead worker leaves no dataset.

    Args:
        config: settings of the collection.
        progress: true to show a progress bar.

    Raises:
        ConfigError: ``out`` holds a dataset and is not to be replaced; the message names what differs.
        DataError: ``out`` is something else, the simulator cannot record demonstrations, or the demonstrator fails too
            often.
        WorkerLostError: a simulator process died or hung.
    """
    start = time.perf_counter()
    env = config.environment(config.tasks[0])
    inputs, frames = inputs_of_collection(config), 0
    require_free(Result(config.out / layout.INFO, "collect"), inputs, config.overwrite)
    with (
        DatasetWriter(
            config.out,
            env.observation_spec(),
            env.action_spec(),
            robot_type=env.robot_type,
            extras=env.extras_spec(),
            overwrite=config.overwrite,
            made_of=inputs_document("collect", inputs, finished=True),
        ) as writer,
        shown("collect", progress),
        stage("demonstrations", config.episodes * len(config.tasks)) as here,
    ):
        queue = [_Attempts(config, task) for task in config.tasks]
        for task, recording in _record(config, queue):
            writer.add(_episode(recording))
            frames += len(recording.action)
            here.advance(1, task)
    counts = {attempts.task: attempts.count for attempts in queue}
    return CollectReport(counts, frames, time.perf_counter() - start)


def inputs_of_collection(config: CollectConfig) -> dict[str, Any]:
    """Everything that determines the frames: the config with its overrides in ``env``, whoever does the work."""
    inputs = inputs_of(replace(config, env=config.environment(config.tasks[0])))
    env = {name: value for name, value in inputs["env"].items() if name != "task"}
    indecisive = ("workers", "timeout_s", *OVERRIDES)
    return {**{name: value for name, value in inputs.items() if name not in indecisive}, "env": env}


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
    """Yield task and recording of every success, task by task, in the order of their seeds."""
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
            _assign(config, queue, workers, requests)  # before writing, so that no worker idles meanwhile
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
