"""Pilots: a policy, or a recording, decides what a group of running episodes does next."""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from typing_extensions import override

from wamkit.contract.rows import join_rows
from wamkit.contract.streams import row_seed
from wamkit.contract.types import Budget, Forecast
from wamkit.controllers import ActionArray, Controller, ControllerState, Seen, Spend, ValueArray
from wamkit.errors import ConfigError, WamkitError
from wamkit.evaluation.closed_loop.attempt import Failed, attempt
from wamkit.evaluation.closed_loop.comparison import StreamComparison
from wamkit.evaluation.closed_loop.episodes import (
    ActionBlock,
    EpisodeRun,
    PlannedEpisode,
    Senses,
    Trace,
    observe,
)
from wamkit.evaluation.closed_loop.filming import Filming
from wamkit.evaluation.closed_loop.goals import Course
from wamkit.evaluation.closed_loop.policy import CarriedState, Policy
from wamkit.evaluation.closed_loop.subgoals import Subgoals
from wamkit.evaluation.closed_loop.tree import signature, take_row
from wamkit.evaluation.report.machine import device_of, synchronise

UNCALLED = "the policy also took in blocks at whose end it was not called; their time is in no call"


class Pilot(abc.ABC):
    """Gives every running episode its next block of actions.

    Attributes:
        every: control ticks of the robot per action.
    """

    every: float = 1.0

    @abc.abstractmethod
    def begin(self, run: EpisodeRun) -> None:
        """Prepare an episode that has just been reset, before its first decision."""

    @abc.abstractmethod
    def decide(self, runs: Sequence[EpisodeRun]) -> dict[int, ActionBlock]:
        """Return the next blocks, ``run.order`` -> block. Episodes that break are marked as failed and left out."""


@final
class ReplayPilot(Pilot):
    """Sends recorded actions again, without a policy.

    Args:
        traces: recorded episodes.
        look: ``recorded`` renders where the recording did, ``always`` renders after every action.
    """

    def __init__(self, traces: Sequence[Trace], look: Literal["recorded", "always"] = "recorded") -> None:
        self._blocks = {trace.plan.key: list(trace.blocks) for trace in traces}
        self.every = traces[0].every if traces else 1.0
        self._look = look

    @override
    def begin(self, run: EpisodeRun) -> None:
        """Do nothing: a recording needs no preparation."""

    @override
    def decide(self, runs: Sequence[EpisodeRun]) -> dict[int, ActionBlock]:
        """Return the recorded blocks; an episode that broke in the recording ends there with an error."""
        blocks = {}
        for run in runs:
            remaining = self._blocks[run.plan.key]
            if not remaining:
                run.fail("the recording ends here")
                continue
            block = remaining.pop(0)
            if self._look == "always":
                block = ActionBlock(block.actions, tuple(range(1, len(block.actions) + 1)))
            run.blocks.append(block)
            blocks[run.order] = block
        return blocks


@dataclass(frozen=True)
class TimedCall:
    """Cost of one model call.

    Attributes:
        rows: number of episodes in the batch.
        ms: wall-clock milliseconds, the device synchronised at both clock readings.
        stage_ms: stage name -> milliseconds, as measured by the policy.
        nfe: stream name -> function evaluations.
    """

    rows: int
    ms: float
    stage_ms: dict[str, float]
    nfe: dict[str, int]


