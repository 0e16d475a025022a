"""The command line: every verb, and errors that name the way out."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from wamkit import api
from wamkit.cli import VERBS, main
from wamkit.config import encode, parse
from wamkit.errors import ConfigError
from wamkit.verbs.declarations import declaration
from wamkit.verbs.usage import Registry, groups_of
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
    for name, verb in VERBS.items():
        assert f"{name} " in printed
        assert verb.summary in printed
    assert main([]) == 2


@pytest.mark.parametrize("name", sorted(VERBS))
def test_help_explains_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    for flag in VERBS[name].arguments:
        assert flag in printed or flag.upper() in printed or flag == "runs"
    place = VERBS[name].config
    if place is not None:
        for option in declaration(place).fields:
            assert f"--{option.name}" in printed
    assert "class " not in printed
    assert "__post_init__" not in printed


def test_help_says_where_the_parts_of_a_mapping_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for kind in ("encoder", "substrate", "trunk", "estimator", "planner", "controller", "action"):
        assert (
            f"`wamkit list {kind}` names them, `wamkit list {kind} NAME` prints the fields of one" in printed
        )
    for entry in ("future", "factor"):
        assert f"`wamkit list design {entry}` prints the fields of one" in printed
        assert main(["list", "design", entry]) == 0


def test_help_shows_the_fields_of_the_chosen_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--help"]) == 0
    assert "--evaluation.env.action_repeat" in capsys.readouterr().out  # of the default, metaworld
    assert (
        main(["evaluate", "--evaluation.env.type", "aloha", "--evaluation.controller.type=overlap", "--help"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "--evaluation.env.action_repeat" not in printed
    assert "--evaluation.controller.execute" in printed
    assert main(["train", "--recipe", "rollout", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--design.planner.candidates" in printed
    assert "--design.estimators.world." in printed
    assert main(["evaluate", "--sweep", "--help"]) == 0
    assert "--grid.nfe" in capsys.readouterr().out


EXAMPLES = {
    "out": ("--out", "x"),
    "tasks": ("--tasks", "[drawer-open-v3]"),
    "world": ("--world", "w"),
    "starts": ("--starts", "d"),
    "demonstrations": ("--demonstrations", "d"),
}


@pytest.mark.parametrize("place", sorted(verb.config for verb in VERBS.values() if verb.config is not None))
def test_every_option_of_the_help_is_accepted_and_its_default_changes_nothing(place: str) -> None:
    cls = getattr(importlib.import_module(place.rpartition(".")[0]), place.rpartition(".")[2])
    rows = [row for group in groups_of(declaration(place), "", {}, {}, Registry()) for row in group.rows]
    try:
        needed: list[str] = []
        plain = parse(cls, needed)
    except ConfigError:
        needed = [part for row in rows if row.default == "required" for part in EXAMPLES[row.key]]
        plain = parse(cls, needed)
    assert len(rows) > 5
    for row in rows:
        # Off by default: giving an option turns it on.
        inside_nothing = row.key.startswith(("distill.", "imagined.", "design.guide."))
        if row.default != "required" and not row.type.startswith("{name:") and not inside_nothing:
            assert parse(cls, [*needed, f"--{row.key}", row.default]) == plain, row


def test_list_prints_the_fields_of_one_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "denoiser", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["kind"], entry["module"]) == ("estimator", "wamkit.estimators.denoiser")
    fields = {option["name"]: option for option in entry["fields"]}
    assert (fields["steps"]["type"], fields["steps"]["default"]) == ("1 <= int <= 16384", "8")
    assert all(option["text"] for option in entry["fields"])
    assert main(["list", "denoiser"]) == 0
    printed = capsys.readouterr().out
    assert "prediction" in printed
    assert "source:" in printed
    assert main(["list", "planner"]) == 0
    assert {"candidate_scoring", "cem", "mppi"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "line", ["--help", "train --help", "evaluate --help", "list", "list denoiser", "list --json", "trian"]
)
def test_looking_things_up_imports_no_torch(line: str) -> None:
    code = (
        f"import sys\nfrom wamkit.cli import main\nmain({line.split()!r})\nsys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_offers_a_few_names_without_importing_torch() -> None:
    code = "import sys, wamkit; assert 'torch' not in sys.modules; print(wamkit.recipe('joint').name, *wamkit.__all__)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    first, *names = done.stdout.split()
    assert first == "joint"
    assert {"Budget", "Design", "DesignConfig", "load", "recipe", "train", "evaluate"} <= set(names)
    assert set(names) <= set(api.__all__)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "run", "--outt", "x"], "unknown option '--outt'. Did you mean '--out'"),
        (["report"], "required: RUN"),
        (["evaluate", "--shards", "many", "--ray", "auto"], "--shards: invalid int value: 'many'"),
        (["evaluate", "--shards", "3"], "give it together with --ray"),
        (["train", "--stepz", "3"], "Did you mean 'steps'"),
        (["train", "--steps"], "expected `--option value`, got '--steps' alone"),
        (["evaluate", "--rerun", "perhaps"], "rerun"),
        (["list", "denoisr"], "Did you mean 'denoiser'"),
    ],
)
def test_wrong_arguments_name_the_way_out(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_switch_needs_no_value() -> None:
    plain = api.EvaluateConfig()
    for given, expected in (
        (["--rerun"], replace(plain, rerun=True)),
        (["--rerun", "--out", "x"], replace(plain, rerun=True, out=Path("x"))),
        (["--rerun", "false"], plain),
    ):
        assert parse(api.EvaluateConfig, given) == expected


def test_verbs_are_functions() -> None:
    for verb in ("collect", "train", "evaluate", "report", "compare", "list_parts", "inspect"):
        assert verb in api.__all__
        assert callable(getattr(api, verb))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --recipe direct --recipe=joint", "--recipe is given twice, as 'direct' and as 'joint'"),
        ("report a --out x.html --out y.html", "--out is given twice, as 'x.html' and as 'y.html'"),
        ("evaluate --shard 0/2 --evaluation.shard 1/2", "--evaluation.shard is given twice, as '1/2' and as '0/2'"),
        ("sweep --out a --out b", "--out is given twice, as 'a' and as 'b'"),
        ("inspect direct --dataset a --dataset b", "--dataset is given twice, as 'a' and as 'b'"),
    ],
)  # fmt: skip
def test_an_option_given_twice_is_refused(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    assert f"{said}. Give it once." in capsys.readouterr().err
