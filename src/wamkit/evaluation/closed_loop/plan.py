"""What an evaluation is: its config, and the episodes that follow from it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
    """The variants whose id hashes to ``index`` among ``count`` parts.

    The hash is BLAKE2b of the id, so that every machine and version agrees.
    """

    index: int
    count: int

    @staticmethod
    def parse(text: str) -> Shard:
        """``"0/4"`` is the first of four; raises :class:`ConfigError` for anything that names no shard."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()) or int(index) >= int(count):
            raise ConfigError(f"shard {text!r}: expected index/count with index below count, such as 0/4.")
        return Shard(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, variant: str) -> bool:
        """Whether the variant with this id belongs to it."""
        digest = hashlib.blake2b(variant.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index


@dataclass(frozen=True)
class Shifts:
    """Which perturbed episodes are run beside the clean ones; see :mod:`wamkit.envs.perturbations`.

    Attributes:
        per_dimension: variants per dimension; 0 perturbs nothing.
        dimensions: names of the dimensions.
        strengths: 1 to 5.
    """

    per_dimension: int = 0
    dimensions: tuple[str, ...] = DIMENSIONS
    strengths: tuple[int, ...] = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class EvaluationConfig:
    """One evaluation.

    Attributes:
        tasks: task names.
        episodes: episodes per task.
        seed: run seed, 0 to 99; episode seeds follow from it by :func:`wamkit.envs.episode_seed` and are
            never those of a collection.
        env: the simulator; its task is replaced by each of ``tasks`` in turn.
        controller: when the policy is called and what is executed; None takes the policy's own.
        budget: what a call may spend.
        prompt_mode: ``canonical`` instructions, or ``paraphrase`` (the other wordings in turn).
        workers: simulator processes.
        slots: simulators, spread over the workers; half of them move while the policy decides for the others.
        threads: torch threads of the policy.
        films: filmed episodes per task: the decoded future beside what happened.
        strips_per_film: forecasts shown per filmed episode.
        latency_calls: single-robot calls timed before the loop starts.
        timeout_s: seconds after which a silent simulator counts as dead.
        goals: dataset whose demonstrations show the goals, for designs that read one; the episode's seed chooses
            among those of its task. A design that aims at the next subgoal sees the milestones in turn, each until
            the episode has come as far (:func:`wamkit.evaluation.closed_loop.goals.advance`); else the last frame.
        shifts: what is perturbed. With ``per_dimension`` above 0 the clean arm is as long as a dimension's, on the
            same tasks and seeds, and ``episodes`` is not used.
        shard: ``index/count``, such as ``0/4``: only the variants whose id hashes there; None runs all. See
            :func:`wamkit.evaluation.closed_loop.shards.merge`.
        drop: sensors (names of extras) that are flagged as missing in every step, or ``goal``, so that the design
            sees its "no goal". The environment need not deliver them.
    """

    tasks: tuple[str, ...] = ("drawer-open-v3",)
    episodes: int = 20
    seed: int = 0
    env: EnvConfig = field(default_factory=MetaWorldConfig)
    controller: Controller | None = None
    budget: Budget = field(default_factory=Budget)
    prompt_mode: PromptMode = "canonical"
    workers: int = 2
    slots: int = 8
    threads: int = 1
    films: int = 1
    strips_per_film: int = 3
    latency_calls: int = 20
    timeout_s: float = 60.0
    goals: Path | None = None
    drop: tuple[str, ...] = ()
    shifts: Shifts = field(default_factory=Shifts)
    shard: str | None = None

    def __post_init__(self) -> None:
        for name in ("episodes", "workers", "slots", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"EvaluationConfig: `{name}` must be at least 1, got {getattr(self, name)}."
                )
        if self.shard is not None:
            Shard.parse(self.shard)
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ConfigError(f"EvaluationConfig: `tasks` must name each task once, got {list(self.tasks)}.")


def plan_episodes(config: EvaluationConfig) -> list[PlannedEpisode]:
    """The episodes of an evaluation or of its shard, tasks interleaved, the first ``films`` clean ones of each task
    filmed.

    Raises:
        ConfigError: the shard has none, or what cannot be perturbed is to be perturbed.
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
    """The variants of an evaluation, of all its shards, the clean arm first.

    Raises:
        ConfigError: what cannot be perturbed is to be perturbed.
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
    """What a reader of a shard's report must know."""
    if config.shard is None:
        return []
    whole = len(variants(config))
    return [f"shard {config.shard}: {len(plan)} of the evaluation's {whole} episodes, not all of it"]
