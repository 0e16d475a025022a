"""The scripted expert beside a policy: what it would have done at every tick, and episodes in which it helps.

The expert is asked in the very state that the policy has brought about, so the gap between their actions says where and
when the policy goes wrong in closed loop. With a :class:`Takeover` the expert's action is executed in part: what a
policy lacks is what it succeeds without once the expert does it. Everything runs in this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from wamkit.envs.base import EnvConfig, ScriptedExpert, SimulatedEnv
from wamkit.envs.facts import Facts
from wamkit.envs.perturbations import Perturbation
from wamkit.envs.vector import Step
from wamkit.errors import ConfigError, WamkitError
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, plan_episodes
from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.closed_loop.rollout import prepare
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.failures import phases_of


@dataclass(frozen=True)
class Takeover:
    """Part of the actions that is the expert's.

    Attributes:
        phases: phases (:data:`wamkit.evaluation.report.failures.PHASES`) in which the expert acts.
        columns: entries of the action that it gives; empty for all.
    """

    phases: tuple[str, ...] = ()
    columns: tuple[int, ...] = ()

    def executed(
        self, action: NDArray[np.float32], expert: NDArray[np.float32], phase: str
    ) -> NDArray[np.float32]:
        """Action (A,) that is executed in ``phase``."""
        if phase not in self.phases:
            return action
        helped = action.copy()
        helped[list(self.columns) or slice(None)] = expert[list(self.columns) or slice(None)]
        return helped


@dataclass
class TutoredEpisode:
    """One episode of a policy, tick by tick.

    Attributes:
        task: task name.
        seed: episode seed.
        record: outcome of the episode, with its events.
        actions: actions of the policy (T, A).
        expert: the expert's actions in the same states (T, A).
        ages: (T,), actions since the policy's last decision.
        landmarks: positions before each action (T, L, 3), metres; see :meth:`wamkit.envs.SimulatedEnv.landmarks`.
        facts: facts before each action (T), and after the last one.
        images: tick -> camera -> (H, W, 3) uint8, where the policy looked.
    """

    task: str
    seed: int
    record: EpisodeRecord | None = None
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    expert: list[NDArray[np.float32]] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    landmarks: list[NDArray[np.float32]] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    images: dict[int, Mapping[str, NDArray[np.uint8]]] = field(default_factory=dict)

    @property
    def solved(self) -> bool:
        """True after success."""
        return self.record is not None and self.record.status == "success"

    @property
    def phases(self) -> tuple[str, ...]:
        """Phase before each action, (T,)."""
        return phases_of(self.facts)[: len(self.actions)]


def tutor(policy: Policy, config: EvaluationConfig, takeover: Takeover | None = None) -> list[TutoredEpisode]:
    """Run the episodes of an evaluation with the expert beside the policy, in the order of the plan.

    Args:
        policy: policy under test.
        config: settings of the evaluation; workers and films are not used.
        takeover: part of the actions that the expert gives; none by default.

    Raises:
        ConfigError: the simulator has no expert or reports no landmarks, the policy acts less often than its robot,
            or the expert is to act for a policy that reads its own past actions.
    """
    pilot, plan = prepare(policy, config), plan_episodes(config)
    takeover = takeover or Takeover()
    if takeover.phases and policy.window.past_actions:
        raise ConfigError(
            "tutor: the expert cannot act for a policy that reads its past actions, because the policy would not know "
            "what was executed. Leave `takeover` out."
        )
    if pilot.every != 1:
        raise ConfigError(
            f"tutor: the policy acts once in {pilot.every:g} control ticks, and gaps are measured at every one."
        )
    simulators = TutoredSimulators([episode.config for episode in plan[: config.slots]], takeover)
    try:
        loop = ClosedLoop(simulators, min(config.slots, len(plan)), 1, pilot, config.env.max_ticks)
        runs = loop.run(plan).runs
    finally:
        simulators.close()
    for run in runs:
        simulators.episodes[run.plan.task, run.plan.seed].record = run.record()
    return [simulators.episodes[run.plan.task, run.plan.seed] for run in runs]


@dataclass
class _Slot:
    """A simulator with its running episode."""

    config: EnvConfig
    env: SimulatedEnv
    expert: ScriptedExpert
    episode: TutoredEpisode


@final
class TutoredSimulators:
    """Simulators in this process that ask the expert before every action; see :func:`tutor`.

    Args:
        configs: environment of each slot.
        takeover: part of the actions that the expert gives.

    Attributes:
        episodes: task and seed -> episode.
    """

    def __init__(self, configs: Sequence[EnvConfig], takeover: Takeover) -> None:
        self._configs, self._takeover = configs, takeover
        self._slots: dict[int, _Slot] = {}
        self._answers: dict[int, Step] = {}
        self.episodes: dict[tuple[str, int], TutoredEpisode] = {}

    def reset_async(
        self,
        slot: int,
        seed: int,
        instruction: str | None = None,
        config: EnvConfig | None = None,
        perturbation: Perturbation | None = None,
    ) -> None:
        """Begin an episode in ``slot``."""
        config = config or self._configs[slot]
        env = self._environment(slot, config)
        env.restart(seed, instruction, perturbation)
        episode = self.episodes[config.task, seed] = TutoredEpisode(config.task, seed)
        self._slots[slot] = _Slot(config, env, env.expert(), episode)
        _read(env, episode)
        self._answers[slot] = Step((_seen(env, episode),), (0,))

    def _environment(self, slot: int, config: EnvConfig) -> SimulatedEnv:
        held = self._slots.get(slot)
        if held is not None and held.config == config:
            return held.env
        if held is not None:
            held.env.close()
        return config.build()

    def step_async(self, slot: int, actions: NDArray[Any], look: tuple[int, ...]) -> None:
        """Execute (K, A) actions, asking the expert before each."""
        held = self._slots[slot]
        observations: list[dict[str, Any]] = []
        ticks: list[int] = []
        before = len(held.episode.facts)
        success = done = False
        try:
            for age, action in enumerate(np.asarray(actions, np.float32)):
                outcome = held.env.advance(self._chosen(held, action, age))
                _read(held.env, held.episode)
                success, done = outcome.success, outcome.success or outcome.out_of_time
                if age + 1 in look or done:
                    observations.append(_seen(held.env, held.episode))
                    ticks.append(held.env.tick)
                if done:
                    break
        except WamkitError as error:
            self._answers[slot] = Step(error=str(error))
            return
        facts = tuple(held.episode.facts[before:])
        self._answers[slot] = Step(tuple(observations), tuple(ticks), len(facts), success, done, facts=facts)

    def _chosen(self, held: _Slot, action: NDArray[np.float32], age: int) -> NDArray[np.float32]:
        """Log what policy and expert do now; return what is executed."""
        episode, expert = held.episode, held.env.demonstrated(held.expert())
        episode.actions.append(action)
        episode.expert.append(expert)
        episode.ages.append(age)
        return self._takeover.executed(action, expert, phases_of(episode.facts)[-1])

    def wait(self, slots: Sequence[int]) -> dict[int, Step]:
        """Answers of these slots."""
        return {slot: self._answers.pop(slot) for slot in slots}

    def close(self) -> None:
        """Close the environments."""
        for held in self._slots.values():
            held.env.close()
        self._slots = {}


def _read(env: SimulatedEnv, episode: TutoredEpisode) -> None:
    facts, landmarks = env.facts(), env.landmarks()
    if facts is None or landmarks is None:
        raise ConfigError(f"tutor: {type(env).__name__} does not report facts and landmarks.")
    episode.facts.append(facts)
    episode.landmarks.append(landmarks)


def _seen(env: SimulatedEnv, episode: TutoredEpisode) -> dict[str, Any]:
    observation = env.observe()
    episode.images[env.tick] = observation["images"]
    return observation
