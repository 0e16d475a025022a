"""Who decides what a group of running episodes does next: a policy, or a recording."""

from __future__ import annotations

import abc
import dataclasses
import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.streams import row_seed
from wamkit.contract.types import Budget, Forecast, WindowSpec
from wamkit.controllers import ActionArray, Controller, ControllerState, Seen, Spend, ValueArray
from wamkit.errors import ConfigError, WamkitError
from wamkit.evaluation.closed_loop.episodes import (
    ActionBlock,
    EpisodeRun,
    ImaginedFrames,
    PlannedEpisode,
    Senses,
    Trace,
    observe,
    to_frames,
)
from wamkit.evaluation.closed_loop.goals import Course
from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.closed_loop.tree import join_rows, signature, take_row
from wamkit.evaluation.report.machine import device_of, synchronise

Result = TypeVar("Result")


class Pilot(abc.ABC):
    """Gives every running episode its next block of actions."""

    @abc.abstractmethod
    def begin(self, run: EpisodeRun) -> None:
        """Called when an episode was reset, before its first decision."""

    @abc.abstractmethod
    def decide(self, runs: Sequence[EpisodeRun]) -> dict[int, ActionBlock]:
        """The next blocks, ``run.order`` -> block. An episode that breaks is failed and left out."""


class ReplayPilot(Pilot):
    """Sends what was sent before: simulators and rendering alone."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self._blocks = {t.plan.key: list(t.blocks) for t in traces}

    def begin(self, run: EpisodeRun) -> None:
        """See :meth:`Pilot.begin`. A recording needs no preparation."""

    def decide(self, runs: Sequence[EpisodeRun]) -> dict[int, ActionBlock]:
        """See :meth:`Pilot.decide`. An episode that broke in the recording ends there as an error."""
        blocks = {}
        for run in runs:
            left = self._blocks[run.plan.key]
            if left:
                blocks[run.order] = left.pop(0)
            else:
                run.fail("the recording ends here")
        return blocks


@dataclass(frozen=True)
class Failed:
    """The traceback of something that raised inside the policy."""

    traceback: str


def attempt(action: Callable[[], Result]) -> Result | Failed:
    """Run policy code; what it raises becomes a value, so that the other episodes go on."""
    try:
        return action()
    except Exception:  # noqa: BLE001 - the boundary to code under test: kept, reported as an error, never a failure
        return Failed(traceback.format_exc())


@dataclass(frozen=True)
class TimedCall:
    """One model call: rows, milliseconds with the device synchronised, stages, function evaluations."""

    rows: int
    ms: float
    stage_ms: dict[str, float]
    nfe: dict[str, int]


class PolicyPilot(Pilot):
    """Calls the policy for all episodes of a group at once and feeds its chunks to the controller."""

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
        self.max_ticks = max_ticks
        self.calls: list[TimedCall] = []
        self.notes: list[str] = []
        self.device = device_of(policy)
        used = controller.horizon(policy.window.horizon).used
        # Designs that generate action by action may stop after the ones that are executed.
        self.budget = budget if budget.horizon else dataclasses.replace(budget, horizon=used)
        for spend in (Spend(), *controller.spends()):
            policy.check_budget(self._budget(spend))
        self.perceived = None if controller.compares is None else policy.perceived(controller.compares)
        controller.check(policy.action_spec.mode, self.perceived.offsets if self.perceived else ())
        if policy.window.past_actions:
            controller.check_past(policy.window.past_actions, policy.window.horizon)
        if controller.supplies is not None:
            policy.check_given(controller.supplies)
        if self.perceived and budget.future is False:
            raise ConfigError(
                f"the controller compares predictions of stream {controller.compares!r} with what is seen, and the "
                f"budget says future=False: leave `future` open or choose another controller."
            )
        self._low = np.asarray(policy.action_spec.low, np.float32)
        self._high = np.asarray(policy.action_spec.high, np.float32)

    def begin(self, run: EpisodeRun) -> None:
        """See :meth:`Pilot.begin`."""
        run.controller = self.controller.start()
        goals = self.goals
        state = attempt(lambda: self.policy.initial_state(1))
        course = attempt(lambda: goals(run.plan)) if goals is not None else None
        if isinstance(state, Failed) or isinstance(course, Failed):
            run.fail("\n".join(f.traceback for f in (state, course) if isinstance(f, Failed)))
        else:
            run.state, run.course = state, course
            run.goal = None if course is None else course.goal

    def decide(self, runs: Sequence[EpisodeRun]) -> dict[int, ActionBlock]:
        """See :meth:`Pilot.decide`."""
        if self.controller.watches:
            self._watch(runs)
        self._aim(runs)
        self.supply(runs)
        alike: dict[tuple[Hashable, Spend], list[EpisodeRun]] = {}
        for run in runs:
            if run.status is None and self.controller.wants_call(run.controller):
                spend = self.controller.spend(run.controller)
                alike.setdefault((signature(run.state), spend), []).append(run)
        for (_, spend), rows in alike.items():
            self._call(rows, self._budget(spend))
        return {run.order: self._block(run) for run in runs if run.status is None}

    def _aim(self, runs: Sequence[EpisodeRun]) -> None:
        """Let every run's goal follow what the run has reached."""
        for run in runs:
            if run.status is None and run.course is not None:
                course, state = run.course, np.asarray(run.frames[run.tick]["state"], np.float64)
                goal = attempt(lambda c=course, s=state, t=run.tick: c.follow(s, t))  # type: ignore[misc]
                if isinstance(goal, Failed):
                    run.fail(goal.traceback)
                else:
                    run.goal = goal

    def supply(self, runs: Sequence[EpisodeRun]) -> None:
        """Let the generator of the supplied stream answer every run that starts it at this tick."""
        for run in runs:
            if run.status is None and self.controller.wants_subgoal(run.controller):
                values = attempt(lambda run=run: self._generate(run))  # type: ignore[misc]
                if isinstance(values, Failed):
                    run.fail(values.traceback)
                else:
                    run.controller = self.controller.supply(run.controller, values)

    def _generate(self, run: EpisodeRun) -> ValueArray:
        """One run's values of the supplied stream; its noise differs from that of every call of the policy."""
        assert self.controller.supplies is not None
        observation = observe([run], self.policy.window, self.policy.action_spec.width, self.senses)
        seeds = [row_seed(run.plan.seed, -1 - run.tick)]
        values = self.policy.generate(observation, run.state, self.controller.supplies, self.budget, seeds)
        made: ValueArray = values[0].cpu().numpy()
        return made

    def _given(self, runs: Sequence[EpisodeRun]) -> dict[str, dict[str, Tensor]]:
        """The argument ``given`` of a call, where the controller supplies a stream."""
        values = [self.controller.given(run.controller) for run in runs]
        there = [value for value in values if value is not None]
        if self.controller.supplies is None or not there:
            return {}
        return {"given": {self.controller.supplies: torch.from_numpy(np.stack(there))}}

    def _budget(self, spend: Spend) -> Budget:
        return dataclasses.replace(self.budget, **spend.changes())

    def _watch(self, runs: Sequence[EpisodeRun]) -> None:
        """Show every run's newest observation to its controller."""
        for run in runs:
            values = None
            if self.controller.wants_values(run.controller):
                seen = attempt(lambda run=run: self._perceive(run))  # type: ignore[misc]
                if isinstance(seen, Failed):
                    run.fail(seen.traceback)
                    continue
                values = seen
            seen_state = np.asarray(run.frames[run.tick]["state"], np.float32)
            run.controller = self.controller.watch(run.controller, Seen(seen_state, values))
            run.instruction = self.controller.words(run.controller) or run.instruction

    def _perceive(self, run: EpisodeRun) -> ValueArray:
        """What ``run`` sees at its tick, as values of the compared stream, relative to its newest plan's call."""
        assert self.perceived is not None
        called = dataclasses.replace(run, tick=run.controller.plans[-1].start)
        width = self.policy.action_spec.width
        now, before = (observe([r], WindowSpec(), width, self.senses) for r in (run, called))
        values: ValueArray = self.perceived.encode(now, before)[0].cpu().numpy()
        return values

    def _predicted(self, forecast: Forecast, rows: int) -> list[dict[int, ValueArray]]:
        """Per row: ticks after the call -> predicted values of the compared stream."""
        if self.perceived is None:
            return [{} for _ in range(rows)]
        values = forecast.future[self.perceived.stream].detach().cpu().numpy()
        return [dict(zip(self.perceived.offsets, row, strict=True)) for row in values]

    def forecast(self, runs: Sequence[EpisodeRun], budget: Budget) -> tuple[Forecast, list[Any], TimedCall]:
        """One timed, checked model call for these episodes, without any change to them.

        Returns:
            the forecast of all rows, the new state of each row, and what the call took.
        """
        observation = observe(runs, self.policy.window, self.policy.action_spec.width, self.senses)
        state = join_rows([run.state for run in runs])
        seeds = [row_seed(run.plan.seed, run.calls) for run in runs]
        synchronise(self.device)
        start = time.perf_counter()
        with torch.no_grad():
            forecast, state = self.policy.forecast(observation, state, budget, seeds, **self._given(runs))
        synchronise(self.device)
        ms = (time.perf_counter() - start) * 1000
        shape, need = tuple(forecast.action.shape), (len(runs), self.policy.action_spec.width)
        least = self.controller.horizon(self.policy.window.horizon).used or 1
        if len(shape) != 3 or (shape[0], shape[2]) != need or shape[1] < least:
            raise WamkitError(f"forecast.action has shape {shape}, needs ({need[0]}, >= {least}, {need[1]})")
        states = [take_row(state, row, len(runs)) for row in range(len(runs))]
        return forecast, states, TimedCall(len(runs), ms, dict(forecast.stage_ms), dict(forecast.nfe))

    def _call(self, runs: Sequence[EpisodeRun], budget: Budget) -> None:
        result = attempt(lambda: self.forecast(runs, budget))
        if isinstance(result, Failed):
            if len(runs) == 1:
                runs[0].fail(result.traceback)
                return
            # The states are untouched, so each row can be tried alone: only the guilty episode is lost.
            for run in runs:
                self._call([run], budget)
            return
        forecast, states, timed = result
        self.calls.append(timed)
        actions = forecast.action.detach().cpu().numpy().astype(np.float32)
        predicted = self._predicted(forecast, len(runs))
        for row, run in enumerate(runs):
            if run.plan.filmed:
                self._film(run, forecast, row, len(runs))
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
        while len(actions) < most and not self._due(run.controller):
            action, run.controller = self.controller.next(run.controller)
            actions.append(action)
        raw = np.stack(actions)
        clipped = np.clip(raw, self._low, self._high)
        run.clipped += int((clipped != raw).sum())
        run.entries += raw.size
        window = self.policy.window
        look = set(self.controller.look(run.tick, len(actions), window.observation, self.max_ticks))
        filmed = {film.tick + offset - run.tick for film in run.imagined for offset in window.future}
        look |= {p for p in filmed if 1 <= p <= len(actions)}
        called = [plan.start for plan in run.controller.plans] if self.perceived else []
        run.forget(min(run.tick + min(window.observation), *called, run.tick))
        block = ActionBlock(actions=clipped, look=tuple(sorted(look)))
        run.blocks.append(block)
        return block

    def _film(self, run: EpisodeRun, forecast: Forecast, row: int, rows: int) -> None:
        """Decode the future of one row; when the run skips it, imagine it for the picture only."""

        def decode() -> ImaginedFrames | None:
            decoded, acted = self.policy.decode_future(take_row(forecast, row, rows)), True
            if decoded is None and self.budget.future is False:
                budget = dataclasses.replace(self.budget, future=True)
                decoded, acted = self.policy.decode_future(self.forecast([run], budget)[0]), False
            if decoded is None:
                return None
            return ImaginedFrames(
                run.tick, {name: to_frames(video[0]) for name, video in decoded.items()}, acted
            )

        result = attempt(decode)
        if isinstance(result, Failed):
            last = result.traceback.strip().splitlines()[-1]
            self.notes.append(f"no picture of {run.plan.task} seed {run.plan.seed} tick {run.tick}: {last}")
        elif result is not None:
            run.imagined.append(result)
