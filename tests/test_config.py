"""Configs: lossless round trips, the nearest name for every unknown one, the command line, transforms."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wamkit.actions import BinsConfig
from wamkit.config import config_hash, decode, encode, parse
from wamkit.design import DesignConfig
from wamkit.errors import ConfigError, DataError
from wamkit.nn.transforms import Mode, Normalizer
from wamkit.planners import CEMConfig
from wamkit.training import TrainConfig
from wamkit.zoo import RECIPES, recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_survive_a_round_trip_through_yaml(name: str) -> None:
    config = recipe(name)
    text = yaml.safe_dump(encode(config))
    again = decode(DesignConfig, yaml.safe_load(text), "here")
    assert again == config
    assert config_hash(again) == config_hash(config)


def test_the_hash_names_the_content() -> None:
    hashes = {name: config_hash(recipe(name)) for name in RECIPES}
    assert len(set(hashes.values())) == len(RECIPES)
    assert all(int(h, 16) >= 0 for h in hashes.values())
    config = recipe("joint")
    world = replace(config.estimators["world"], steps=9)  # type: ignore[call-arg]
    assert config_hash(replace(config, estimators={"world": world})) != config_hash(config)
    turned = replace(config, encoders=dict(reversed(list(config.encoders.items()))))
    assert config_hash(turned) == config_hash(config)  # keys have no order


Values = dict[str, Any]
WRONG: dict[str, tuple[Callable[[Values], object], str]] = {
    "top": (lambda v: v.update(horizn=3), r"here: .*`horizn`.* Did you mean 'horizon'"),
    "estimator": (
        lambda v: v["estimators"]["world"].update(step=3),
        r"estimators.world.*Did you mean 'steps'",
    ),
    "trunk": (lambda v: v["trunks"]["main"].update(widht=3), r"trunks.main.*Did you mean 'width'"),
    "future": (lambda v: v["futures"]["future"].update(offset=3), r"futures.future.*Did you mean 'offsets'"),
    "codec": (
        lambda v: v["substrates"]["video"]["codec"].update(feature=3),
        r"substrates.video.codec.*Did you mean 'features'",
    ),
    "factor": (lambda v: v["factors"][0].update(gven=3), r"factors.0.*Did you mean 'given'"),
    "choice": (lambda v: v["trunks"]["main"].update(type="transfomer"), r"Did you mean 'transformer'"),
    "no choice": (lambda v: v["action"].pop("type"), r"'type' key.*Known: bins, chunk"),
    "text for a number": (
        lambda v: v.update(horizon="long"),
        r"^here: horizon: must be an integer, got the text 'long'\.$",
    ),
    "list for a number": (
        lambda v: v.update(stride=[1]),
        r"^here: stride: must be an integer, got the list \[1\]\.$",
    ),
    "text for a list": (
        lambda v: v["factors"][0].update(generates="action"),
        r"^here: factors.0.generates: must be a list, got the text 'action'\. Write \[action\]\.$",
    ),
    "literal": (
        lambda v: v["encoders"]["state"].update(normalization="mean"),
        r"normalization.*mean_std, min_max, quantile",
    ),
    "number for a mapping": (
        lambda v: v.update(trunks=3),
        r"^here: trunks: must be a mapping, such as .*, got 3\.$",
    ),
    "refused by the part": (
        lambda v: v["controller"].update(execute=0),
        r"^here: controller.execute: must be at least 1 and at most 16384, got 0\.$",
    ),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_configs_name_the_place_and_the_way_out(case: str) -> None:
    change, message = WRONG[case]
    values = copy.deepcopy(encode(recipe("joint")))
    change(values)
    with pytest.raises(ConfigError, match=message):
        decode(DesignConfig, values, "here")


def test_a_part_asked_for_by_its_own_class_needs_no_type() -> None:
    assert decode(BinsConfig, {"bins": 16}, "here") == BinsConfig(bins=16)
    with pytest.raises(ConfigError, match=r"here: no field `bin`. Did you mean 'bins'"):
        decode(BinsConfig, {"bin": 16}, "here")


# ---------------------------------------------------------------------------------------------- command line


def joint() -> DesignConfig:
    return recipe("joint")


def test_arguments_override_defaults_and_nothing_else() -> None:
    assert parse(DesignConfig, [], joint()) == joint()
    assert parse(DesignConfig, ["--horizon", "8", "--stride=4"], joint()) == replace(
        joint(), horizon=8, stride=4
    )


def test_arguments_reach_into_named_parts() -> None:
    found = parse(DesignConfig, ["--estimators.world.steps", "3", "--observation", "[-4, 0]"], joint())
    world = replace(joint().estimators["world"], steps=3)  # type: ignore[call-arg]
    assert found == replace(joint(), estimators={"world": world}, observation=(-4, 0))


def test_choosing_another_part_drops_the_fields_of_the_old_one() -> None:
    args = ["--action.bins", "16", "--action.type", "bins", "--planner.type", "cem"]
    found = parse(DesignConfig, args, joint())
    assert found.action == BinsConfig(bins=16)
    assert found.planner == CEMConfig()
    assert parse(DesignConfig, ["--planner", "None"], found).planner is None


def test_single_arguments_win_over_a_file_and_a_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("steps: 7\nbatch_size: 5\noptim: {lr: 1.0e-2}\ndesign: {horizon: 4}\n")
    found = parse(TrainConfig, ["--steps", "9", "--config_path", str(file)])
    plain = TrainConfig()
    expected = replace(
        plain,
        steps=9,
        batch_size=5,
        optim=replace(plain.optim, lr=1e-2),
        design=replace(plain.design, horizon=4),
    )
    assert found == expected


BAD_ARGUMENTS = {
    "--horizn 8": r"Did you mean 'horizon'",
    "--estimators.wrld.steps 8": r"no 'wrld' in estimators. Did you mean 'world'",
    "--estimators.world.step 8": r"estimators.world.*Did you mean 'steps'",
    "--horizon.x 8": r"'horizon' is 16, which has no fields",
    "--horizon eight": r"^command line: horizon: must be an integer, got the text 'eight'\.$",
    "--horizon": r"expected `--option value`, got '--horizon' alone",
    "--observation [1,": r"--observation: not YAML",
    "horizon 8": r"expected `--option value`, got 'horizon' alone",
    "--config_path nowhere.yaml": r"nowhere.yaml: no such file",
    "--horizon 8 --horizon 9": r"^command line: --horizon is given twice, as '8' and as '9'\. Give it once\.$",
    "--horizon 8 --horizon=8": r"--horizon is given twice, as '8' and as '8'",
    "--planner.type cem --planner.type mppi": r"--planner\.type is given twice, as 'cem' and as 'mppi'",
    "--config_path a.yaml --config_path b.yaml": r"--config_path is given twice, as 'a\.yaml' and as 'b\.yaml'",
}


@pytest.mark.parametrize("line", sorted(BAD_ARGUMENTS))
def test_wrong_arguments_name_the_way_out(line: str) -> None:
    with pytest.raises(ConfigError, match=BAD_ARGUMENTS[line]):
        parse(DesignConfig, line.split(), joint())


def test_the_order_of_options_does_not_matter() -> None:
    options = [
        ["--planner.type", "cem"],
        ["--planner.iterations", "3"],
        ["--action", "{type: bins}"],
        ["--action.bins", "16"],
        ["--horizon", "8"],
    ]
    found = {str(parse(DesignConfig, [*chain(*order)], joint())) for order in permutations(options)}
    expected = replace(joint(), planner=CEMConfig(iterations=3), action=BinsConfig(bins=16), horizon=8)
    assert found == {str(expected)}


# ------------------------------------------------------------------------------------------------ transforms

MODES: tuple[Mode, ...] = ("mean_std", "min_max", "quantile")


def stats(rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    low, high = np.quantile(rows, [0.01, 0.99], axis=0)
    moments = {"mean": rows.mean(0), "std": rows.std(0), "min": rows.min(0), "max": rows.max(0)}
    return {"x": {**moments, "q01": low, "q99": high}}


@settings(max_examples=40, deadline=None)
@given(
    rows=arrays.arrays(np.float32, (20, 3), elements=st.floats(-100, 100, width=32)),
    mode=st.sampled_from(MODES),
)
def test_the_inverse_is_exact(rows: np.ndarray, mode: Mode) -> None:
    normalize = Normalizer(stats(rows), "x", mode)
    x = torch.from_numpy(rows)
    y = normalize(x)
    assert y.isfinite().all()
    torch.testing.assert_close(normalize.inverse(y), x, atol=1e-4, rtol=1e-5)


def test_the_normalised_range() -> None:
    rows = np.random.default_rng(0).normal(3, 2, (5000, 2))
    x = torch.from_numpy(rows).float()
    standard = Normalizer(stats(rows), "x", "mean_std")(x)
    torch.testing.assert_close(standard.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std(0), torch.ones(2), atol=1e-3, rtol=0)
    bounded = Normalizer(stats(rows), "x", "min_max")(x)
    torch.testing.assert_close(bounded.amin(0), -torch.ones(2))
    torch.testing.assert_close(bounded.amax(0), torch.ones(2))
    inside = (Normalizer(stats(rows), "x", "quantile")(x).abs() <= 1).float().mean().item()
    assert inside == pytest.approx(0.98, abs=0.002)


def test_a_dimension_without_spread_is_only_shifted() -> None:
    rows = np.full((10, 1), 5.0)
    for mode in MODES:
        assert Normalizer(stats(rows), "x", mode)(torch.tensor([[5.0], [6.0]])).tolist() == [[0.0], [1.0]]


def test_a_missing_statistic_raises() -> None:
    known = stats(np.zeros((3, 1)))
    with pytest.raises(DataError, match=r"the dataset has no feature 'y', .* Known: x"):
        Normalizer(known, "y", "mean_std")
    del known["x"]["q99"]
    with pytest.raises(
        DataError, match=r"statistic 'q99' of feature 'x' is missing. Known: max, mean, min, q01, std"
    ):
        Normalizer(known, "x", "quantile")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_file_gives_the_design_that_was_written(name: str, tmp_path: Path) -> None:
    """Names in a file replace the default's: a design with two trunks does not get the default trunk as a third."""
    training = TrainConfig(design=recipe(name), steps=9)
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(encode(training), sort_keys=False))
    assert parse(TrainConfig, ["--config_path", str(file)]) == training
