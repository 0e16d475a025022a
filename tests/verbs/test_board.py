"""`wamkit board`: every run of a folder on one page, broken ones too, sortable, and narrow enough for a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pages import CHROMIUM, fits_a_phone, read
from reports import small_report

from small_runs import cut, settings
from support import write_dataset
from wamkit import api
from wamkit.cli import main
from wamkit.design.checkpoint import checkpoint_digest
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.output.board import find_runs, read_curves
from wamkit.training import train

NAMES = {"alpha", "deep/beta", "older", "stopped", "torn"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs: finished with a report, finished with a report elsewhere, of an older version, stopped, and torn."""
    folder = tmp_path_factory.mktemp("board")
    write_dataset(folder / "data")
    runs = folder / "runs"
    train(settings(folder, runs / "alpha", held_out=1, evaluate_every=2), progress=False)
    train(settings(folder, runs / "deep/beta", seed=1), progress=False)
    for name in ("older", "stopped", "torn"):
        shutil.copytree(runs / "deep/beta", runs / name)
    (runs / "older/about.json").unlink()
    shutil.rmtree(runs / "stopped/model")
    with (runs / "stopped/log.jsonl").open("a") as log:
        log.write('{"step": 7, "act')  # being written now
    cut(runs / "torn/config.json")
    (runs / "torn/about.json").write_text("{}")
    (runs / "torn/model/model.safetensors").unlink()
    (runs / "torn/log.jsonl").write_text(
        '{"step": 1, "action": 0.5}\n\x00\x00\n[]\n{"step": 2, "action": NaN}\n'
    )
    replace(small_report(), checkpoint=checkpoint_digest(runs / "alpha/best")).save(
        runs / "evaluated/report.json"
    )
    small_report().save(runs / "deep/beta/report.json")
    (runs / "deep/beta/report.html").write_text("<!doctype html>")
    (runs / "other").mkdir()
    (runs / "other/report.json").write_text("{")
    return runs


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return api.board(root, progress=False).read_text()


def test_every_run_is_found_and_told_what_it_is(root: Path) -> None:
    runs, notes = find_runs(root)
    found = {run.name: run for run in runs}
    assert set(found) == NAMES
    assert {name: run.state for name, run in found.items()} == {
        "alpha": "finished", "deep/beta": "finished", "older": "finished", "stopped": "unfinished", "torn": "broken",
    }  # fmt: skip
    assert found["alpha"].step == found["alpha"].steps == 6
    assert [step for step, _ in found["alpha"].held_out] == [2, 4, 6]
    assert set(found["alpha"].losses) == {"action"}
    assert found["alpha"].about["formula"]
    assert found["alpha"].about["tuple"]["coupling"]
    assert found["torn"].losses["action"] == ((1, 0.5),)
    assert len(found["torn"].problems) == 4
    assert len(notes) == 1
    assert "other/report.json" in notes[0]


def test_reports_are_found_beside_a_run_and_by_their_checkpoint(root: Path) -> None:
    found = {run.name: run for run in find_runs(root)[0]}
    assert [m.folder.name for m in found["alpha"].measured] == ["evaluated"]  # of its best weights
    assert [m.folder.name for m in found["deep/beta"].measured] == ["beta"]
    assert found["older"].measured == ()


def test_the_page_shows_every_run_with_its_figures(page: str, root: Path) -> None:
    shown = read(page)
    text = " ".join(shown.text)
    for name in NAMES:
        assert name in text
    assert "5 runs: 3 finished, 1 unfinished, 1 broken" in text
    assert "What cannot be read" in text
    assert "2 lines cannot be read" in text
    assert "model.safetensors missing" in text
    assert "6 of 6" in text
    best = min(
        json.loads(line)["held_out"] for line in (root / "alpha/log.jsonl").open() if "held_out" in line
    )
    assert f"{best:.4g} at step" in text
    mean = small_report().mean_over_tasks
    assert mean.rate is not None
    assert f"{100 * mean.rate:.0f} [" in text
    links = {a for a in shown.addresses if a and not a.startswith(("#", "data:"))}
    assert links == {"deep/beta/report.html", "evaluated/report.json"}  # a page where there is one
    assert all((root / link).is_file() for link in links)
    assert "Held-out loss" in text
    assert "Loss of action" in text


def test_one_board_replaces_the_one_before_and_nothing_else(root: Path, tmp_path: Path) -> None:
    first = api.board(root, tmp_path / "board.html", progress=False)
    assert api.board(root, tmp_path / "board.html", progress=False).read_bytes() == first.read_bytes()
    (tmp_path / "mine.html").write_text("<!doctype html> mine")
    with pytest.raises(ConfigError, match="no page of `wamkit board`"):
        api.board(root, tmp_path / "mine.html", progress=False)
    with pytest.raises(DataError, match="no such folder"):
        api.board(tmp_path / "nowhere", tmp_path / "new.html", progress=False)


def test_the_verb(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", str(root), "--out", str(tmp_path / "board.html")]) == 0
    assert capsys.readouterr().out == f"page -> {tmp_path / 'board.html'}\n"
    assert main(["board", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_folder_without_runs_is_an_empty_page(tmp_path: Path) -> None:
    assert "0 runs: none" in api.board(tmp_path, progress=False).read_text()


def test_names_are_texts(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "alpha", tmp_path / 'a "b" <i>&')
    page = api.board(tmp_path, progress=False).read_text()
    assert "<i>&" not in page
    assert 'a "b" <i>&' in " ".join(read(page).text)


def test_a_torn_last_line_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"st')
    assert read_curves(tmp_path / "log.jsonl") == ({"a": ((1, 1.0), (2, 2.0))}, 2, 0)
    assert read_curves(tmp_path / "none.jsonl") == ({}, 0, 0)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_fits_a_phone(page: str, tmp_path: Path) -> None:
    assert fits_a_phone(page, tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_every_column_sorts_both_ways(page: str, tmp_path: Path) -> None:
    """Every head is clicked twice; numbers sort as numbers, and what is missing comes last both times."""
    probe = """<script>
const cells = i => [...document.querySelectorAll("#runs tbody tr")].map(row => row.children[i].dataset.v);
const heads = [...document.querySelectorAll("#runs thead th")];
const result = heads.map((head, i) => [1, 2].map(() => {
  head.querySelector("button").click(); return [head.getAttribute("aria-sort"), cells(i)]; }));
document.title = JSON.stringify([heads.map(head => head.textContent), result]);
</script></body>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", probe))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    title = re.findall(r"<title>(.*?)</title>", dom, re.DOTALL)[0]
    names, results = json.loads(title.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert names[0] == "run"
    assert len(names) >= 12
    for name, ((first, up), (second, down)) in zip(names, results, strict=True):
        assert (first, second) == ("ascending", "descending"), name
        known = [value for value in up if value]
        assert up[len(known) :] == down[len(known) :] == [""] * (len(up) - len(known)), name
        numbers = name in ("step", "loss action", "best held-out loss", "success, %", "latency, ms")
        keys = [float(value) for value in known] if numbers else [value.lower() for value in known]
        assert keys == sorted(keys), name
        assert down[: len(known)] == known[::-1] or sorted(down) == sorted(up), name
