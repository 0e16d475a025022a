"""The plan of an evaluation and the bookkeeping of one running episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.rows import join_observations
from wamkit.contract.types import Observation, WindowSpec
from wamkit.controllers import ActionArray, ControllerState
from wamkit.envs.facts import Facts
from wamkit.envs.perturbations.suite import Variant
from wamkit.errors import WamkitError
from wamkit.evaluation.closed_loop.goals import Course
from wamkit.evaluation.closed_loop.policy import CarriedState, RenderedFrame, SimulatorStep
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.failures import events_of

PLACED = ("dimension", "kind", "strength")  # fields of a variant that its record keeps besides the id


@dataclass(frozen=True)
class PlannedEpisode:
    """Episode to be run.

    Attributes:
        task: task name.
        seed: episode seed; simulator and policy noise both follow from it.
        instruction: words for the policy, or None for the simulator's own.
        config: config of the simulator for this task.
        filmed: true to decode futures and to render the ticks that they predict.
        variant: perturbation of the simulator; its name is for the report and never reaches the policy.
    """

    task: str
    seed: int
    instruction: str | None = None
    config: Any = None
    filmed: bool = False
    variant: Variant | None = None

    @property
    def key(self) -> str:
        """Identifier of this episode within its evaluation, the same in every session."""
        return f"{self.task}/{self.seed}" if self.variant is None else self.variant.id


@dataclass(frozen=True)
class ActionBlock:
    """Actions (K, A) sent together, and the 1-based positions after which an observation is rendered."""

    actions: ActionArray
    look: tuple[int, ...]


@dataclass(frozen=True)
class Trace:
    """Everything an episode sent to its simulator, enough to repeat it without a policy.

    Attributes:
        plan: the episode.
        blocks: actions in the order in which they were sent.
        every: control ticks of the robot per action.
    """

    plan: PlannedEpisode
    blocks: tuple[ActionBlock, ...]
    every: float = 1.0


@dataclass(frozen=True)
class ImaginedFrames:
    """A decoded forecast: call tick, camera -> (F, H, W, 3) uint8, and whether the action came with it."""

    tick: int
    frames: Mapping[str, np.ndarray]
    acted: bool


@dataclass
class EpisodeRun:
    """An episode while it runs. Belongs to the runner alone; nothing else keeps a reference."""

    plan: PlannedEpisode
    order: int
    instruction: str = ""
    tick: int = 0
    calls: int = 0
    early_calls: int = 0
    facts: list[Facts] = field(default_factory=list)
    controller: ControllerState = field(default_factory=ControllerState)
    state: CarriedState = None
    goal: Observation | None = None
    course: Course | None = None
    frames: dict[int, RenderedFrame] = field(default_factory=dict)
    imagined: list[ImaginedFrames] = field(default_factory=list)
    blocks: list[ActionBlock] = field(default_factory=list)
    clipped: int = 0
    entries: int = 0
    status: str | None = None
    error: str | None = None

    def fail(self, message: str) -> None:
        """End the episode as an error, which counts in no success rate."""
        self.status, self.error = "error", message

    def absorb(self, step: SimulatorStep, max_ticks: int) -> None:
        """Take in a simulator's answer and decide whether the episode is over."""
        if step.error is not None:
            self.fail(step.error)
            return
        self.tick += step.executed
        self.facts += step.facts
        self.frames.update(zip(step.ticks, step.observations, strict=True))
        if step.observations and self.tick == 0:
            self.instruction = str(step.observations[0]["task"])
        if step.success:
            self.status = "success"
        elif self.tick >= max_ticks:
            self.status = "timeout"
        elif step.done:
            self.status = "failure"

    def forget(self, oldest: int) -> None:
        """Drop observations before tick ``oldest``, unless they are filmed."""
        if not self.plan.filmed:
            self.frames = {tick: frame for tick, frame in self.frames.items() if tick >= oldest or tick == 0}

    def release(self) -> None:
        """Release everything that only a running episode needs."""
        self.state = self.goal = self.course = None
        if not self.plan.filmed:
            self.frames = {}

    def record(self) -> EpisodeRecord:
        """Return the entry of the finished episode in the report."""
        if self.status is None:
            raise WamkitError(
                f"episode {self.plan.task} seed {self.plan.seed} is not finished at tick {self.tick}"
            )
        variant = self.plan.variant
        placed = {} if variant is None else {name: getattr(variant, name) for name in PLACED}
        return EpisodeRecord(
            **placed,
            task=self.plan.task,
            seed=self.plan.seed,
            instruction=self.instruction,
            status=self.status,
            ticks=self.tick,
            calls=self.calls,
            clipped=self.clipped / max(self.entries, 1),
            error=self.error,
            variant=None if variant is None else variant.id,
            early_calls=self.early_calls,
            events=None if self.status == "error" else events_of(self.facts, self.status == "success"),
        )


