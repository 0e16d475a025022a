"""What verbs do where something is already: nothing finished is replaced unasked, and what differs is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reports import small_report

from support import data_spec, write_dataset
from wamkit import api
from wamkit.cli import main
from wamkit.data import Dataset
from wamkit.design import Design, save_pretrained
from wamkit.design.checkpoint import checkpoint_digest
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.rollout import Rollout
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.scores import score
from wamkit.verbs import evaluate as evaluate_module
from wamkit.zoo import recipe

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of one dataset."""
    root = tmp_path_factory.mktemp("models")
    data = Dataset(write_dataset(root / "data", episodes=2, length=30))
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        design = Design(recipe("direct"), data_spec())
        design.fit(data, 0)
        save_pretrained(design, root / name)
    return root


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Evaluations that were run; each gives the same report without a simulator."""
    runs: list[str] = []

    def rollout(policy: object, config: EvaluationConfig, **more: object) -> Rollout:
        runs.append(str(more["checkpoint"]))
        return Rollout(broken_report() if config.seed == 9 else small_report(), ())

    def write(done: Rollout, config: EvaluationConfig, out: Path, *more: object) -> Report:
        done.report.save(out / "report.json")
        return done.report

    monkeypatch.setattr(evaluate_module, "rollout", rollout)
    monkeypatch.setattr(evaluate_module, "write_results", write)
    return runs


def broken_report() -> Report:
    """A report of which every episode ended in an error."""
    report = small_report()
    episodes = tuple(
        replace(e, status="error", error="Traceback\nValueError: lens cap") for e in report.episodes
    )
    tasks, overall, mean = score(episodes)
    return replace(report, episodes=episodes, tasks=tasks, overall=overall, mean_over_tasks=mean)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.suffix != ".lock"
    }


def test_a_finished_report_is_replaced_only_when_asked(
    models: Path, tmp_path: Path, played: list[str], capsys: Capture
) -> None:
    out = tmp_path / "report"
    command = ["evaluate", "--out", str(out)]
    one, two = (["--checkpoint", str(models / name)] for name in ("one", "two"))
    assert main([*command, *one]) == 0
    before = contents(out)
    data = str(models / "data")
    for change, said in (
        ([], "nothing is left to do"),
        (two, "checkpoint differ"),
        (["--evaluation.episodes", "7"], "evaluation.episodes: 20 there, 7 here"),
        (["--evaluation.seed", "1"], "evaluation.seed: 0 there, 1 here"),
        (["--evaluation.env.max_ticks", "9"], "evaluation.env.max_ticks: "),
        (["--evaluation.tasks", "[window-open-v3]"], "evaluation.tasks: ['drawer-open-v3'] there, ['window-open-v3']"),
        (["--dataset", data], "dataset: None there, 'sha256:"),
    ):  # fmt: skip
        assert main([*command, *change, *(one if change is not two else [])]) == 2, change
        printed = capsys.readouterr().err
        assert f"{out / 'report.json'} is the finished result" in printed
        assert said in printed
        assert "set `overwrite` to replace it" in printed
        assert contents(out) == before
    assert len(played) == 1
    assert main([*command, *two, "--overwrite"]) == 0
    assert played[-1] == checkpoint_digest(models / "two")
    assert main([*command, *one]) == 2


def test_a_checkpoint_trained_again_is_another_one(models: Path, tmp_path: Path, played: list[str]) -> None:
    """The folder keeps its name, and its weights change."""
    design = api.from_pretrained(models / "one")
    save_pretrained(design, tmp_path / "model")
    config = api.EvaluateConfig(str(tmp_path / "model"), tmp_path / "out")
    api.evaluate(config, progress=False)
    with torch.no_grad():
        next(design.parameters()).add_(1)
    save_pretrained(design, tmp_path / "model")
    with pytest.raises(ConfigError, match="checkpoint differ"):
        api.evaluate(config, progress=False)
    api.evaluate(replace(config, overwrite=True), progress=False)
    assert len(played) == 2


def test_another_version_of_the_simulator_is_named(
    models: Path, tmp_path: Path, played: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wamkit.verbs import inputs

    config = api.EvaluateConfig(str(models / "one"), tmp_path)
    monkeypatch.setattr(inputs, "versions", lambda: {"wamkit": "1", "mujoco": "3.0", "torch": "2"})
    api.evaluate(config, progress=False)
    monkeypatch.setattr(inputs, "versions", lambda: {"wamkit": "1", "mujoco": "3.1", "torch": "3"})
    with pytest.raises(
        ConfigError, match=r"another `evaluate`: versions.mujoco: '3\.0' there, '3\.1' here\."
    ):
        api.evaluate(config, progress=False)


def test_an_evaluation_that_scored_nothing_is_written_and_refused(
    models: Path, tmp_path: Path, played: list[str], capsys: Capture
) -> None:
    command = [
        "evaluate",
        "--checkpoint",
        str(models / "one"),
        "--out",
        str(tmp_path),
        "--evaluation.seed",
        "9",
    ]
    assert main(command) == 2
    report = Report.load(tmp_path / "report.json")
    assert {episode.status for episode in report.episodes} == {"error"}
    printed = capsys.readouterr().err
    assert printed.startswith(
        f"wamkit evaluate: no episode could be scored: all {len(report.episodes)} ended in an"
    )
    assert played


@pytest.mark.parametrize("place", ["data", "one", "file", "file/in"])
def test_an_output_of_another_kind_is_refused_before_work(
    place: str, models: Path, played: list[str], capsys: Capture
) -> None:
    (models / "file").write_text("precious")
    before = contents(models)
    command = ["evaluate", "--checkpoint", str(models / "one"), "--out", str(models / place)]
    for overwrite in ([], ["--overwrite"]):
        assert main([*command, *overwrite]) == 2
        assert "Choose another `out`." in capsys.readouterr().err
    assert contents(models) == before
    assert not played


@pytest.mark.parametrize(
    ("verb", "out", "written"),
    [("report", "page.html", "page.html"), ("compare", "compared", "compared/compare.json")],
)
def test_pages_and_comparisons(verb: str, out: str, written: str, tmp_path: Path, capsys: Capture) -> None:
    for name, successes in (("a", 3), ("b", 5), ("c", 6)):
        small_report(name, successes).save(tmp_path / name / "report.json")
    a, b, c = (str(tmp_path / name) for name in "abc")
    place = ["--out", str(tmp_path / out)]
    assert main([verb, a, b, *place]) == 0
    before = (tmp_path / written).read_bytes()
    assert main([verb, a, b, *place]) == 2
    assert "nothing is left to do" in capsys.readouterr().err
    assert main([verb, a, c, *place]) == 2
    assert "runs.run 2 differ" in capsys.readouterr().err
    assert (tmp_path / written).read_bytes() == before
    assert main([verb, a, c, *place, "--overwrite"]) == 0
    assert (tmp_path / written).read_bytes() != before
    assert main([verb, a, a, "--out", str(tmp_path / "twice")]) == 2
    assert "is given twice" in capsys.readouterr().err


def test_a_page_never_replaces_something_else(tmp_path: Path, capsys: Capture) -> None:
    small_report().save(tmp_path / "report.json")
    before = contents(tmp_path)
    for overwrite in ([], ["--overwrite"]):
        for out in (
            tmp_path / "report.json",
            tmp_path,
            Path("/dev/null"),
            tmp_path / "report.json" / "page.html",
        ):
            assert main(["report", str(tmp_path), "--out", str(out), *overwrite]) == 2
            assert "Choose another `out`" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_run_is_correlated_once_and_with_its_own_prediction(tmp_path: Path, capsys: Capture) -> None:
    assert main(["correlate", str(tmp_path), str(tmp_path / ".")]) == 2
    assert "is given twice" in capsys.readouterr().err


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_ceiling_replaces_only_a_ceiling(overwrite: bool, tmp_path: Path) -> None:
    small_report().save(tmp_path / "report.json")
    config = api.CeilingConfig(tmp_path / "report.json", overwrite=overwrite)
    with pytest.raises(ConfigError, match="is no result of `ceiling`"):
        api.ceiling(config, progress=False)


def test_the_report_of_another_policy_is_not_imagined_with(models: Path, tmp_path: Path) -> None:
    replace(small_report(), checkpoint=checkpoint_digest(models / "two")).save(tmp_path / "report.json")
    config = api.ImagineConfig(
        world=str(models / "one"),
        policies={"a": str(models / "one")},
        reports={"a": tmp_path},
        out=tmp_path / "out",
    )
    with pytest.raises(ConfigError, match="is of another checkpoint than policy 'a'"):
        api.imagine(config, progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["/proc", "/sys", "/proc/new", "/sys/new"])
def test_where_the_system_lets_nobody_write_is_told_in_one_line(
    place: str, tmp_path: Path, capsys: Capture
) -> None:
    """These refuse the administrator too, as a read-only disk does."""
    if not Path("/proc/self").exists():
        pytest.skip("no such folders on this system")
    small_report().save(tmp_path / "report.json")
    assert main(["report", str(tmp_path), "--out", f"{place}/page.html"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("wamkit report: /")
    assert printed.count("\n") == 1
    assert place in printed
