"""`wamkit data check` and `wamkit data show` from a terminal: status, words, JSON, page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from recordings import record, varied

from wamkit.cli import main
from wamkit.verbs import data
from wamkit.verbs.ending import UNCUT

STATS = "meta/stats.json"


@pytest.fixture(autouse=True)
def uncut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines as a pipe gets them, however wide the terminal of the tests is."""
    monkeypatch.setattr(data.CONSOLE, "width", UNCUT)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("sound") / "set", varied([5, 9, 4]))


@pytest.fixture
def broken(sound: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(sound, tmp_path / "set"))
    (root / STATS).unlink()
    (root / "meta/tasks.parquet").unlink()
    return root


def test_a_sound_dataset_ends_with_0_and_says_what_it_holds(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(sound)]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "80 Hz",
        "scene: 16 x 24",
        "x_m, y_m, z_m",
        "task 0: 2",
        "2 of 3 recorded",
        "no fault in",
    ):
        assert expected in printed
    assert "no picture was decoded" in printed
    assert main(["data", "check", str(sound), "--decode"]) == 0
    assert "every picture was decoded" in capsys.readouterr().out


def test_a_broken_dataset_ends_with_1_and_names_every_fault(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(broken)]) == 1
    printed = capsys.readouterr().out
    assert f"statistics: {broken / STATS}: no such file" in printed
    assert f"tasks: {broken / 'meta/tasks.parquet'}: the file is missing" in printed
    assert "not checked, for what is broken above: frames against their statistics" in printed
    assert "2 faults in" in printed
    assert main(["data", "check", str(broken), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["sound"]
    assert [(f["kind"], f["file"], f["episode"]) for f in found["faults"]] == [
        ("tasks", "meta/tasks.parquet", None),
        ("statistics", STATS, None),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "nowhere"], "nowhere: no such folder"),
        (["check"], "required: PATH"),
        (["check", "nowhere", "--decoed"], "Did you mean '--decode'?"),
        (["chekc", "nowhere"], "no verb 'data'. Name one of data check"),
        (["show", "nowhere", "--recipe", "jiont"], "no recipe 'jiont'"),
    ],
)
def test_a_wrong_question_ends_with_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_page_is_written_once_unless_it_may_be_replaced(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    command = ["data", "show", str(sound), "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out == f"page -> {out}\n"
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert main(command) == 2
    assert main([*command, "--overwrite"]) == 0


def test_figures_are_printed_as_json(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", str(sound), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["survey"]["lengths"] == [5, 9, 4]
    assert found["reading"]["recipe"] == "joint"
    assert found["reading"]["reason"] == ""  # pictures of any size are read
