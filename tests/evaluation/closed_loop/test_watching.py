"""Controllers that watch (group H), in the closed loop on a toy world whose outcome is known in closed form.

The toy walks by ``step`` per tick and predicts exactly where it will be, so a prediction fails only where the
world is disturbed: it is pushed at a tick, or a wall stops it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import draccus
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import MAX_TICKS, Memory, ToyPolicy, ToySimulators, ToyStep, ToyWorld

from wamkit.contract.types import Budget, Forecast, Observation, Perceived, WindowSpec
from wamkit.controllers import (
    AsyncOverlap,
    Chunked,
    Controller,
    Interactive,
    OnlineAdapt,
    Overlap,
    PhaseTrigger,
    ProgressGate,
    SlowFast,
    Spend,
    VerifierReplan,
)
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.pilot import PolicyPilot


@dataclasses.dataclass
class Disturbed(ToyWorld):
    """Pushed by ``push`` before the action of tick ``at``; never beyond ``wall``, which vanishes at ``opens``."""

    at: int = -1
    push: float = 0.0
    wall: float = math.inf
    opens: int = MAX_TICKS

    def step(self, actions: np.ndarray, look: tuple[int, ...]) -> ToyStep:
        assert len(actions) == 1
        if self.tick == self.at:
            self.x += self.push
        if self.tick < self.opens:
            actions = np.minimum(actions, self.wall - self.x)
        return super().step(actions, look)


class DisturbedSimulators(ToySimulators):
    """Slots of :class:`Disturbed`."""

    def __init__(self, slots: int, **disturbance: Any) -> None:
        super().__init__(slots)
        self.disturbance = disturbance

    def reset_async(
        self,
        slot: int,
        seed: int,
        instruction: str | None = None,
        config: Any = None,
        perturbation: Any = None,
    ) -> None:
        super().reset_async(slot, seed, instruction, config, perturbation)
        world = Disturbed(**self.disturbance)
        ToyWorld.__init__(world, seed, instruction)
        self.worlds[slot] = world


@dataclasses.dataclass(frozen=True)
class Seer(ToyPolicy):
    """A toy that predicts its place exactly, hears ``left`` and ``right``, and remembers what it was asked."""

    offsets: tuple[int, ...] = (2, 4)
    asked: list[Budget] = dataclasses.field(default_factory=list, compare=False)

    def forecast(
        self, observation: Observation, state: Memory, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Memory]:
        done, state = super().forecast(observation, state, budget, seeds)
        sign = torch.tensor([-1.0 if "left" in task else 1.0 for task in observation.task])
        x = observation.state[:, -1, 0]
        ahead = sign[:, None] * self.step * torch.tensor(self.offsets)
        self.asked.extend([budget] * len(seeds))
        future = {} if budget.future is False else {"s": (x[:, None] + ahead)[..., None, None]}
        action = done.action.clone()
        action[:, :, 0] *= sign[:, None]
        return dataclasses.replace(done, action=action, future=future), state

    def perceived(self, stream: str) -> Perceived:
        assert stream == "s"
        return Perceived(stream, self.offsets, lambda seen, now: seen.state)


def run(
    controller: Controller, policy: ToyPolicy | None = None, seeds: Sequence[int] = (0,), **disturbance: Any
) -> list[EpisodeRun]:
    plan = [PlannedEpisode("a", seed, instruction="right") for seed in seeds]
    simulators = DisturbedSimulators(2, **disturbance) if controller.watches else ToySimulators(2)
    pilot = PolicyPilot(policy or Seer(step=0.25), controller, Budget(), MAX_TICKS)
    return list(ClosedLoop(simulators, 2, 1, pilot, MAX_TICKS).run(plan).runs)


def actions(run: EpisodeRun) -> np.ndarray:
    return np.concatenate([block.actions for block in run.blocks])


SEEDS = tuple(range(5))
WATCHERS = [
    VerifierReplan(4, "s", 0.01),
    PhaseTrigger(4, 0.5, (0,), 0.1),
    SlowFast(4, (0,), (0,), 1.0),
    Interactive(4),
    ProgressGate(4, "s", 0.01),
    OnlineAdapt(4, (0,), (0,), 1.0),
]


@pytest.mark.parametrize("controller", WATCHERS, ids=lambda c: type(c).__name__)
def test_where_nothing_happens_a_watcher_does_what_chunked_does(controller: Controller) -> None:
    for watched, plain in zip(run(controller, seeds=SEEDS), run(Chunked(4), seeds=SEEDS), strict=True):
        assert watched.record() == plain.record()
        np.testing.assert_allclose(actions(watched), actions(plain), atol=1e-6)
        assert watched.controller.counts.get("early_calls", 0) == 0
    assert draccus.decode(Controller, draccus.encode(controller, Controller)) == controller


@pytest.mark.parametrize("controller", [Overlap(2), AsyncOverlap(4, 2)], ids=lambda c: type(c).__name__)
def test_overlapping_controllers_finish_when_chunked_does_with_the_calls_they_declare(
    controller: Controller,
) -> None:
    for ours, plain in zip(run(controller, seeds=SEEDS), run(Chunked(4), seeds=SEEDS), strict=True):
        assert (ours.status, ours.tick) == (plain.status, plain.tick)
        assert ours.calls == len(controller.calls(ours.tick))
        assert ours.controller.counts.get("idle_ticks", 0) == 0


# --------------------------------------------------------------------------------------------- verifier_replan


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, 20), execute=st.integers(3, 8))
def test_a_disturbance_is_answered_at_the_next_predicted_tick(at: int, execute: int) -> None:
    """It is seen at tick at + 1 at the earliest; the next predicted or scheduled tick from there on is a call."""
    (calm,) = run(VerifierReplan(execute, "s", 0.1), Seer(step=0.1))
    (pushed,) = run(VerifierReplan(execute, "s", 0.1), Seer(step=0.1), at=at, push=-1.0)
    assert calm.calls == math.ceil(calm.tick / execute)
    start = at // execute * execute
    checks = [start + o for o in (2, 4) if at < start + o < start + execute]
    assert pushed.controller.counts.get("early_calls", 0) == len(checks[:1])
    if checks:
        assert pushed.calls == len(range(0, checks[0], execute)) + len(range(checks[0], MAX_TICKS, execute))
    else:
        assert pushed.calls == calm.calls


def test_a_push_within_the_threshold_is_trusted() -> None:
    (pushed,) = run(VerifierReplan(8, "s", 0.6), Seer(step=0.1), at=1, push=-0.5)
    assert (pushed.controller.counts["early_calls"], pushed.calls) == (0, math.ceil(MAX_TICKS / 8))


# ------------------------------------------------------------------------------------------------- interactive


def test_words_change_the_continuation_and_not_the_past() -> None:
    (silent,) = run(Interactive(4), Seer(step=0.25))
    (spoken,) = run(Interactive(4, {6: "left"}), Seer(step=0.25))
    before, after = actions(silent), actions(spoken)
    np.testing.assert_array_equal(before[:6], after[:6])
    assert (after[6:, 0] == -0.25).all()
    assert (before[:, 0] == 0.25).all()
    # Calls at 0, 4, then at 6 when the words come, then every 4 ticks.
    assert spoken.calls == 2 + math.ceil((spoken.tick - 6) / 4)
    assert spoken.instruction == "left"
    assert int(spoken.controller.calls) == spoken.calls
    assert list(Interactive(4).calls(10**6))[-1] == 10**6 - 4  # no end of its own


# ----------------------------------------------------------------------------------------------- phase_trigger


def dreams(policy: Seer) -> list[bool]:
    return [budget.future is not False for budget in policy.asked]


def test_thresholds_zero_and_one_are_always_and_never() -> None:
    for threshold, answer in ((0.0, True), (1.0, False)):
        policy = Seer(step=0.25)
        (done,) = run(PhaseTrigger(4, threshold, (0,), 0.1), policy)
        assert dreams(policy) == [answer] * done.calls
        assert done.controller.counts["critical_calls"] == (done.calls if answer else 0)
    assert PhaseTrigger(threshold=0.0).spends() == (Spend(),)
    assert PhaseTrigger(threshold=1.0, candidates=2).spends() == (Spend(future=False, candidates=2),)


def test_imagination_is_paid_for_in_the_slow_phase_only() -> None:
    """A wall at 3 stops the walk at tick 12 and opens at tick 20: the calls at 16 and 20 come out of a rest."""
    policy = Seer(step=0.25)
    (done,) = run(PhaseTrigger(4, 0.5, (0,), 0.1), policy, wall=3.0, opens=20)
    assert dreams(policy) == [tick in (16, 20) for tick in range(0, done.tick, 4)]
    always = Seer(step=0.25)
    (same,) = run(PhaseTrigger(4, 0.0, (0,), 0.1), always, wall=3.0, opens=20)
    assert (same.status, same.tick) == (done.status, done.tick)
    assert sum(dreams(policy)) < sum(dreams(always))


# --------------------------------------------------------------------------------------------------- slow_fast


def test_both_rates_are_the_declared_ones() -> None:
    (done,) = run(SlowFast(6, (0,), (0,), 1.0), Seer(step=0.1))
    slow, fast = 10.0 / 6, 10.0
    seconds = done.tick / 10.0
    assert (done.calls / seconds, done.controller.counts["corrections"] / seconds) == (
        pytest.approx(slow),
        fast,
    )


def test_a_push_is_corrected_within_one_fast_period_and_a_chunk_alone_does_not() -> None:
    push = {"at": 9, "push": -0.4}
    (calm,) = run(SlowFast(8, (0,), (0,), 1.0, gain=1.0), Seer(step=0.1))
    (pushed,) = run(SlowFast(8, (0,), (0,), 1.0, gain=1.0), Seer(step=0.1), **push)
    difference = actions(pushed)[:, 0] - actions(calm)[:, 0]
    assert np.flatnonzero(np.abs(difference) > 1e-6).tolist() == [10]  # felt in tick 9, corrected in tick 10
    assert difference[10] == pytest.approx(0.4, abs=1e-6)
    (chunked,) = run(Interactive(8), Seer(step=0.1), **push)
    np.testing.assert_allclose(actions(chunked)[:, 0], 0.1, atol=1e-6)


@pytest.mark.parametrize("gain", [0.3, 1.0, 1.7])
def test_with_the_slow_loop_frozen_the_reflex_holds_the_goal(gain: float) -> None:
    controller = SlowFast(8, (0,), (0,), 1.0, gain=gain, slow_calls=1)
    (done,) = run(controller, Seer(step=0.1), at=12, push=-0.5)
    assert (done.status, done.calls, controller.calls(MAX_TICKS)) == ("timeout", 1, (0,))
    goal, place = 0.8, actions(done)[:, 0].sum() - 0.5
    assert place == pytest.approx(goal, abs=0.5 * abs(1 - gain) ** (MAX_TICKS - 13) + 1e-5)


# ----------------------------------------------------------------------------------------------- progress_gate


def test_the_pointer_waits_at_a_wall_and_chunks_end_at_waypoints() -> None:
    """Waypoints are 4 ticks ahead; the wall at 2.5 (reached at tick 10) stands until tick 20."""
    controller = ProgressGate(6, "s", 0.01)
    (calm,) = run(controller, Seer(step=0.25))
    assert calm.controller.counts["waypoints"] == (calm.tick - 1) // 4
    assert calm.calls == math.ceil(calm.tick / 4)  # every chunk ends at its waypoint, not after 6 ticks
    assert calm.controller.counts["stalled_calls"] == 0
    (held,) = run(controller, Seer(step=0.25), wall=2.5, opens=20)
    # Waypoint 3.0, set at tick 8, is reached at tick 22; calls at 0, 4, 8, stalled at 14 and 20, then 22, 26.
    assert held.calls == 7
    assert held.controller.counts == {"stalled_calls": 2, "waypoints": 4}


def test_a_stalled_pointer_never_advances() -> None:
    (held,) = run(ProgressGate(6, "s", 0.01), Seer(step=0.25), wall=0.9)
    assert held.controller.counts["waypoints"] == 0
    assert held.calls == math.ceil(MAX_TICKS / 6)


# ------------------------------------------------------------------------------------------------------ refusal


def test_what_cannot_work_is_refused_before_the_start() -> None:
    def pilot(controller: Controller, budget: Budget | None = None, **policy: Any) -> PolicyPilot:
        return PolicyPilot(Seer(**policy), controller, budget or Budget(), MAX_TICKS)

    with pytest.raises(ConfigError, match="no prediction could end it early"):
        pilot(VerifierReplan(2, "s"))
    with pytest.raises(ConfigError, match="future=False"):
        pilot(VerifierReplan(4, "s"), Budget(future=False))
    with pytest.raises(ConfigError, match="delta"):
        pilot(SlowFast(), action_spec=dataclasses.replace(Seer().action_spec, mode="absolute"))
    for wrong in (
        lambda: SlowFast(gain=2.0),
        lambda: PhaseTrigger(threshold=1.5),
        lambda: VerifierReplan(threshold=-1.0),
        lambda: ProgressGate(threshold=math.nan),
        lambda: Interactive(inputs={-1: "go"}),
        lambda: Interactive(0),
    ):
        with pytest.raises(ConfigError):
            wrong()


def test_the_window_of_a_verifier_is_the_calls_own() -> None:
    """Relative values need what the call saw: it is kept as long as the call's chunk runs."""
    seen: list[tuple[float, float]] = []

    @dataclasses.dataclass(frozen=True)
    class Relative(Seer):
        def perceived(self, stream: str) -> Perceived:
            def encode(now: Observation, called: Observation) -> torch.Tensor:
                seen.append((float(now.state), float(called.state)))
                return now.state

            return Perceived(stream, self.offsets, encode)

    policy = Relative(step=0.25, window=WindowSpec(observation=(-1, 0), horizon=8, future=(2, 4)))
    run(VerifierReplan(8, "s", 0.01), policy)
    assert seen
    assert {round(now - called, 5) for now, called in seen} == {0.5, 1.0}
