"""report.html: complete, self-contained, escaped, and readable on a phone."""

import dataclasses
import re
from pathlib import Path

import pytest
from pages import CHROMIUM, fits_a_phone, read
from reports import small_prediction, small_report
from shifted import shifted_report

from wamkit.envs.perturbations import DIMENSIONS
from wamkit.errors import ConfigError
from wamkit.evaluation.output.report_page import facts, render, write_html, write_page
from wamkit.evaluation.output.shift_section import shift_table_html
from wamkit.evaluation.report.episode import Events
from wamkit.evaluation.report.failures import failure_table
from wamkit.evaluation.report.statistics import wilson


def test_page_is_well_formed_self_contained_and_escaped() -> None:
    page = render([small_report(errors=1, strips=True), small_report("baseline", 1)])
    parsed = read(page)
    assert all(a.startswith(("data:", "#")) for a in parsed.addresses)
    assert "<script" not in page
    assert "@import" not in page
    assert "open <it> & go" in parsed.text  # not read as a tag
    assert any("Traceback: boom <b>" in text for text in parsed.text)
    assert len(re.findall(r"<svg ", page)) == 3
    assert page.count("<img ") == 2 * (2 + 2 + 1)  # two strips: two imagined, two real, one at the call


def test_every_figure_of_the_report_is_on_the_page() -> None:
    report = small_report(errors=1, strips=True)
    text = " ".join(read(render([report])).text)
    for expected in (
        report.headline(),
        "p(s,a|c)",
        "60 % [23, 88], n = 5 (3 success, 2 timeout)",  # Wilson 95 % of 3 in 5
        "p50 5.95, p95 6.8, max 6.9, n = 20",
        "yes: p95 against 800 ms, 0 of 20 calls late",
        "action 10, future 2.5",
        "16 / 8",
        "process 512",
        "0 to 4, n = 5 per task",
        report.config_hash,
        "canonical",
        "3.11.0",
        "equal (",
    ):
        assert expected in text


def test_side_by_side_has_a_column_per_report() -> None:
    table = facts([small_report("joint"), small_report("baseline", 1)])
    assert table.index("<th>joint</th>") < table.index("<th>baseline</th>")
    rows = re.findall(r"<tr><th>push</th>(.*?)</tr>", table)
    assert len(rows) == 1
    assert [cell.split(" %")[0] for cell in re.findall(r"<td>(.*?)</td>", rows[0])] == ["60", "20"]


def test_numbers_are_not_shown_as_yes_and_no() -> None:
    report = small_report()
    table = facts([dataclasses.replace(report, design={**report.design, "layers": 1, "spare": 0})])
    assert "<tr><th>layers</th><td>1</td></tr>" in table
    assert "<tr><th>spare</th><td>0</td></tr>" in table
    assert "<tr><th>is_wam</th><td>yes</td></tr>" in table


def test_errors_are_announced_and_nothing_is_shown_without_a_report() -> None:
    assert 'class="warn"' not in render([small_report()])
    assert "Some episodes broke" in render([small_report(errors=1)])
    assert "no scored episode" in render([small_report(errors=5)])
    with pytest.raises(ConfigError, match="at least one"):
        render([])


