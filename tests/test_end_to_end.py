"""Every design through the same commands: collect, train, evaluate, report, in the real simulator."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from wamkit.cli import main
from wamkit.config import encode
from wamkit.evaluation.report.report import Report
from wamkit.training import TrainConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import GROUPS, recipe

pytestmark = pytest.mark.sim
COUPLINGS = GROUPS["couplings"]
SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("end_to_end") / "data"
    arguments = [
        "--tasks",
        "[drawer-open-v3,button-press-topdown-v3]",
        "--episodes",
        "2",
        "--image_size",
        str(SIZE),
    ]
    assert main(["collect", "--out", str(out), *arguments]) == 0
    return out


@pytest.mark.parametrize("name", sorted(COUPLINGS))
def test_train_and_act_in_the_simulator(name: str, data: Path, tmp_path: Path) -> None:
    design = recipe(name)
    trunks = {n: TransformerConfig(width=32, depth=1, heads=2) for n in design.trunks}
    design = dataclasses.replace(design, width=32, trunks=trunks)
    training = TrainConfig(dataset=data, out=tmp_path / "run", design=design, steps=3, batch_size=8)
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(encode(training), sort_keys=False))
    assert main(["train", "--config_path", str(tmp_path / "train.yaml")]) == 0
    evaluation = {
        "tasks": "[button-press-topdown-v3]",
        "episodes": "2",
        "slots": "2",
        "latency_calls": "2",
        "env.image_size": str(SIZE),
        "env.max_ticks": "24",
    }
    arguments = [part for key, value in evaluation.items() for part in (f"--evaluation.{key}", value)]
    arguments += ["--checkpoint", str(tmp_path / "run/model"), "--out", str(tmp_path), "--dataset", str(data)]
    arguments += ["--films_of_failures", "0"]  # test_results.py makes films
    assert main(["evaluate", *arguments]) == 0
    report = Report.load(tmp_path / "report.json")
    assert report.overall.statuses["error"] == 0
    assert report.overall.n == 2
    assert all(episode.calls == 3 for episode in report.episodes if episode.status == "timeout")
    assert report.design["formula"] == main_formula(name)
    assert set(report.nfe) >= {"action"}
    assert (tmp_path / "report.html").stat().st_size > 10_000
    # A design that can decode its future shows it beside what happened.
    assert bool(report.filmstrips) == (name not in ("direct", "post_head"))
    again = tmp_path / "again"
    shutil.copytree(tmp_path, again, ignore=shutil.ignore_patterns("run", "again"))
    assert main(["report", str(tmp_path), str(again), "--out", str(tmp_path / "two.html")]) == 0


def main_formula(name: str) -> str:
    from wamkit.api import inspect

    return inspect(name)["formula"]


def test_an_environment_of_other_conventions_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    shape = ["--steps", "1", "--batch_size", "2", "--recipe", "direct"]
    assert main(["train", *shape, "--dataset", str(data), "--out", out]) == 0
    capsys.readouterr()
    arguments = [
        "--checkpoint",
        f"{out}/model",
        "--out",
        str(tmp_path),
        "--evaluation.env.action_repeat",
        "4",
    ]
    assert main(["evaluate", *arguments]) == 2
    message = capsys.readouterr().err
    assert "rate_hz: 40.0 against 20.0" in message
    assert "do not agree" in message
