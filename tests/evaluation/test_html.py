"""report.html: complete, self-contained, escaped, and readable on a phone."""

import dataclasses
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reports import small_report
from shifted import shifted_report

from wamkit.envs.perturbations import DIMENSIONS
from wamkit.errors import ConfigError
from wamkit.evaluation.failures import Events, failure_table
from wamkit.evaluation.html import facts, render, write_html
from wamkit.evaluation.shift_html import shift_table_html
from wamkit.evaluation.statistics import wilson

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Balanced(HTMLParser):
    """Raises when tags are not closed in order; collects text and addresses."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.stack == []
    return parser


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


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page cannot be laid out here")
@pytest.mark.parametrize("shifted", [False, True])
def test_a_phone_needs_no_sideways_scrolling(tmp_path: Path, shifted: bool) -> None:
    first = shifted_report() if shifted else small_report(errors=1, strips=True)
    films = [{first.episodes[-1].key: "films/" + 60 * "long" + ".mp4"}, {}]
    # Opened: what unfolds must fit as well.
    page = render([first, small_report("baseline")], films).replace("<details>", "<details open>")
    assert fits_a_phone(page, tmp_path)


def fits_a_phone(page: str, folder: Path) -> bool:
    """Lay out the page as narrow as Chromium goes, at most 500 px wide, in a frame of 390 px."""
    (folder / "page.html").write_text(page)
    probe = (
        '<body><iframe src="page.html" width="390" height="800" style="border:0" onload="document.title = '
        "contentWindow.innerWidth + '/' + contentDocument.documentElement.scrollWidth\"></iframe></body>"
    )
    (folder / "phone.html").write_text(probe)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += ["--dump-dom", f"--user-data-dir={folder / 'profile'}", (folder / "phone.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    window, content = re.findall(r"<title>(\d+)/(\d+)</title>", shown)[0]
    assert int(window) == 390
    return int(content) <= 390
