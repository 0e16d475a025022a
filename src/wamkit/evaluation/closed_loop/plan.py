"""Config of an evaluation, and the plan of episodes that follows from it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from wamkit.config.ranges import Count, Length, Positive, Range, Seed, SomeWords, Whole, Word, Words
from wamkit.config.values import Config
from wamkit.contract.types import Budget
from wamkit.controllers import Controller
from wamkit.envs import EnvConfig, MetaWorldConfig, episode_seed
from wamkit.envs.perturbations import DIMENSIONS
from wamkit.envs.perturbations.suite import Variant, clean, suite
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.episodes import PlannedEpisode

GOAL = "goal"  # name of the goal observation in `EvaluationConfig.drop`, beside the names of sensors

PromptMode = Literal["canonical", "paraphrase"]


@dataclass(frozen=True)
class Shard:
    """One part of an evaluation: the variants whose ids hash to its index.

    The hash is BLAKE2b of the id, so that every machine and version agrees.

    Attributes:
        index: number of the part, from 0.
        count: number of parts.
    """

    index: int
    count: int

    @staticmethod
    def parse(text: str) -> Shard:
        """Parse ``"0/4"``, the first of four; raises :class:`ConfigError` for text that does not name a shard."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()) or int(index) >= int(count):
            raise ConfigError(f"shard {text!r}: expected index/count with index below count, such as 0/4.")
        return Shard(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, variant: str) -> bool:
        """Return true if the variant with this id belongs to the shard."""
        digest = hashlib.blake2b(variant.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index


@dataclass(frozen=True)
class Shifts(Config):
    """Perturbed episodes that are run beside the clean ones; see :mod:`wamkit.envs.perturbations`.

    Attributes:
        per_dimension: number of variants per dimension, 0 for none.
        dimensions: names of the perturbed dimensions.
        strengths: strengths of the perturbations, from 1 to 5.
    """

    per_dimension: Whole = 0
    dimensions: Words = DIMENSIONS
    strengths: Annotated[tuple[Annotated[int, Range(1, 5)], ...], Length(once=True)] = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class EvaluationConfig(Config):
    """Closed-loop evaluation: tasks, episodes, simulators and budget.

    Attributes:
        tasks: names of the tasks.
        episodes: number of episodes per task.
        seed: seed of the evaluation, 0 to 99. Episode seeds follow from it by :func:`wamkit.envs.episode_seed` and
            are never those of a collection.
        env: simulator. Its task is replaced by each of ``tasks`` in turn.
        controller: controller that says when the policy is called and which actions are executed. None uses the
            policy's own.
        budget: budget of every model call.
        prompt_mode: wording of the instructions, ``canonical`` or ``paraphrase``. Paraphrases are the other wordings
            of a task in turn.
        workers: number of simulator processes.
        slots: number of simulators, spread over the workers. Half of them step while the policy decides for the
            others.
        threads: number of torch threads of the policy.
        films: number of filmed episodes per task, decoded future beside what happened.
        strips_per_film: number of forecasts shown per filmed episode.
        latency_calls: number of single-robot calls timed before the loop starts.
        timeout_s: seconds without an answer after which a simulator counts as dead.
        goals: dataset whose demonstrations show the goals, for designs that read one. The episode's seed chooses
            among the demonstrations of its task. A design that aims at the next subgoal sees the milestones in turn,
            each until the episode has progressed that far (:func:`wamkit.evaluation.closed_loop.goals.advance`);
            other designs see the last frame.
        drop: names of sensors flagged as missing at every step, or ``goal`` for the goal observation. The environment
            need not deliver them; a design without its goal uses its learned "no goal".
        request: variable of the design's context -> value that is requested in every call in place of its configured
            ``request``, such as ``quality: high`` (encoder ``metadata``).
        shifts: perturbed episodes run beside the clean ones. With ``per_dimension`` above 0 the clean arm is as long
            as that of one dimension, on the same tasks and seeds, and ``episodes`` is not used.
        shard: part of the evaluation to run, ``index/count`` such as ``0/4``. None runs all of it. A shard holds the
            variants whose ids hash to its index; see :func:`wamkit.evaluation.closed_loop.shards.merge`.
    """

    tasks: SomeWords = ("drawer-open-v3",)
    episodes: Count = 20
    seed: Seed = 0
    env: EnvConfig = field(default_factory=MetaWorldConfig)
    controller: Controller | None = None
    budget: Budget = field(default_factory=Budget)
    prompt_mode: PromptMode = "canonical"
    workers: Annotated[int, Range(1, 1024)] = 2
    slots: Annotated[int, Range(1, 1024)] = 8
    threads: Annotated[int, Range(1, 1024)] = 1
    films: Whole = 1
    strips_per_film: Whole = 3
    latency_calls: Whole = 20
    timeout_s: Positive = 60.0
    goals: Path | None = None
    drop: Words = ()
    request: dict[str, Word] = field(default_factory=dict)
    shifts: Shifts = field(default_factory=Shifts)
    shard: str | None = None

    def __post_init__(self) -> None:
        if self.shard is not None:
            Shard.parse(self.shard)


def plan_episodes(config: EvaluationConfig) -> list[PlannedEpisode]:
    """Plan the episodes of an evaluation or of its shard.

    Tasks are interleaved; the first ``films`` clean episodes of each task are filmed.

    Raises:
        ConfigError: the shard has no episodes, or the environment does not support a perturbation.
    """
    chosen = variants(config)
    if config.shard is not None:
        shard = Shard.parse(config.shard)
        chosen = tuple(variant for variant in chosen if shard.holds(variant.id))
        if not chosen:
            raise ConfigError(
                f"shard {shard} holds none of the {len(variants(config))} variants of this evaluation: it can be left "
                f"out, also when the other shards are merged."
            )
    return [
        PlannedEpisode(
            task=variant.task,
            seed=episode_seed("evaluate", config.seed, variant.episode),
            instruction=_instruction(config.env, variant.task, config.prompt_mode, variant.episode),
            config=dataclasses.replace(config.env, task=variant.task),
            filmed=variant.episode < config.films and variant.perturbation is None,
            variant=variant,
        )
        for variant in chosen
    ]


def variants(config: EvaluationConfig) -> tuple[Variant, ...]:
    """Return the variants of an evaluation, of all its shards, the clean arm first.

    Raises:
        ConfigError: the environment does not support a perturbation.
    """
    shifts = config.shifts
    if shifts.per_dimension:
        kinds = config.env.perturbations()
        return suite(config.tasks, kinds, shifts.per_dimension, shifts.dimensions, shifts.strengths)
    return tuple(clean(task, index) for index in range(config.episodes) for task in config.tasks)


def _instruction(env: EnvConfig, task: str, mode: PromptMode, index: int) -> str:
    canonical, *others = dataclasses.replace(env, task=task).phrases()
    if mode == "canonical":
        return canonical
    if not others:
        raise ConfigError(f"task {task!r} has no paraphrase; use prompt_mode = canonical.")
    return others[index % len(others)]


def shard_note(config: EvaluationConfig, plan: Sequence[PlannedEpisode]) -> list[str]:
    """Return the remark for a shard's report, or none for a whole evaluation."""
    if config.shard is None:
        return []
    whole = len(variants(config))
    return [f"shard {config.shard}: {len(plan)} of the evaluation's {whole} episodes, not all of it"]
