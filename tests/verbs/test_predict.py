"""`wamkit predict` and `wamkit correlate`: from a checkpoint and demonstrations to a file and coefficients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reports import small_report
from rich.console import Console

from support import data_spec, write_dataset
from wamkit import api, cli
from wamkit.cli import main
from wamkit.data import Dataset
from wamkit.design import Design, Factor, save_pretrained
from wamkit.design.checkpoint import checkpoint_digest
from wamkit.estimators import RegressorConfig
from wamkit.evaluation.prediction.prediction import Prediction
from wamkit.zoo import recipe


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, demonstrations, and what the verb wrote of them."""
    root = tmp_path_factory.mktemp("predict")
    data = write_dataset(root / "data", episodes=2, length=40)
    torch.manual_seed(0)
    design = Design(recipe("joint"), data_spec())
    design.fit(Dataset(data), 0)
    save_pretrained(design, root / "model")
    small_report(strips=True).save(root / "run" / "report.json")
    where = ["--checkpoint", str(root / "model"), "--dataset", str(data), "--out", str(root / "out")]
    assert main(["predict", *where, "--prediction.windows", "2", "--report", str(root / "run")]) == 0
    return root


def test_the_verb_writes_what_it_measured(measured: Path) -> None:
    found = Prediction.load(measured / "out" / "prediction.json")
    assert (found.name, found.windows, found.episodes, found.actions) == ("joint", 4, 2, "own")
    assert found.dataset == Dataset(measured / "data").fingerprint()
    keys = {row.key for row in found.rows}
    assert "future.scene.psnr@8" in keys
    assert any(key.startswith("closed loop.") for key in keys)
    assert found.checkpoint == checkpoint_digest(measured / "model")
    assert not (measured / "out" / "report.html").exists()  # no report lies there


def test_beside_a_report_its_page_shows_the_prediction(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = replace(small_report(), checkpoint=checkpoint_digest(measured / "model"))
    report.save(tmp_path / "report.json")
    where = ["--checkpoint", str(measured / "model"), "--dataset", str(measured / "data")]
    command = ["predict", *where, "--report", str(tmp_path), "--prediction.windows", "1"]
    command += ["--prediction.drawn", "0"]
    assert main(command) == 0  # without --out: beside the report
    page = (tmp_path / "report.html").read_text()
    assert "Prediction beside control" in page
    assert "future, scene: psnr, dB, higher is better" in page
    api.report([tmp_path], tmp_path / "side.html")
    assert "future, scene: psnr" in (tmp_path / "side.html").read_text()
    replace(report, checkpoint="f" * 64).save(tmp_path / "report.json")
    capsys.readouterr()
    assert main(command) == 2
    assert "is of another checkpoint (ffffffffffff" in capsys.readouterr().err


def test_a_table_is_printed_and_bad_input_named(
    measured: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "CONSOLE", Console(width=200))  # in 80 columns the names are folded
    teacher = "{looks: {type: teacher_feature, features: 8, grid: 2, steps: 1, batch_size: 4}}"
    data = str(measured / "data")
    arguments = [
        "--prediction.drawn",
        "0",
        "--checkpoint",
        str(measured / "model"),
        "--dataset",
        data,
        "--out",
        str(measured / "again"),
    ]
    assert main(["predict", *arguments, "--prediction.windows", "1", "--prediction.features", teacher]) == 0
    printed = capsys.readouterr().out
    assert "prediction ->" in printed
    assert "future.frechet[looks]@8" in printed  # never without the features' name
    assert "2 samples of 8 features" in " ".join(printed.split())
    before = (measured / "again" / "prediction.json").read_bytes()
    assert main(["predict", *arguments, "--prediction.steps", "2"]) == 2
    assert "steps: 1 there, 2 here" in capsys.readouterr().err.replace("prediction.", "")
    assert main(["predict", *arguments, "--prediction.steps", "2", "--overwrite"]) == 2
    assert "carries no state between calls" in capsys.readouterr().err
    assert (measured / "again" / "prediction.json").read_bytes() == before
    assert main(["correlate", str(measured / "nowhere")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_checkpoints_that_predict_better_and_succeed_more_correlate(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Prediction.load(measured / "out" / "prediction.json")
    runs = []
    for successes in range(6):
        rows = tuple(
            replace(row, model=replace(row.model, mean=float(successes) ** 2)) for row in found.rows[:1]
        )
        run = tmp_path / f"run{successes}"
        replace(found, rows=rows, distances=()).save(run / "prediction.json")
        small_report(successes=successes).save(run / "report.json")
        runs.append(run)
    (result,) = api.correlate_runs(runs)
    assert result.n == 6
    assert result.spearman.value == pytest.approx(1.0)
    assert main(["correlate", *map(str, runs)]) == 0
    assert "Spearman 1.00" in capsys.readouterr().out


@pytest.mark.parametrize("action", [(), ("action",)], ids=["video", "given"])
def test_a_world_model_is_measured_and_does_not_act(
    action: tuple[str, ...], measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a policy: `predict` gives the recorded actions where the futures follow any; `evaluate` refuses."""
    config = replace(
        recipe("joint"),
        name="foresees",
        estimators={"world": RegressorConfig()},
        factors=(Factor(("future",), action, "world"),),
        given=action,
    )
    torch.manual_seed(0)
    design = Design(config, data_spec())
    design.fit(Dataset(measured / "data"), 0)
    save_pretrained(design, tmp_path / "model")
    facts = api.inspect(str(tmp_path / "model"))
    assert facts["kind"] == "world model"
    assert facts["inputs"].get("given", []) == list(action)
    assert facts["outputs"] == {"futures": ["future"]}
    where = ["--checkpoint", str(tmp_path / "model"), "--dataset", str(measured / "data")]
    assert main(["predict", *where, "--out", str(tmp_path / "out"), "--prediction.windows", "2"]) == 0
    found = Prediction.load(tmp_path / "out" / "prediction.json")
    assert found.actions == ("demonstrated" if action else "own")
    assert [("given a" in note or "follows a given action" in note) for note in found.notes] == [True] * len(
        action
    )
    assert "future.scene.psnr@8" in {row.key for row in found.rows}
    for verb in ("evaluate", "sweep"):
        capsys.readouterr()
        assert main([verb, "--checkpoint", str(tmp_path / "model"), "--out", str(tmp_path / verb)]) == 2
        assert "design 'foresees' is a world model" in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / verb).exists()
