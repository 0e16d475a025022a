"""Accuracy at a budget: the grid, what is refused, matched episodes, resuming, and the record of every point."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import draccus
import pytest
import resumable
import torch
from hypothesis import given
from hypothesis import strategies as st
from journals import lines_of
from reports import small_report
from torch import Tensor
from wanderer import Wanderer

from wamkit.api import load
from wamkit.cli import main
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Budget, Forecast, Observation, WindowSpec
from wamkit.controllers import Chunked, Controller, OpenLoop, SingleStep
from wamkit.envs import MetaWorldConfig
from wamkit.errors import BudgetError, ConfigError, DataError, SpecError
from wamkit.evaluation.closed_loop.budgets import BudgetGrid, Setting, plan_grid
from wamkit.evaluation.closed_loop.journal import Journal
from wamkit.evaluation.closed_loop.latency import sustained_horizon
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, plan_episodes
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.evaluation.closed_loop.sweep import Sweep, build_sweep, matched_difference, run_sweep
from wamkit.evaluation.output.report_page import render
from wamkit.evaluation.output.sweep_page import render_sweep
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.machine import peak_memory_mb, restart_peak_memory
from wamkit.evaluation.report.pareto import dominates, pareto_front
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.statistics import median_interval

ENV = MetaWorldConfig(image_size=16, action_repeat=4, max_ticks=10, cameras=("scene",))
BASE = EvaluationConfig(
    tasks=("drawer-open-v3",), episodes=2, env=ENV, workers=1, slots=2, latency_calls=6, films=0
)


@dataclasses.dataclass(frozen=True)
class Still:
    """Stands still; spends as many evaluations on its action as the budget says, at most 4."""

    window: WindowSpec = dataclasses.field(default_factory=lambda: WindowSpec(horizon=8))
    name: str = "still"
    sensors: tuple[str, ...] = ()
    reads_goal: bool = False
    controller: Controller = dataclasses.field(default_factory=lambda: Chunked(4))
    observation_spec: ObservationSpec = dataclasses.field(default_factory=ENV.observation_spec)
    action_spec: ActionSpec = dataclasses.field(default_factory=ENV.action_spec)

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, 1)

    def forecast(
        self, observation: Observation, state: Tensor, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Tensor]:
        spent = budget.nfe.get("action", 2)
        return Forecast(torch.zeros(len(seeds), 8, 4), nfe={"action": spent}), state

    def decode_future(self, forecast: Forecast) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"tuple": {"coupling": "direct"}, "formula": "p(a|c)", "is_wam": False}

    def check_budget(self, budget: Budget) -> None:
        if set(budget.nfe) - {"action"}:
            raise BudgetError(f"unknown stream {sorted(set(budget.nfe) - {'action'})}")
        if not 1 <= budget.nfe.get("action", 2) <= 4:
            raise BudgetError("nfe for stream 'action' must be 1 to 4")
        if budget.candidates is not None:
            raise BudgetError("`candidates` needs a planner, and this design has none")


# --------------------------------------------------------------------------------------------- closed forms


def test_the_grid_is_the_product_of_its_knobs() -> None:
    grid = BudgetGrid(nfe={"action": (1, 2), "s": (3,)}, future=(True, False), execute=(4,))
    assert [s.id for s in grid.settings()] == [
        "nfe.action=1,nfe.s=3,future=on,execute=4", "nfe.action=1,nfe.s=3,future=off,execute=4",
        "nfe.action=2,nfe.s=3,future=on,execute=4", "nfe.action=2,nfe.s=3,future=off,execute=4",
    ]  # fmt: skip
    assert [s.id for s in BudgetGrid().settings()] == ["as-configured"]
    with pytest.raises(ConfigError, match="once"):
        BudgetGrid(execute=(4, 4))


def test_a_setting_changes_budget_and_controller_and_nothing_else() -> None:
    base = dataclasses.replace(BASE, budget=Budget(nfe={"s": 7}, iterations=2))
    setting = Setting({"nfe.action": 1, "exit.s": 3, "future": False, "predict": 6, "execute": 2})
    made = setting.apply(base, Chunked(4))
    assert made.budget == Budget(
        nfe={"s": 7, "action": 1}, exit={"s": 3}, future=False, horizon=6, iterations=2
    )
    assert made.controller == Chunked(2)
    assert dataclasses.replace(made, budget=base.budget, controller=None) == base


def test_what_cannot_be_honoured_is_known_before_anything_runs() -> None:
    grid = BudgetGrid(nfe={"action": (1, 9)}, predict=(2, 8), execute=(4, 16))
    runs, settings, refused = plan_grid(Still(), grid, BASE)
    assert list(runs) == list(settings) == ["nfe.action=1,predict=8,execute=4"]
    reasons = {point.id: point.reason for point in refused}
    assert len(reasons) == 7
    assert "1 to 4" in reasons["nfe.action=9,predict=8,execute=4"]
    assert "executes 4 actions" in reasons["nfe.action=1,predict=2,execute=4"]
    assert "at most 8" in reasons["nfe.action=1,predict=8,execute=16"]
    with pytest.raises(BudgetError, match=r"no point of the grid:\n  candidates=4: .*planner"):
        plan_grid(Still(), BudgetGrid(candidates=(4,)), BASE)
    with pytest.raises(BudgetError, match="'single_step' has no `execute`"):
        plan_grid(Still(controller=SingleStep()), BudgetGrid(execute=(4,)), BASE)
    with pytest.raises(SpecError, match="rate_hz"):  # wrong at every point: no matter of the grid
        plan_grid(Still(), grid, dataclasses.replace(BASE, env=dataclasses.replace(ENV, action_repeat=2)))


def test_a_design_says_itself_what_it_cannot_honour() -> None:
    joint, base = load("joint"), EvaluationConfig()
    grid = BudgetGrid(nfe={"action": (0, 2)}, exit={"action": (1, 3)}, future=(True, False))
    runs, _, refused = plan_grid(joint, grid, base)
    assert list(runs) == [f"nfe.action=2,exit.action=1,future={on}" for on in ("on", "off")]
    assert len(refused) == 6
    assert all("'action'" in point.reason for point in refused)
    for config in runs.values():
        joint.check_budget(config.budget)
    for grid, reason in (
        (BudgetGrid(nfe={"actoin": (1,)}), "Did you mean 'action'"),
        (BudgetGrid(candidates=(4,)), "need a planner"),
        (BudgetGrid(execute=(64,)), "at most"),
        (BudgetGrid(predict=(999,)), "must be 1 to"),
    ):
        with pytest.raises(BudgetError, match=reason):
            plan_grid(joint, grid, base)
    autoregressive = load("autoregressive")
    with pytest.raises(BudgetError, match="one evaluation per token"):
        plan_grid(autoregressive, BudgetGrid(nfe={"action": (1,)}), base)


def outcome(seed: int, status: str) -> EpisodeRecord:
    return EpisodeRecord("push", seed, "push it", status, 9, 2)


def test_points_are_compared_on_the_episodes_that_broke_in_neither() -> None:
    ours = [
        outcome(s, status) for s, status in enumerate(("success", "success", "timeout", "error", "success"))
    ]
    theirs = [
        outcome(s, status) for s, status in enumerate(("success", "timeout", "timeout", "success", "error"))
    ]
    found = matched_difference(ours, theirs)
    assert (found.n, found.difference) == (3, 1 / 3)
    assert found.low < 0 < found.high
    assert matched_difference(ours, ours).difference == 0.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_the_front_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    front = pareto_front([(float(rate), float(ms)) for rate, ms in points])
    on = [p for p, yes in zip(points, front, strict=True) if yes]
    off = [p for p, yes in zip(points, front, strict=True) if not yes]
    assert not any(dominates(a, b) for a in on for b in on)
    assert all(any(dominates(a, b) for a in on) for b in off)
    assert bool(on) == bool(points)


def test_unmeasured_points_are_on_no_front() -> None:
    assert pareto_front([(None, 1.0), (0.5, None), (0.2, 9.0)]) == (False, False, True)
    assert pareto_front([(0.5, 3.0), (0.5, 3.0), (0.5, 4.0)]) == (True, True, False)


def test_the_interval_of_the_median_is_that_of_the_tables() -> None:
    # Conover's table: n = 6 takes the extremes, n = 20 the 6th and 15th, n = 50 the 18th and 33rd.
    for n, low, high in ((6, 1, 6), (20, 6, 15), (50, 18, 33)):
        assert median_interval([float(v) for v in range(n, 0, -1)]) == (low, high)
    assert median_interval([1.0] * 5) is None
    assert median_interval(list(range(3000)))[0] < 1500


def test_a_loop_is_sustained_until_its_first_late_answer() -> None:
    # 10 Hz, K = 4: an answer may take 400 ms; 40 ticks are 10 calls, of which 9 follow another one.
    def at(samples: list[float], controller: Controller | None = None) -> Any:
        return sustained_horizon(samples, controller or Chunked(4), 10.0, 40)

    always = at([100.0] * 9)
    assert (always.ticks, always.of, always.seconds, always.least_execute) == (40, 40, 4.0, 2)
    assert (at([400.0] * 9).ticks, at([399.0] * 9).ticks) == (4, 40)  # N_fwd(K) / K < 1 / f is strict
    # A cache that grows with every tick (equation 36): call i at tick 4 i takes 100 + 10 * 4 i ms.
    grows = at([100.0 + 40.0 * i for i in range(1, 10)])
    assert grows.ticks == 4 * 8  # 100 + 40 i >= 400 from i = 7.5 on
    # Three calls speak of the second to the fourth chunk; nobody knows what comes after.
    short = at([100.0] * 3)
    assert (short.ticks, short.of) == (16, 16)
    # The tenth sample is the first call of the next episode: it replaces no running action.
    assert at([*[100.0] * 9, 999.0]).ticks == 40
    assert at([*[100.0] * 9, 1.0, 999.0]).ticks == 4
    assert at([999.0], OpenLoop()).ticks == 40  # one call, no deadline
    assert at([150.0] * 39, SingleStep()).ticks == 1
    assert at([]) is None


def test_peak_memory_is_that_of_what_follows() -> None:
    cpu = torch.device("cpu")
    big = torch.ones(60_000_000)  # 240 MB
    with_it = peak_memory_mb(cpu)["process"]
    del big
    assert restart_peak_memory(cpu)
    assert peak_memory_mb(cpu)["process"] < with_it - 150


# -------------------------------------------------------------------------------------------- a real sweep

GRID = BudgetGrid(nfe={"action": (1, 4, 9)}, execute=(4,))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    out = tmp_path_factory.mktemp("sweep")
    return run_sweep(Still(), GRID, BASE, out, checkpoint="abc", dataset="sha256:0", progress=False), out


@pytest.mark.sim
def test_every_point_has_the_whole_record(swept: tuple[Sweep, Path]) -> None:
    made, out = swept
    found = Sweep.load(out / "sweep.json")
    assert found == made
    assert [p.id for p in found.points] == ["nfe.action=1,execute=4", "nfe.action=4,execute=4"]
    assert [p.id for p in found.refused] == ["nfe.action=9,execute=4"]
    first = found.points[0]
    for point, spent in zip(found.points, (1.0, 4.0), strict=True):
        report = Report.load(out / point.report)
        # Accuracy, with n, interval and what the simulator saw.
        assert (point.success.n, point.success.successes) == (2, 0)
        assert point.success.wilson_95[0] == 0.0 < point.success.wilson_95[1] < 1.0
        assert point.difference.n == 2
        assert point.failures is not None
        assert {row.phase for row in point.failures.phases} == {"contact", "transport", "success"}
        # Cost.
        assert point.latency_ms.n == 6
        low, high = point.median_95
        assert low <= point.latency_ms.p50 <= high <= point.latency_ms.max
        assert point.nfe == {"action": spent}
        assert point.deadline.n == 6
        assert point.sustained.of == 10
        assert point.peak_mem_mb["process"] > 10
        assert (point.horizon.predict, point.horizon.execute) == (8, 4)
        # Where it comes from: point 11 of the design.
        assert point.seeds == first.seeds == report.seeds
        assert len(point.seeds["drawer-open-v3"]) == 2
        assert {"python", "torch", "mujoco"} <= set(point.versions)
        assert {"policy", "cpu", "cores"} <= set(point.device)
        assert (point.prompt_mode, point.threads, point.control_hz) == ("canonical", 1, 20.0)
        assert point.budget["nfe"] == {"action": spent}
        assert point.controller == {"type": "chunked", "execute": 4}
        assert (point.checkpoint, point.dataset) == ("abc", "sha256:0")
        assert len(point.config_hash) == 64
        assert [e.seed for e in report.episodes] == list(point.seeds["drawer-open-v3"])
    assert any(p.front for p in found.points)


@pytest.mark.sim
def test_finished_points_are_kept_and_others_are_refused(swept: tuple[Sweep, Path]) -> None:
    made, out = swept
    before = {file: file.read_bytes() for file in (out / "points").iterdir()}
    told = {"checkpoint": "abc", "dataset": "sha256:0", "progress": False}
    again = run_sweep(Still(), GRID, BASE, out, **told)
    assert again == made  # latency samples too: nothing was run
    assert {file: file.read_bytes() for file in (out / "points").iterdir()} == before
    more = dataclasses.replace(BASE, episodes=3)
    with pytest.raises(ConfigError, match="episodes = 2, and this sweep wants 3"):
        run_sweep(Still(), GRID, more, out, **told)
    with pytest.raises(ConfigError, match="checkpoint = 'abc', and this sweep wants 'xyz'"):
        run_sweep(Still(), GRID, BASE, out, **{**told, "checkpoint": "xyz"})


@pytest.mark.sim
def test_a_killed_sweep_goes_on_inside_its_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"checkpoint": "abc", "progress": False}
    second = dataclasses.replace(resumable.SWEPT, controller=Chunked(4))
    whole = rollout(Wanderer(), second, **told).report
    out = tmp_path
    journal = out / "points" / "execute=4.journal.jsonl"
    process = subprocess.Popen([sys.executable, resumable.__file__, "sweep", str(out)])
    while process.poll() is None and not (journal.exists() and len(lines_of(journal, "episode")) >= 2):
        time.sleep(0.01)
    process.kill()
    assert process.wait() < 0
    before = {line["key"] for line in lines_of(journal, "episode")}
    planned = {plan.key for plan in plan_episodes(resumable.SWEPT)}
    assert 2 <= len(before) < len(planned)
    first = (out / "points" / "execute=2.json").read_bytes()

    other = dataclasses.replace(resumable.SWEPT, seed=1)
    (out / "points" / "execute=2.json").rename(out / "kept.json")
    with pytest.raises(ConfigError, match=r"execute=4.journal.jsonl holds another, .*seed: 0 there, 1 here"):
        run_sweep(resumable.Slow(), resumable.GRID, other, out, **told)
    assert not (out / "points" / "execute=2.journal.jsonl").exists()  # refused before anything was run
    (out / "kept.json").rename(out / "points" / "execute=2.json")

    ran: list[str] = []
    append = Journal.append
    monkeypatch.setattr(Journal, "append", lambda j, e: (ran.append(e.key), append(j, e))[1])
    resumed = run_sweep(resumable.Slow(), resumable.GRID, resumable.SWEPT, out, **told)
    assert len(ran) == len(set(ran))
    assert set(ran) == planned - before
    assert (out / "points" / "execute=2.json").read_bytes() == first
    report = Report.load(out / resumed.points[1].report)
    assert report.episodes == whole.episodes
    assert report.filmstrips == whole.filmstrips
    assert f"resumed: {len(before)} of {len(planned)} episodes" in resumed.points[1].notes[0]
    assert not list((out / "points").glob("*.journal*"))


@pytest.mark.sim
def test_a_sweep_that_contradicts_its_reports_is_refused(swept: tuple[Sweep, Path]) -> None:
    _, out = swept
    raw = json.loads((out / "sweep.json").read_text())
    del raw["digest"]
    raw["points"][0]["success"]["successes"] = 2
    (out / "forged.json").write_text(json.dumps(raw))
    with pytest.raises(DataError, match=r"'nfe.action=1,execute=4' does not follow"):
        Sweep.load(out / "forged.json")


@pytest.mark.sim
def test_the_page_shows_every_budget(swept: tuple[Sweep, Path]) -> None:
    text = render_sweep(swept[0])
    assert not re.search(r"<script|src=\"http|href=\"http", text)
    for said in ("nfe.action=1, execute=4", "nfe.action=9, execute=4", "must be 1 to 4", "0 of 2", "got to contact",
                 "failed: never reached", "2 of 2, 100 %", "canonical", "deadline K/f 200 ms"):  # fmt: skip
        assert said in text, said
    assert text.count("<svg") == 1


def test_the_verb_reads_a_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--checkpoint", "./nowhere", "--grid.nfe.action", "[1, 2]"]) == 2
    assert "no checkpoint at" in capsys.readouterr().err
    assert main(["evaluate", "--sweep", "--checkpoint", "./nowhere", "--grid.nfe.action", "[1, 2]"]) == 2
    assert "no checkpoint at" in capsys.readouterr().err
    assert main(["evaluate", "--checkpoint", "./nowhere", "--grid.exectue", "[1]", "--sweep"]) == 2
    assert "Did you mean 'execute'" in capsys.readouterr().err
    assert main(["sweep", "--grid.exectue", "[1]"]) == 2
    assert "Did you mean 'execute'" in capsys.readouterr().err


def test_a_policy_at_half_the_rate_is_counted_in_its_own_ticks() -> None:
    """21 control ticks at 20 Hz are 10 actions at 10 Hz; both are said, and an action has twice the time."""
    config = {"env": {"max_ticks": 21}, "controller": draccus.encode(Chunked(4))}
    fast = dataclasses.replace(small_report(), config=config, control_hz=20.0)
    slow = dataclasses.replace(fast, control_hz=10.0, every=2.0)
    (whole,), (half,) = (build_sweep({"x": report}, ()).points for report in (fast, slow))
    assert whole.sustained is not None
    assert half.sustained is not None
    assert (whole.sustained.of, whole.sustained.seconds) == (21, 21 / 20)
    assert (half.sustained.of, half.sustained.seconds) == (10, 10 / 10)
    page, plain = (render_sweep(build_sweep({"x": report}, ())) for report in (slow, fast))
    assert "10 Hz (the robot 20 Hz: an action lasts 2 control ticks)" in page
    predict, execute = slow.horizon.predict, slow.horizon.execute
    assert f"{predict} ({2 * predict} control ticks) / {execute} ({2 * (execute or 0)} control ticks)" in page
    assert "10 of 10 (20 control ticks) ticks" in page
    assert "20 Hz" in plain
    assert "(the robot" not in plain
    both = render([slow, fast], [{}, {}])
    assert "10 Hz (the robot 20 Hz: an action lasts 2 control ticks)" in both
