"""``evaluate`` in the real simulator, at the smallest size, with a policy that needs no network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import draccus
import pytest
import torch
from torch import Tensor

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Budget, Forecast, Observation, WindowSpec
from wamkit.controllers import Chunked, Controller
from wamkit.envs import EVALUATION_SEEDS_FROM, MetaWorldConfig, instructions
from wamkit.errors import BudgetError, ConfigError, SpecError
from wamkit.evaluation.closed_loop.rollout import (
    EvaluationConfig,
    evaluate,
    plan_episodes,
    prepare,
    pure_simulation,
    rollout,
)
from wamkit.evaluation.report.report import Report

pytestmark = pytest.mark.sim
ENV = MetaWorldConfig(image_size=16, action_repeat=4, max_ticks=10)
TASKS = ("drawer-open-v3", "window-open-v3")


@dataclasses.dataclass(frozen=True)
class Wanderer:
    """Random actions from the row's seed; imagines that the world stands still; carries a call counter."""

    window: WindowSpec = dataclasses.field(
        default_factory=lambda: WindowSpec(observation=(-2, 0), horizon=8, future=(2, 4))
    )
    name: str = "wanderer"
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
        assert set(observation.extras) == set(self.sensors)
        noise = [torch.rand(8, 4, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in seeds]
        now = {
            camera: image[:, -1:].expand(-1, 2, -1, -1, -1) for camera, image in observation.images.items()
        }
        return Forecast(torch.stack(noise), future=now, nfe={"action": 3}), state + 1

    def decode_future(self, forecast: Forecast) -> dict[str, Tensor] | None:
        return dict(forecast.future)

    def describe(self) -> dict[str, Any]:
        return {"tuple": {"coupling": "direct"}, "formula": "p(a|c)", "is_wam": False}

    def check_budget(self, budget: Budget) -> None:
        if budget.candidates is not None:
            raise BudgetError("the wanderer has no candidates")


CONFIG = EvaluationConfig(
    tasks=TASKS, episodes=2, env=ENV, controller=Chunked(4), workers=2, slots=4, latency_calls=3, timeout_s=60
)


def test_evaluate_reports_and_replays(tmp_path: Path) -> None:
    done = rollout(Wanderer(), CONFIG, dataset="sha256:0", progress=False)
    report = done.report
    assert [(e.status, e.ticks, e.calls) for e in report.episodes] == [("timeout", 10, 3)] * 4
    assert report.seeds == dict.fromkeys(TASKS, (EVALUATION_SEEDS_FROM, EVALUATION_SEEDS_FROM + 1))
    assert {e.instruction for e in report.episodes} == {instructions(task)[0] for task in TASKS}
    assert report.overall.n == 4
    assert report.threads == CONFIG.threads
    assert report.peak_mem_mb["largest_worker"] > 10
    assert report.latency_ms.n == 3
    assert report.latency_ms.first is not None
    assert report.nfe == {"action": 3.0}
    assert report.mean_batch == 2.0
    assert (report.horizon.predict, report.horizon.execute) == (8, 4)
    assert report.deadline.allowed_ms == 4 * 1000 / 20
    assert report.deadline.met
    assert report.budget["horizon"] == 4
    # Filmed: one episode per task, two cameras, both calls whose future was reached.
    assert {(s.task, s.camera) for s in report.filmstrips} == {
        (t, c) for t in TASKS for c in ("scene", "gripper")
    }
    assert [s.offsets for s in report.filmstrips if s.camera == "scene"] == [(2, 4), (2, 4), (2,)] * 2
    for strip in report.filmstrips:
        assert strip.psnr_db == strip.still_db  # it imagines that nothing moves
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    assert draccus.decode(EvaluationConfig, report.config) == CONFIG
    assert pure_simulation(CONFIG, done.traces, progress=False) > 0


def test_two_evaluations_are_equal() -> None:
    short = dataclasses.replace(CONFIG, films=0, latency_calls=0)
    one, two = (rollout(Wanderer(), short, progress=False) for _ in range(2))
    assert one.report.episodes == two.report.episodes
    for ours, theirs in zip(one.traces, two.traces, strict=True):
        assert [b.actions.tobytes() for b in ours.blocks] == [b.actions.tobytes() for b in theirs.blocks]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"controller": Chunked(9)}, ConfigError, "at most 8"),
        ({"budget": Budget(candidates=4)}, BudgetError, "candidates"),
        ({"env": dataclasses.replace(ENV, action_repeat=2)}, SpecError, "rate_hz"),
        ({"env": dataclasses.replace(ENV, cameras=("scene",))}, SpecError, "cameras"),
        ({"tasks": ("drawer-opne-v3",)}, ConfigError, "drawer-open-v3"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_simulator_starts(
    change: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate(Wanderer(), dataclasses.replace(CONFIG, **change), progress=False)


def test_a_sensor_that_the_environment_does_not_deliver_is_refused() -> None:
    blind = dataclasses.replace(CONFIG, env=dataclasses.replace(ENV, record=("contact",)))
    with pytest.raises(SpecError, match=r"reads the extra 'depth.scene'.* Add 'depth' to .*`record`"):
        prepare(Wanderer(sensors=("contact", "depth.scene")), blind)
    seeing = dataclasses.replace(CONFIG, env=dataclasses.replace(ENV, record=("contact", "depth")))
    prepare(Wanderer(sensors=("contact", "depth.scene")), seeing)


def test_a_policy_feels_what_it_asks_for() -> None:
    feeling = dataclasses.replace(
        CONFIG, episodes=1, env=dataclasses.replace(ENV, max_ticks=4, record=("contact_force",)), films=0
    )
    pilot = prepare(Wanderer(sensors=("contact_force",)), feeling)
    assert pilot.policy.sensors == ("contact_force",)
    report = evaluate(Wanderer(sensors=("contact_force",)), feeling, progress=False)
    assert report.tasks


def test_bad_configs_are_refused() -> None:
    with pytest.raises(ConfigError, match="episodes"):
        EvaluationConfig(episodes=0)
    with pytest.raises(ConfigError, match="once"):
        EvaluationConfig(tasks=("reach-v3", "reach-v3"))


def test_paraphrases_are_never_the_canonical_words() -> None:
    plan = plan_episodes(dataclasses.replace(CONFIG, prompt_mode="paraphrase", episodes=4))
    for episode in plan:
        assert episode.instruction in instructions(episode.task)[1:]
    assert len({e.instruction for e in plan}) > 2
