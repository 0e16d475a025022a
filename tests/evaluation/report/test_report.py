"""report.json: what goes in comes out, and what was edited does not pass."""

import dataclasses
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports import small_report
from scipy.stats import binomtest

from wamkit.errors import DataError
from wamkit.evaluation.report.fidelity import frame_psnr
from wamkit.evaluation.report.report import Report, pictures_path, score


def test_round_trip(tmp_path: Path) -> None:
    report = small_report(errors=2, strips=True)
    report.save(tmp_path / "report.json")
    loaded = Report.load(tmp_path / "report.json")
    assert loaded == report
    for ours, theirs in zip(report.filmstrips, loaded.filmstrips, strict=True):
        np.testing.assert_array_equal(ours.imagined, theirs.imagined)
        np.testing.assert_array_equal(ours.real, theirs.real)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.filmstrips.npz", "report.json"]


def test_errors_are_never_failures_and_are_in_the_headline() -> None:
    report = small_report(successes=3, errors=2)
    score_open = report.tasks["open"]
    assert (score_open.n, score_open.successes) == (3, 2)
    assert score_open.statuses == {"success": 2, "failure": 1, "timeout": 0, "error": 2}
    truth = binomtest(2, 3).proportion_ci(method="wilson")
    assert score_open.wilson_95 == pytest.approx((truth.low, truth.high))
    assert report.mean_over_tasks.rate == pytest.approx((3 / 5 + 2 / 3) / 2)
    assert report.overall.rate == pytest.approx(5 / 8)
    assert "2 of 10 episodes ended in an ERROR" in report.headline()
    assert "ERROR" not in small_report().headline()


def test_only_errors_gives_no_rate() -> None:
    broken = [dataclasses.replace(e, status="error") for e in small_report().episodes]
    tasks, overall, mean = score(broken)
    assert overall.n == 0
    assert overall.rate is None
    assert mean.rate is None
    assert tasks["push"].wilson_95 == (0.0, 1.0)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r["tasks"]["push"].update(successes=5), "tasks"),
        (lambda r: r["overall"].update(rate=0.99), "overall"),
        (lambda r: r["episodes"][3].update(status="success"), "tasks"),
        (lambda r: r["episodes"][3].update(status="crashed"), "crashed"),
        (lambda r: r["config"].update(episodes=50), "config_hash"),
        (lambda r: r.update(headline="100 %"), "headline"),
        (lambda r: r.update(surprise=1), "surprise"),
        (lambda r: r.pop("wall_s"), "wall_s"),
        (lambda r: r.update(wall_s="long"), "wall_s"),
        (lambda r: r.update(format="other"), "format"),
    ],
)
def test_an_edited_report_is_refused(tmp_path: Path, edit, message: str) -> None:
    path = tmp_path / "report.json"
    small_report().save(path)
    raw = json.loads(path.read_text())
    edit(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match=r"report\.json: was changed since it was written.*name another file"):
        Report.load(path)
    del raw["digest"]  # as an older version wrote it: what it says is compared all the same
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match=message) as caught:
        Report.load(path)
    assert str(path) in str(caught.value)


def test_a_report_whose_scores_were_rounded_otherwise_is_read(tmp_path: Path) -> None:
    """Another version of the numeric library moves the last bits of an interval; an edit moves more."""
    path = tmp_path / "report.json"
    small_report().save(path)
    raw = json.loads(path.read_text())
    del raw["digest"]
    low, high = raw["overall"]["wilson_95"]
    raw["overall"]["wilson_95"] = [float(np.nextafter(low, 1)), float(np.nextafter(high, 0))]
    path.write_text(json.dumps(raw))
    assert Report.load(path).overall.wilson_95 == tuple(raw["overall"]["wilson_95"])
    raw["overall"]["wilson_95"] = [low + 1e-6, high]
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match="overall"):
        Report.load(path)


def test_missing_or_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(DataError, match=r"report\.json: no such file\. Make the report again"):
        Report.load(path)
    small_report(strips=True).save(path)
    pictures_path(path).write_bytes(b"PK broken")
    with pytest.raises(DataError, match=r"report\.filmstrips\.npz"):
        Report.load(path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match=r"report\.json: not JSON"):
        Report.load(path)


def test_psnr_closed_form() -> None:
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert frame_psnr(grey, black) == pytest.approx(20 * np.log10(255 / 51))
    assert frame_psnr(grey, grey) is None
    with pytest.raises(DataError, match="shape"):
        frame_psnr(grey, grey[:2])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_damaged_report_is_read_as_it_was_or_refused(data: st.DataObject) -> None:
    """Any byte of a report or its pictures changed, or the file cut: the same values, or our own error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        report = small_report(strips=True)
        report.save(path)
        file = data.draw(st.sampled_from([path, pictures_path(path)]))
        whole = file.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        if data.draw(st.booleans()):
            file.write_bytes(whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
        else:
            file.write_bytes(whole[:at])
        try:
            found = Report.load(path)
        except DataError as error:
            told = str(error)
        else:
            told = ""
            assert found == report
            for ours, theirs in zip(found.filmstrips, report.filmstrips, strict=True):
                assert np.array_equal(ours.real, theirs.real)
                assert np.array_equal(ours.imagined, theirs.imagined)
        assert not told or str(file) in told


def test_pictures_of_another_report_are_refused(tmp_path: Path) -> None:
    report = small_report(strips=True)
    report.save(tmp_path / "report.json")
    darker = tuple(replace(s, real=s.real // 2, imagined=s.imagined // 2) for s in report.filmstrips)
    replace(report, filmstrips=darker).save(tmp_path / "other.json")
    pictures_path(tmp_path / "other.json").replace(pictures_path(tmp_path / "report.json"))
    with pytest.raises(
        DataError, match=r"filmstrip 0: the pictures are not those that its caption was measured on\."
    ):
        Report.load(tmp_path / "report.json")
