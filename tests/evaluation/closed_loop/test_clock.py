"""Wall-clock figures are those of an outside timer, and both clock readings wait for the device."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import MAX_TICKS, Memory, ToyPolicy, ToySimulators

from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.controllers import Chunked
from wamkit.design.timing import Stages
from wamkit.evaluation.closed_loop import pilot as pilot_module
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode
from wamkit.evaluation.closed_loop.latency import Probe, judge, probe
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.pilot import PolicyPilot
from wamkit.evaluation.report.machine import device_of


@dataclasses.dataclass(frozen=True)
class Sleeper(ToyPolicy):
    """Sleeps in every call, as long as it is told, and times itself."""

    sleeps: tuple[float, ...] = (0.02,)
    own_ms: list[float] = dataclasses.field(default_factory=list, compare=False)

    def forecast(
        self, observation: Observation, state: Memory, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Memory]:
        began = time.monotonic()
        time.sleep(self.sleeps[len(self.own_ms) % len(self.sleeps)])
        made = super().forecast(observation, state, budget, seeds)
        self.own_ms.append(1000 * (time.monotonic() - began))
        return made


def probed(policy: ToyPolicy, calls: int) -> tuple[Probe, PolicyPilot, float]:
    """A probe, and the seconds that it took from outside."""
    pilot = PolicyPilot(policy, Chunked(4), Budget(), MAX_TICKS)
    simulators, run = ToySimulators(1), EpisodeRun(PlannedEpisode("a", 0), 0)
    simulators.reset_async(0, 0)
    run.absorb(simulators.wait([0])[0], MAX_TICKS)
    pilot.begin(run)
    began = time.monotonic()
    return probe(pilot, [run], calls, 100), pilot, time.monotonic() - began


@settings(max_examples=5, deadline=None)
@given(st.lists(st.sampled_from([0.002, 0.005, 0.01, 0.02]), min_size=2, max_size=6))
def test_latency_is_what_an_outside_timer_says(sleeps: list[float]) -> None:
    policy = Sleeper(sleeps=tuple(sleeps))
    found, pilot, outside_s = probed(policy, len(sleeps) - 1)
    assert found.first is not None
    ms = [found.first.ms, *found.samples_ms]
    assert not pilot.notes
    assert len(ms) == len(policy.own_ms) == len(sleeps)
    for measured, own, slept in zip(ms, policy.own_ms, sleeps, strict=True):
        # It holds all that the policy saw of itself, and nothing is counted twice or in another call.
        assert 1000 * slept <= own <= measured
    assert sum(ms) <= 1000 * outside_s
    # What is added to the policy's own time is the harness's: small beside the sleeps, in the median call.
    extra = sorted(measured - own for measured, own in zip(ms, policy.own_ms, strict=True))
    assert extra[len(extra) // 2] < 10.0
    latency = found.latency()
    assert (latency.n, latency.first, latency.max) == (len(sleeps) - 1, ms[0], max(ms[1:]))


def test_the_calls_of_the_loop_are_timed_in_the_same_way() -> None:
    policy = Sleeper(sleeps=(0.01,))
    pilot = PolicyPilot(policy, Chunked(4), Budget(), MAX_TICKS)
    began = time.monotonic()
    result = ClosedLoop(ToySimulators(2), 2, 1, pilot, MAX_TICKS).run(
        [PlannedEpisode("a", s) for s in (3, 4)]
    )
    outside_s = time.monotonic() - began
    assert len(pilot.calls) == len(policy.own_ms) == sum(run.calls for run in result.runs)
    for call, own in zip(pilot.calls, policy.own_ms, strict=True):
        assert call.ms >= own >= 10.0
    assert sum(call.ms for call in pilot.calls) <= 1000 * result.seconds <= 1000 * outside_s


def test_a_known_time_misses_a_known_deadline() -> None:
    policy = Sleeper(sleeps=(0.0, 0.15, 0.001))  # the cold call, then slow and quick in turn
    found, _, _ = probed(policy, 4)
    # 0, then 150, 1, 0, 150 ms at K = 1 and 10 Hz: an answer may take 100 ms.
    late = [slept >= 100.0 for slept in policy.own_ms[1:]]
    assert late == [True, False, False, True]
    told = judge(found.samples_ms, Chunked(1), 10.0)
    assert (told.n, told.misses, told.met) == (4, 2, False)
    assert told.allowed_ms == 100.0


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every waiting for a device and every reading of the pilot's clock, in order."""
    entries: list[Any] = []

    def perf_counter() -> float:
        entries.append("clock")
        return time.perf_counter()

    monkeypatch.setattr(pilot_module, "synchronise", entries.append)
    monkeypatch.setattr(pilot_module, "time", SimpleNamespace(perf_counter=perf_counter))
    return entries


def test_the_device_has_finished_at_both_readings(log: list[Any]) -> None:
    class Logged(ToyPolicy):
        def forecast(self, *arguments: Any) -> tuple[Forecast, Memory]:
            log.append("forecast")
            return super().forecast(*arguments)

    probed(Logged(), 2)
    cpu = torch.device("cpu")
    assert log == [cpu, "clock", "forecast", cpu, "clock"] * 3


def test_the_device_is_where_the_policy_computes_not_where_its_actions_lie(log: list[Any]) -> None:
    class Elsewhere(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, device="meta"))

    assert device_of(Elsewhere()) == torch.device("meta")
    assert device_of(torch.nn.Module()) == device_of(ToyPolicy()) == torch.device("cpu")
    _, pilot, _ = probed(ToyPolicy(), 0)
    pilot.device = device_of(Elsewhere())
    simulators, run = ToySimulators(1), EpisodeRun(PlannedEpisode("a", 0), 0)
    simulators.reset_async(0, 0)
    run.absorb(simulators.wait([0])[0], MAX_TICKS)
    pilot.begin(run)
    pilot.forecast([run], Budget())
    assert [entry for entry in log if entry != "clock"] == [torch.device("meta")] * 2


def test_stages_wait_for_the_device_too(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    stages = Stages(torch.device("cuda"))
    with stages.measure("encode"):
        assert len(waited) == 1
        time.sleep(0.01)
    assert waited == [torch.device("cuda")] * 2
    assert stages.milliseconds["encode"] >= 10.0
