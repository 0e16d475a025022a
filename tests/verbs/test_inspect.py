"""``wamkit inspect`` says what is seen, with the options of a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wamkit import api, cli
from wamkit.design import DesignConfig
from wamkit.errors import ConfigError
from wamkit.verbs.inspect import changed


def test_a_recipe_is_inspected_with_options_of_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    args = [
        "inspect",
        "joint",
        "--design.view.every",
        "2",
        "--design.view.cameras",
        "{front: scene}",
        "--json",
    ]
    assert cli.main(args) == 0
    seen = json.loads(capsys.readouterr().out)["sees"]
    assert seen["cameras"] == "front (recorded as scene): 64 x 64 pixels, as recorded; not read: gripper"
    assert seen["rate"] == "40 -> 20 Hz (every 2 recorded ticks)"


def test_a_part_is_taken_out_by_null() -> None:
    config, dataset = changed("joint", ["--design.encoders.images", "null"])
    assert isinstance(config, DesignConfig)
    assert set(config.encoders) == {"state", "instruction"}
    assert dataset is None
    assert changed("joint", []) == ("joint", None)


def test_the_file_of_a_training_is_read_with_its_dataset(tmp_path: Path) -> None:
    file = tmp_path / "first.yaml"
    file.write_text("dataset: recording\nsteps: 7\ndesign: {view: {every: 3}}\n")
    config, dataset = changed("joint", ["--config_path", str(file), "--design.view.relative", "state"])
    assert isinstance(config, DesignConfig)
    assert (config.view.every, config.view.relative, dataset) == (3, "state", Path("recording"))
    assert changed("joint", ["--config_path", str(file)], Path("other"))[1] == Path("other")


def test_a_checkpoint_takes_no_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stays as it was trained\. Leave --design\.view\.every out"):
        changed(str(tmp_path), ["--design.view.every", "2"])


def test_what_the_tables_show_is_what_the_verb_returns() -> None:
    facts = api.inspect("direct")
    assert set(facts["sees"]) == {"cameras", "state", "action", "rate"}