def test_the_same_report_gives_the_same_page(tmp_path: Path) -> None:
    write_html(small_report(strips=True), tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == render([small_report(strips=True)])


def test_shifts_stand_in_the_fields_order_with_both_totals() -> None:
    table = shift_table_html(shifted_report()).replace("\N{NO-BREAK SPACE}", " ")
    heads = re.findall(r"<tr><th>(.*?)</th>", table)
    assert heads[1:9] == ["Original", *DIMENSIONS]
    cells = re.findall(r"<tr><th>Light Conditions</th><td>(.*?)</td><td>(.*?)</td></tr>", table)
    low, high = wilson(6, 10)
    assert cells[0][0] == f"60 % [{100 * low:.0f}, {100 * high:.0f}], 6 of 10"
    assert cells[0][1].startswith("−40 [−")
    assert cells[0][1].endswith("n = 10")
    assert "LIBERO-Plus)</th><td>60 % [" in table
    # Seven columns of 60 % and a clean one of 100 %.
    assert "8 columns: Original and the dimensions" in table
    assert "2.0-Plus)</th><td>65 % [" in table
    assert "ended in an error" not in table


def test_shifts_name_their_errors() -> None:
    def ends(index: int, strength: int) -> str:
        return "error" if (index, strength) == (1, 2) else "success"

    report = shifted_report(status=ends)
    page = " ".join(read(render([report])).text)
    assert "7 of 80 episodes ended in an error" in page
    assert "Sensor Noise 1" in page
    assert "9 of 9, 1 broke" in page


def test_kinds_strengths_and_plots_are_there_when_something_was_perturbed() -> None:
    page = render([shifted_report(), small_report("unperturbed")])
    parsed = read(page)
    assert len(re.findall(r"<svg ", page)) == 5
    assert parsed.text.count("kind 0") == parsed.text.count("strength 5") == 7
    assert "every unperturbed episode ended" in " ".join(parsed.text)
    assert "Under perturbation" not in render([small_report()])


def test_phases_and_tags_stand_with_n() -> None:
    report = small_report()
    events = [Events("contact", 3, 1, 2, True, 0.0, 0.0), Events("success", 2, 1, 9, False, 0.1, 0.0)]
    episodes = [
        dataclasses.replace(e, events=events[e.status == "success"]) for e in report.episodes if e.seed < 4
    ]
    table = failure_table(episodes)
    assert table is not None
    page = render([dataclasses.replace(report, failures=table)]).replace("\N{NO-BREAK SPACE}", " ")
    low, high = wilson(7, 8)
    assert f"transport 88 % [{100 * low:.0f}, {100 * high:.0f}], 7 of 8" in page
    assert "contact 100 % [68, 100], 8 of 8" in page
    assert "contact lost 100 % [21, 100], 1 of 1" in page
    assert "drift" not in page
    read(page)
    assert "How far it got" not in render([report])


def test_films_are_linked_relatively_from_list_and_table() -> None:
    report = shifted_report()
    failed = next(e for e in report.episodes if e.status == "timeout")
    films = {failed.key: "films/a%20b.mp4"}
    parsed = read(render([report], [films]))
    assert parsed.addresses.count("films/a%20b.mp4") == 2
    assert "1 of 28 failed episodes" in " ".join(parsed.text)
    with pytest.raises(ConfigError, match="2 reports for 1 reports"):
        render([report], [films, films])


def test_prediction_stands_beside_control_with_n_intervals_and_horizon() -> None:
    report = small_report()
    page = render([report, small_report("baseline")], predictions=[small_prediction(), None])
    text = " ".join(read(page.replace("\N{NO-BREAK SPACE}", " ")).text)
    mean = report.mean_over_tasks
    for expected in (
        f"success 70 % [{100 * mean.low:.0f}, {100 * mean.high:.0f}], n = 10; 12 windows of 4 episodes, own actions",
        "future, scene: psnr, dB, higher is better",
        "tracks <b>, points: end-point error, px, lower is better, rolled out",
        "8 of 12 windows",
        "few samples",
    ):
        assert expected in text
    rows = re.findall(r"<tr><th>(.*?)</th>(.*?)</tr>", page.replace("\N{NO-BREAK SPACE}", " "))
    cells = {name: re.findall(r"<td.*?>(.*?)</td>", row) for name, row in rows}
    model, copy, ideal, gain, drift = cells["+16 ticks, n = 12 (4 episodes)"]
    assert (model, copy, ideal) == ("27 [26.5, 27.5]", "20 [19.5, 20.5]", "30 [29.5, 30.5]")
    assert (gain, drift) == ("7 [6.5, 7.5]", "3 [2.5, 3.5]")
    assert cells["milestone 1, n = 3 (1 episode)"][0] == "0.25 (one episode)"
    assert cells["future, frechet[looks], +8 ticks, n = 12"][:3] == ["1.5", "2.5", "floor 0.125"]
    assert "very demonstrations" not in page
    assert "Prediction beside control" not in render([report])
    with pytest.raises(ConfigError, match="predictions of 1 reports for 2 reports"):
        render([report, report], predictions=[None])


def test_a_prediction_of_another_checkpoint_or_of_the_training_data_is_named() -> None:
    ours = dataclasses.replace(small_report(), checkpoint="a" * 64, dataset="demonstrations")
    own = render([ours], predictions=[small_prediction(checkpoint="a" * 64)])
    assert "very demonstrations that it was trained on" in own
    other = render([ours], predictions=[small_prediction(checkpoint="b" * 64)])
    assert "of another checkpoint (bbbbbbbbbbbb, not aaaaaaaaaaaa)" in other
    assert "psnr, dB" not in other


def test_the_page_shows_what_lies_beside_the_report(tmp_path: Path) -> None:
    small_prediction().save(tmp_path / "prediction.json")
    write_page([(small_report(), tmp_path)], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == render(
        [small_report()], predictions=[small_prediction()]
    )


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page cannot be laid out here")
@pytest.mark.parametrize("shifted", [False, True])
def test_a_phone_needs_no_sideways_scrolling(tmp_path: Path, shifted: bool) -> None:
    first = shifted_report() if shifted else small_report(errors=1, strips=True)
    films = [{first.episodes[-1].key: "films/" + 60 * "long" + ".mp4"}, {}]
    # Opened: what unfolds must fit as well.
    predictions = [small_prediction(), None]
    page = render([first, small_report("baseline")], films, predictions).replace(
        "<details>", "<details open>"
    )
    assert fits_a_phone(page, tmp_path)
