"""Trainings of several robots: statistics, held-out losses per robot, and starting from a checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wamkit import api
from wamkit.actions.columns import restricted
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import TrunkConfig
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import Budget
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.mixture import Mixture
from wamkit.design import from_pretrained
from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.geometry.poses import PoseLayout
from wamkit.training import OptimConfig, TrainConfig
from wamkit.training.balance import Ramp
from wamkit.training.config import SourceConfig
from wamkit.trunks import TransformerConfig
from wamkit.views import View, ViewConfig
from wamkit.views.common import common_specs

NAMES = {"slim": ("x", "y"), "wide": ("a", "b", "c", "grip"), "other": ("u", "v", "w")}
STILL = OptimConfig(lr=1e-6, warmup=0, ema=0.0)
WIDE = {"state_width": 5, "action_width": 5, "cameras": {}}
VIEWS = {name: ViewConfig(**WIDE) for name in NAMES}  # type: ignore[arg-type]


def record(root: Path, name: str, scale: float, seed: int = 0) -> Path:
    """Four episodes whose actions are 0.1 ``scale`` ahead of the state."""
    names, rng = NAMES[name], np.random.default_rng(seed)
    observation = ObservationSpec({"eye": CameraSpec(16, 16)}, names, 10.0)
    limits = (-9 * scale,) * len(names), (9 * scale,) * len(names)
    action = ActionSpec(names, *limits, 10.0, mode="absolute")
    with DatasetWriter(root, observation, action) as writer:
        for _ in range(4):
            frames = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
            state = np.cumsum(rng.normal(0, scale, (20, len(names))), axis=0).astype(np.float32)
            state = state.clip(-8 * scale, 8 * scale)
            writer.add(Episode({"eye": frames}, state, state + np.float32(0.1 * scale), "go"))
    return root


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("robots")
    return {name: record(folder / name, name, 10.0 ** (i - 1)) for i, name in enumerate(NAMES)}


def design(**changes: Any) -> DesignConfig:
    direct = api.recipe("direct")
    encoders = {"state": direct.encoders["state"]}
    trunks: dict[str, TrunkConfig] = {"main": TransformerConfig(width=16, depth=1, heads=2)}
    return replace(direct, encoders=encoders, trunks=trunks, width=16, horizon=8, **changes)


def run(roots: dict[str, Path], out: Path, *names: str, **fields: Any) -> Path:
    """Train on these robots as a mixture."""
    made = {
        "mixture": {name: SourceConfig(roots[name]) for name in names},
        "design": design(views={name: VIEWS[name] for name in names}),
        "steps": 2,
        "batch_size": 4,
        "optim": OptimConfig(warmup=1, ema=0.0),
    }
    return api.train(TrainConfig(out=out, **{**made, **fields}), progress=False)


@pytest.fixture(scope="module")
def model(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(roots, tmp_path_factory.mktemp("runs") / "both", "slim", "wide", held_out=1)


def scaling(model: Path, robot: str) -> Any:
    known = from_pretrained(model).data.robots[robot]
    return known.state_scaling, known.action_scaling


def test_statistics_are_of_the_robots_that_have_a_column(roots: dict[str, Path]) -> None:
    mixture = Mixture({n: Dataset(roots[n], view=VIEWS[n]) for n in ("slim", "wide")}, 4)
    data = mixture.spec()
    slim, wide = (mixture.datasets[name].action for name in ("slim", "wide"))
    for name, function in (("mean", np.mean), ("std", np.std), ("max", np.max)):
        found = data.stats["action"][name]
        np.testing.assert_allclose(
            found[:2], function(np.concatenate((slim, wide))[:, :2], axis=0), rtol=1e-5
        )
        np.testing.assert_allclose(found[2:4], function(wide[:, 2:4], axis=0), rtol=1e-5)
        assert found[4] == 0
    assert data.action.names == ("action_0", "action_1", "action_2", "action_3", "padding_4")
    limits = mixture.datasets["wide"].action_spec  # the other robot's are not the 0 of its padding
    assert (data.action.low[3], data.action.high[3]) == (limits.low[3], limits.high[3])


def test_the_held_out_loss_is_logged_per_robot(model: Path) -> None:
    lines = [json.loads(line) for line in (model.parent / "log.jsonl").read_text().splitlines()]
    (found,) = (line for line in lines if "held_out" in line)
    own = [found[f"held_out.robot.{name}"] for name in ("slim", "wide")]
    assert found["held_out"] == pytest.approx(np.mean(own), abs=2e-5)
    assert found["held_out.robot.slim.action"] == found["held_out.robot.slim"]
    assert own[0] != own[1]
    stored = json.loads((model.parent / "held_out.json").read_text())
    assert {name: len(episodes) for name, episodes in stored["robots"].items()} == {"slim": 1, "wide": 1}


def test_predict_measures_a_robot_in_its_recorded_units(
    roots: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    found = {}
    for name, robot in (("slim", None), ("wide", "wide")):
        config = api.PredictConfig(str(model), roots[name], tmp_path / name, robot=robot)
        prediction = api.predict(config, progress=False)
        assert prediction.open_loop is not None
        # The episode that was held out of this robot's dataset is the one that is measured.
        stored = json.loads((model.parent / "held_out.json").read_text())["robots"][name]
        assert list(prediction.open_loop.episodes) == stored
        rows = [row for row in prediction.open_loop.rows if row.step is None]
        assert [row.column for row in rows] == list(NAMES[name])
        found[name] = np.mean([row.mean.mean for row in rows])
    assert 2 < found["wide"] / found["slim"] < 50  # one moves ten times as far as the other


def test_predict_refuses_when_it_cannot_tell_the_robot(
    roots: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"robots slim, wide, and none has the specs.*Name one in `robot`"):
        api.predict(api.PredictConfig(str(model), roots["other"], tmp_path / "a"), progress=False)
    with pytest.raises(ConfigError, match=r"knows no 'slum'.*slim"):
        api.predict(
            api.PredictConfig(str(model), roots["slim"], tmp_path / "b", robot="slum"), progress=False
        )
    with pytest.raises((SpecError, ConfigError), match="a"):
        api.predict(
            api.PredictConfig(str(model), roots["slim"], tmp_path / "c", robot="wide"), progress=False
        )


def test_a_mixture_starts_from_a_mixture(roots: dict[str, Path], model: Path, tmp_path: Path) -> None:
    changed = {**roots, "wide": record(tmp_path / "again", "wide", 1.0, seed=7)}
    grown = run(changed, tmp_path / "run", "wide", "other", pretrained=str(model), steps=1)
    assert scaling(grown, "wide") == scaling(model, "wide")  # not those of the new recording
    fresh = Mixture({"other": Dataset(roots["other"], view=VIEWS["other"])}, 8).datasets["other"]
    assert scaling(grown, "other") == fresh.view.scaling
    assert set(from_pretrained(grown).data.robots) == {"wide", "other"}
    before, after = from_pretrained(model).data.stats, from_pretrained(grown).data.stats
    np.testing.assert_array_equal(before["action"]["mean"], after["action"]["mean"])
    for robot in ("wide", "other"):
        acts(grown, changed[robot], robot)


def acts(model: Path, root: Path, robot: str | None) -> torch.Tensor:
    policy = api.load_policy(model, robot=robot)
    seen = Dataset(root).windows(np.array([3, 9]), policy.window).observation
    forecast, _ = policy.forecast(seen, policy.initial_state(2), Budget(), seeds=[1, 2])
    assert forecast.action.shape[-1] == seen.state.shape[-1]
    return forecast.action


@pytest.mark.parametrize("robot", ["wide", None])
def test_a_model_of_several_is_tuned_to_one_of_them(
    roots: dict[str, Path], model: Path, tmp_path: Path, robot: str | None
) -> None:
    common = {
        "mixture": {},
        "dataset": roots["wide"],
        "pretrained": str(model),
        "robot": robot,
        "design": design(),
    }
    still = run(roots, tmp_path / "still", **common, steps=1, optim=STILL)
    torch.testing.assert_close(
        acts(still, roots["wide"], None), acts(model, roots["wide"], "wide"), rtol=1e-3, atol=1e-3
    )
    assert scaling(still, "wide") == scaling(model, "wide")
    assert from_pretrained(still).config.views["wide"] == VIEWS["wide"]


def test_a_tuning_that_stopped_goes_on_bit_for_bit(
    roots: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    common = {"mixture": {}, "dataset": roots["wide"], "pretrained": str(model), "design": design()}
    common |= {"steps": 4, "checkpoint_every": 2, "held_out": 1}
    whole = run(roots, tmp_path / "whole", **common)

    def stop(step: int, *more: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    made = TrainConfig(out=tmp_path / "half", batch_size=4, optim=OptimConfig(warmup=1, ema=0.0), **common)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        api.train(made, progress=False, hook=stop)
    half = api.train(made, progress=False)
    assert (whole / "model.safetensors").read_bytes() == (half / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["robot", "renamed"])
def test_a_mixture_starts_from_a_model_of_one_robot(
    roots: dict[str, Path], tmp_path: Path, name: str
) -> None:
    view = replace(VIEWS["wide"], state_width=0, action_width=0)
    alone = run(roots, tmp_path / "one", mixture={}, dataset=roots["wide"], design=design(view=view))
    narrow = replace(VIEWS["other"], state_width=4, action_width=4)
    views = {name: view, "other": narrow}
    sources = {name: SourceConfig(roots["wide"]), "other": SourceConfig(roots["other"])}
    common = {"pretrained": str(alone), "design": design(views=views), "mixture": sources, "steps": 1}
    grown = run(roots, tmp_path / "run", **common, optim=STILL)
    after = acts(grown, roots["wide"], name)
    # It has been trained on these numbers, so its own statistics say the same as they did.
    torch.testing.assert_close(after, acts(alone, roots["wide"], None), rtol=1e-3, atol=1e-3)
    acts(grown, roots["other"], "other")


def test_a_known_name_is_the_same_robot_seen_in_the_same_way(
    roots: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=r"(?s)robot 'wide' of checkpoint.*A robot of another name"):
        run({**roots, "wide": roots["slim"]}, tmp_path / "a", "wide", pretrained=str(model))
    views = {"wide": replace(VIEWS["wide"], relative="state")}
    with pytest.raises(ConfigError, match="sees its columns through another view"):
        run(roots, tmp_path / "b", "wide", pretrained=str(model), design=design(views=views))
    views = {"other": replace(VIEWS["other"], action_width=4)}
    with pytest.raises(SpecError, match="the training shows 4 action columns, the others 5"):
        run(roots, tmp_path / "c", "other", pretrained=str(model), design=design(views=views))
    with pytest.raises(ConfigError, match="none has the specs"):
        run(roots, tmp_path / "d", mixture={}, dataset=roots["other"], pretrained=str(model))
    made = run(
        roots, tmp_path / "e", mixture={}, dataset=roots["other"], robot="other", pretrained=str(model),
        design=design(view=VIEWS["other"]),
    )  # fmt: skip
    acts(made, roots["other"], None)


def test_weights_differ_from_stage_to_stage(roots: dict[str, Path], tmp_path: Path) -> None:
    mixture = {
        "slim": SourceConfig(roots["slim"], ramps=(Ramp(1.0, 0.0, 2, 2),)),
        "wide": SourceConfig(roots["wide"], ramps=(Ramp(0.0, 1.0, 2, 2),)),
    }
    data = Mixture({name: Dataset(roots[name], view=VIEWS[name]) for name in mixture}, 8)
    draw = data.draw(np.arange(data.num_frames), TrainConfig(mixture=mixture).source_weights)
    wide = [draw(4, 0, step) >= data.starts[1] for step in range(4)]
    assert [rows.tolist() for rows in wide] == [[False] * 4] * 2 + [[True] * 4] * 2
    run(roots, tmp_path / "run", "slim", "wide", mixture=mixture, steps=4)


def test_a_gripper_is_found_by_name_behind_padding(roots: dict[str, Path]) -> None:
    dataset = Dataset(roots["wide"])
    spec = replace(dataset.action_spec, mode="delta", gripper="positive_closes")
    view = View(ViewConfig(cameras={}, action_width=6), dataset.observation_spec, spec)
    seen = view.action_spec
    assert (seen.gripper, seen.gripper_entry, seen.gripper_at) == ("positive_closes", "grip", 3)
    assert PoseLayout.of(seen).moving == PoseLayout.of(spec).moving == 3
    data = DataSpec(dataset.observation_spec, seen, {})
    assert restricted(data, (3, 4)).action.gripper_at == 0
    assert restricted(data, (0, 5)).action.gripper == "none"
    _, common = common_specs([dataset.observation_spec] * 2, [seen, seen])
    assert common.names[common.gripper_at or 0] == "action_3"
    moved = View(ViewConfig(cameras={}, action=("grip", "a", "b", "c")), dataset.observation_spec, spec)
    assert moved.action_spec.gripper_at == 0
    _, none = common_specs([dataset.observation_spec] * 2, [seen, replace(seen, gripper_entry="a")])
    assert none.gripper == "none"