@final
class PolicyPilot(Pilot):
    """Calls the policy for all episodes of a group at once and feeds its chunks to the controller.

    Args:
        policy: policy under test.
        controller: controller that says when the policy is called and which actions are executed.
        budget: budget of every call.
        max_ticks: ticks of the policy after which an episode times out.
        senses: extras shown to the policy; by default all of :attr:`Policy.sensors`.
        goals: planned episode -> its goals, for policies that read one.

    Raises:
        BudgetError: the policy cannot honour the budget.
        ConfigError: the controller cannot drive the policy.
    """

    def __init__(
        self,
        policy: Policy,
        controller: Controller,
        budget: Budget,
        max_ticks: int,
        senses: Senses | None = None,
        goals: Callable[[PlannedEpisode], Course] | None = None,
    ) -> None:
        self.policy = policy
        self.controller = controller
        self.senses = senses or Senses(tuple(policy.sensors))
        self.goals = goals
        self.max_ticks, self.every = max_ticks, policy.window.every
        self.calls: list[TimedCall] = []
        self.notes: list[str] = []
        self.device = device_of(policy)
        # An autoregressive policy may stop after the actions that are executed.
        used = controller.horizon(policy.window.horizon).used
        self.budget = budget if budget.horizon else dataclasses.replace(budget, horizon=used)
        for spend in (Spend(), *controller.spends()):
            policy.check_budget(self._budget(spend))
        self._comparison = self._compare()
        self._block_ticks = policy.window.past_actions
        self._subgoals: Subgoals | None = None
        if controller.supplies is not None:
            generator = dataclasses.replace(self.budget, future=None) if controller.follows else self.budget
            followed = self._comparison if controller.follows else None
            self._subgoals = Subgoals(
                policy, controller, controller.supplies, generator, self.senses, followed
            )
        if self._comparison and not controller.follows and budget.future is False:
            raise ConfigError(
                f"the controller compares predictions of stream {controller.compares!r} with observations, but the "
                f"budget says future=False: leave `future` open or choose another controller."
            )
        imagine = self._imagine if self.budget.future is False else None
        self._filming = Filming(policy, imagine, self.notes.append)
        self._low = np.asarray(policy.action_spec.low, np.float32)
        self._high = np.asarray(policy.action_spec.high, np.float32)

    @override
    def begin(self, run: EpisodeRun) -> None:
        run.controller = self.controller.start()
        state = attempt(self.policy.initial_state, 1)
        course = attempt(self.goals, run.plan) if self.goals is not None else None
        if isinstance(state, Failed) or isinstance(course, Failed):
            run.fail("\n".join(f.traceback for f in (state, course) if isinstance(f, Failed)))
        else:
            run.state, run.course = state, course
            run.goal = None if course is None else course.goal

    @override
    def decide(self, runs: Sequence[EpisodeRun]) -> dict[int, ActionBlock]:
        if self.controller.watches:
            self._watch(runs)
        self._aim(runs)
        self.supply(runs)
        batches: dict[tuple[Hashable, Spend], list[EpisodeRun]] = {}
        for run in runs:
            if run.status is None and self.controller.wants_call(run.controller):
                spend = self.controller.spend(run.controller)
                batches.setdefault((signature(run.state), spend), []).append(run)
            elif run.status is None and self._ends_block(run):
                self._remember(run)
        for (_, spend), rows in batches.items():
            self._call(rows, self._budget(spend))
        return {run.order: self._block(run) for run in runs if run.status is None}

    def supply(self, runs: Sequence[EpisodeRun]) -> None:
        """Generate a subgoal for every episode that needs one at this tick, if the controller supplies any."""
        if self._subgoals is not None:
            self._subgoals.supply(runs)

    def forecast(
        self, runs: Sequence[EpisodeRun], budget: Budget
    ) -> tuple[Forecast, list[CarriedState], TimedCall]:
        """Make one timed, checked model call for these episodes without changing them.

        Returns:
            the forecast of all rows, the new state of each row, and the cost of the call.

        Raises:
            WamkitError: the predicted actions have the wrong shape.
        """
        observation = observe(runs, self.policy.window, self.policy.action_spec.width, self.senses)
        state = join_rows([run.state for run in runs])
        seeds = [row_seed(run.plan.seed, run.calls) for run in runs]
        subgoals = {} if self._subgoals is None else self._subgoals.given(runs)
        given = {"given": subgoals} if subgoals else {}
        synchronise(self.device)
        start = time.perf_counter()
        with torch.no_grad():
            forecast, state = self.policy.forecast(observation, state, budget, seeds, **given)
        synchronise(self.device)
        ms = (time.perf_counter() - start) * 1000
        shape, need = tuple(forecast.action.shape), (len(runs), self.policy.action_spec.width)
        least = self.controller.horizon(self.policy.window.horizon).used or 1
        if len(shape) != 3 or (shape[0], shape[2]) != need or shape[1] < least:
            raise WamkitError(f"forecast.action has shape {shape}, needs ({need[0]}, >= {least}, {need[1]})")
        states = [take_row(state, row, len(runs)) for row in range(len(runs))]
        return forecast, states, TimedCall(len(runs), ms, dict(forecast.stage_ms), dict(forecast.nfe))

    def _ends_block(self, run: EpisodeRun) -> bool:
        """True at the ticks at which a policy that keeps its past takes in a block, whether it is called or not."""
        return bool(self._block_ticks) and run.tick > 0 and run.tick % self._block_ticks == 0

    def _remember(self, run: EpisodeRun) -> None:
        """Let the policy take in a block at whose end no call is made."""
        observation = observe([run], self.policy.window, self.policy.action_spec.width, self.senses)
        if UNCALLED not in self.notes:
            self.notes.append(UNCALLED)
        state = attempt(self.policy.remember, observation, run.state)
        if isinstance(state, Failed):
            run.fail(state.traceback)
        else:
            run.state = state

    def _budget(self, spend: Spend) -> Budget:
        return dataclasses.replace(self.budget, **spend.changes())

    def _compare(self) -> StreamComparison | None:
        """Return the comparison that the controller asks for; raises :class:`ConfigError` if it cannot be made."""
        if self.controller.compares is None:
            self.controller.check(self.policy.action_spec.mode, ())
            return None
        perceived = self.policy.perceived(self.controller.compares)
        self.controller.check(self.policy.action_spec.mode, perceived.offsets)
        dropped = [name for name in perceived.extras if name in self.senses.dropped]
        if dropped:
            raise ConfigError(
                f"the controller compares stream {perceived.stream!r} with observations, and {', '.join(dropped)}, "
                f"which it is made of, is dropped. Leave it out of `drop`, or choose another controller."
            )
        return StreamComparison(perceived, self.controller, self.policy.action_spec.width)

    def _imagine(self, run: EpisodeRun) -> Forecast:
        """Make a forecast with a predicted future for one episode, whatever its own calls skip."""
        return self.forecast([run], dataclasses.replace(self.budget, future=True))[0]

    def _watch(self, runs: Sequence[EpisodeRun]) -> None:
        """Show every episode's newest observation to its controller."""
        for run in runs:
            values: ValueArray | Failed | None = None
            if self._comparison is not None and self.controller.wants_values(run.controller):
                values = attempt(self._comparison.observed, run)
            if isinstance(values, Failed):
                run.fail(values.traceback)
                continue
            state = np.asarray(run.frames[run.tick]["state"], np.float32)
            run.controller = self.controller.watch(run.controller, Seen(state, values))
            run.instruction = self.controller.words(run.controller) or run.instruction

    def _aim(self, runs: Sequence[EpisodeRun]) -> None:
        """Advance every episode's goal to the next one when it has been reached."""
        for run in runs:
            if run.status is None and run.course is not None:
                state = np.asarray(run.frames[run.tick]["state"], np.float64)
                goal = attempt(run.course.follow, state, run.tick)
                if isinstance(goal, Failed):
                    run.fail(goal.traceback)
                else:
                    run.goal = goal

    def _call(self, runs: Sequence[EpisodeRun], budget: Budget) -> None:
        result = attempt(self.forecast, runs, budget)
        if isinstance(result, Failed):
            if len(runs) == 1:
                runs[0].fail(result.traceback)
                return
            # The states are unchanged, so each row can be tried alone: only the faulty episode is lost.
            for run in runs:
                self._call([run], budget)
            return
        forecast, states, timed = result
        self.calls.append(timed)
        actions = forecast.action.detach().cpu().numpy().astype(np.float32)
        compared = None if self.controller.follows else self._comparison  # what is followed is no forecast's
        predicted = compared.predicted(forecast) if compared else [{} for _ in runs]
        for row, run in enumerate(runs):
            self._filming.film(run, forecast, row, len(runs))
            run.calls += 1
            run.early_calls += self.controller.called_early(run.controller)
            run.state = states[row]
            if np.isfinite(actions[row]).all():
                run.controller = self.controller.receive(run.controller, actions[row], predicted[row])
            else:
                run.fail(f"the policy's actions are not finite at tick {run.tick}, call {run.calls}")

    def _due(self, state: ControllerState) -> bool:
        return self.controller.wants_call(state) or self.controller.wants_subgoal(state)

    def _block(self, run: EpisodeRun) -> ActionBlock:
        """Drain the controller until it wants a call or the episode's ticks run out."""
        actions: list[ActionArray] = []
        most = min(self.max_ticks - run.tick, 1 if self.controller.watches else self.max_ticks)
        if self._block_ticks:  # the block ends with an observation, also where no call reads it
            most = min(most, self._block_ticks - run.tick % self._block_ticks)
        while len(actions) < most and not self._due(run.controller):
            action, run.controller = self.controller.next(run.controller)
            actions.append(action)
        raw = np.stack(actions)
        clipped = np.clip(raw, self._low, self._high)
        run.clipped += int((clipped != raw).sum())
        run.entries += raw.size
        offsets = self.policy.window.observation
        look = set(self.controller.look(run.tick, len(actions), offsets, self.max_ticks))
        look |= self._filming.look(run, len(actions))
        if self._block_ticks and (run.tick + len(actions)) % self._block_ticks == 0:
            look.add(len(actions))
        held = run.controller
        called = [*(plan.start for plan in held.plans), *(goal.asked for goal in held.subgoals)]
        called = called if self._comparison else []
        run.forget(min(run.tick + min(offsets), *called, run.tick))
        block = ActionBlock(actions=clipped, look=tuple(sorted(look)))
        run.blocks.append(block)
        return block