@dataclass(frozen=True)
class Senses:
    """Contents of an observation besides images and state.

    Attributes:
        extras: names of the extras that the frames must carry.
        dropped: name of an extra that no frame carries -> its shape per step; it is flagged as missing.
        requested: name of an extra that no frame carries -> its value per step, the same at every step.
    """

    extras: tuple[str, ...] = ()
    dropped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    requested: Mapping[str, Tensor] = field(default_factory=dict)


class Queue:
    """Queue of planned episodes. A slot keeps its task as long as possible: another task needs another simulator.

    The order depends on the plan and on how the episodes went, never on timing.
    """

    def __init__(self, plan: Sequence[PlannedEpisode]) -> None:
        self._left: dict[str, list[tuple[int, PlannedEpisode]]] = {}
        for order, episode in enumerate(plan):
            self._left.setdefault(episode.task, []).append((order, episode))

    def next(self, task: str | None) -> EpisodeRun | None:
        """The next episode for a slot that last ran ``task``, or None when all are handed out."""
        waiting = {name: episodes for name, episodes in self._left.items() if episodes}
        if not waiting:
            return None
        name = task if task in waiting else max(waiting, key=lambda n: len(waiting[n]))
        order, episode = waiting[name].pop(0)
        return EpisodeRun(plan=episode, order=order)


def observe(
    runs: Sequence[EpisodeRun], window: WindowSpec, width: int, senses: Senses | None = None
) -> Observation:
    """Cut the observation windows of B running episodes, T = len(window.observation) steps each.

    Steps before the start of an episode repeat its first observation and are marked as padding. Where the
    window asks for P past actions of ``width`` A, they are the ones of the current block that were really executed.
    The goal is present if every run has one. The buffer of a dropped extra holds only NaN.
    """
    senses = senses or Senses()
    offsets = window.observation
    executed = executed_actions(runs, window.past_actions, width)
    wanted = [[run.tick + offset for offset in offsets] for run in runs]
    steps = [[run.frames[max(t, 0)] for t in ticks] for run, ticks in zip(runs, wanted, strict=True)]
    images = {}
    for camera in steps[0][0]["images"]:
        stacked = np.stack([np.stack([s["images"][camera] for s in row]) for row in steps])
        images[camera] = torch.from_numpy(stacked).permute(0, 1, 4, 2, 3).contiguous()
    state = np.stack([np.stack([s["state"] for s in row]) for row in steps]).astype(np.float32)
    extras, missing = {}, {}
    for name in senses.extras:
        values = np.stack([np.stack([s["extras"][name] for s in row]) for row in steps])
        extras[name] = torch.from_numpy(values)
    for name, shape in senses.dropped.items():
        extras[name] = torch.full((len(runs), len(offsets), *shape), torch.nan)
        missing[name] = torch.ones(len(runs), len(offsets), dtype=torch.bool)
    for name, value in senses.requested.items():
        extras[name] = value.expand(len(runs), len(offsets), *value.shape).clone()
    goals = [run.goal for run in runs if run.goal is not None]
    return Observation(
        images=images,
        state=torch.from_numpy(state),
        task=tuple(run.instruction for run in runs),
        pad=torch.tensor([[t < 0 for t in ticks] for ticks in wanted]),
        extras=extras,
        past_action=executed[0],
        past_action_pad=executed[1],
        missing=missing,
        goal=join_observations(goals) if goals else None,
    )


def executed_actions(
    runs: Sequence[EpisodeRun], count: int, width: int
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Executed actions of each run's current block of ``count`` ticks, (B, P, A), and their padding mask (B, P).

    Blocks are counted from the start of the episode. At the end of one it is whole; before, its rest is padding.
    """
    if not count:
        return None, None
    action = np.zeros((len(runs), count, width), np.float32)
    pad = np.ones((len(runs), count), bool)
    for row, run in enumerate(runs):
        done = run.tick % count or min(run.tick, count)
        if done:
            last = np.concatenate([block.actions for block in run.blocks])[: run.tick][-done:]
            action[row, :done], pad[row, :done] = last, False
    return torch.from_numpy(action), torch.from_numpy(pad)
