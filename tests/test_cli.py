"""The command line: every verb, and errors that name the way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from wamkit import api
from wamkit.cli import main, set_switch
from wamkit.config import encode
from wamkit.zoo import RECIPES, recipe


def test_list_shows_every_part_and_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in ("denoiser", "pixel_latent", "transformer", "chunked", "metaworld", *RECIPES):
        assert name in printed


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_inspect_is_derived_from_the_parts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", name, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["tuple"]) == {"substrate", "coupling", "backbone", "deployment"}
    assert facts["is_wam"] == (facts["tuple"]["substrate"] != "None")
    parts = {k: v for k, v in facts["parameters"].items() if k != "total"}
    assert sum(parts.values()) == facts["parameters"]["total"] > 0
    assert facts["inputs"]["cameras"]["scene"] == [64, 64, 3]
    assert len(facts["outputs"]["action"]) == 4
    assert main(["inspect", name]) == 0
    assert facts["formula"] in capsys.readouterr().out


def test_inspect_reads_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = encode(recipe("joint"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    assert main(["inspect", str(tmp_path / "mine.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["formula"] == "p(s,a|c)"
    values["horizn"] = 3
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    assert main(["inspect", str(tmp_path / "mine.yaml")]) == 2
    assert "Did you mean 'horizon'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["inspect", "join"], "Did you mean 'joint'"),
        (["train", "--recipe", "dirct"], "Did you mean 'direct'"),
        (["list", "planer"], "Did you mean 'planner'"),
        (["collect", "--out", "x", "--tasks", "[drawer-opn-v3]"], "Did you mean 'drawer-open-v3'"),
        (["evaluate", "--checkpoint", "./nowhere"], "no checkpoint at"),
    ],
)
def test_errors_name_the_nearest(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for verb in ("collect", "train", "evaluate", "report", "compare", "list", "inspect"):
        assert verb in printed
    assert main([]) == 2


def test_a_switch_needs_no_value() -> None:
    for given, read in (
        (["--rerun"], ["--rerun=true"]),
        (["--rerun", "--out", "x"], ["--rerun=true", "--out", "x"]),
        (["--rerun", "false"], ["--rerun", "false"]),
    ):
        set_switch(given, "rerun")
        assert given == read


def test_verbs_are_functions() -> None:
    for verb in ("collect", "train", "evaluate", "report", "compare", "list_parts", "inspect"):
        assert verb in api.__all__
        assert callable(getattr(api, verb))
