"""Comparing evaluations: matched episodes, closed forms, warnings, refusals, the page and the table."""

import dataclasses
import json
from itertools import product
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import CHROMIUM, fits_a_phone, read
from reports import small_report
from shifted import report_of, shifted_report

from wamkit import api
from wamkit.cli import main
from wamkit.envs.perturbations import DIMENSIONS
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.output.compare_page import render_comparison
from wamkit.evaluation.report.compare import ComparisonRow, compare_reports, label_reports, mcnemar
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.statistics import paired_difference


def clean(pattern: str, first_seed: int = 0) -> Report:
    """One task; S success, T timeout, E error, seed by seed."""
    names = {"S": "success", "T": "timeout", "E": "error"}
    return report_of(
        [EpisodeRecord("push", first_seed + i, "go", names[c], 10, 2) for i, c in enumerate(pattern)]
    )


def only_row(ours: Report, theirs: Report) -> ComparisonRow:
    return compare_reports({"a": ours, "b": theirs}).pairings[0].rows[0]


@given(first=st.integers(0, 25), other=st.integers(0, 25))
def test_mcnemar_is_the_binomial_tail(first: int, other: int) -> None:
    n = first + other
    tail = sum(comb(n, k) for k in range(min(first, other) + 1)) / 2**n
    assert mcnemar(first, other) == pytest.approx(min(1.0, 2 * tail) if n else 1.0)
    assert mcnemar(first, other) == mcnemar(other, first)


def test_a_row_counts_matched_pairs() -> None:
    row = only_row(clean("SSTTSTTTTT"), clean("STSSSSSSSS"))
    assert (row.only_first, row.only_other, row.broken) == (1, 7, 0)
    assert (row.first.successes, row.other.successes, row.first.n) == (3, 9, 10)
    pairs = list(zip(map("S".__eq__, "STSSSSSSSS"), map("S".__eq__, "SSTTSTTTTT"), strict=True))
    assert row.difference == paired_difference(pairs)
    assert row.p_value == pytest.approx(2 * (1 + 8) / 2**8)
    assert not row.significant
    assert row.verdict("a", "b") == "no significant difference at 5 % (p = 0.07, 10 pairs)"


def test_who_is_better_is_said_in_words() -> None:
    row = only_row(clean("TTTTTTTS"), clean("SSSSSSSS"))
    assert row.verdict("a", "b") == "b is better than a: significant at 5 % (p = 0.016, 8 pairs)"
    row = only_row(clean("SSSSSSSS"), clean("TTTTTTTS"))
    assert row.verdict("a", "b").startswith("a is better than b")
    row = only_row(clean("TTTTT"), clean("SSSSS"))
    assert "5 differ: fewer than 6 can never be significant" in row.verdict("a", "b")


@given(st.text("STE", min_size=1, max_size=12), st.integers(0, 3))
def test_exchanging_the_reports_mirrors_the_result(pattern: str, turn: int) -> None:
    other = pattern[turn:] + pattern[:turn]
    one, two = only_row(clean(pattern), clean(other)), only_row(clean(other), clean(pattern))
    assert one.p_value == two.p_value
    assert (one.only_first, one.only_other) == (two.only_other, two.only_first)
    if one.difference.difference is not None and two.difference.difference is not None:
        assert one.difference.difference == -two.difference.difference
        assert one.difference.low == pytest.approx(-two.difference.high)


def test_errors_and_strangers_are_no_pairs() -> None:
    found = compare_reports({"a": clean("SETSS"), "b": clean("SSETTSS", first_seed=1)}).pairings[0]
    assert found.common == 4
    assert found.rows[0].broken == 2
    assert found.rows[0].difference.n == 2
    assert "1 episodes of 'a' have no partner and are left out" in found.warnings
    assert "3 episodes of 'b' have no partner and are left out" in found.warnings
    assert "1 of 5 episodes of 'a' ended in an error" in found.warnings
    row = only_row(clean("EE"), clean("SS"))
    assert row.p_value is None
    assert row.verdict("a", "b") == "no pair of scored episodes"


def test_dimensions_stand_in_the_fields_order_and_match_by_variant() -> None:
    ours, theirs = shifted_report(), shifted_report(status=lambda index, strength: "success")
    rows = compare_reports({"a": ours, "b": theirs}).pairings[0].rows
    scopes = [row.scope for row in rows]
    assert scopes == ["Original", "push-v3", "open-the-long-named-drawer-v3", *DIMENSIONS, "all perturbed"]
    assert [row.difference.n for row in rows] == [10, 5, 5, *[10] * 7, 70]
    assert [row.only_other for row in rows] == [0, 0, 0, *[4] * 7, 28]
    # Other variants of the same seeds are other episodes: the clean ones are left.
    moved = [dataclasses.replace(e, variant=f"{e.variant}-b") if e.strength else e for e in theirs.episodes]
    assert compare_reports({"a": ours, "b": report_of(moved)}).pairings[0].common == 10


def test_what_else_differs_is_said() -> None:
    ours = small_report()
    theirs = dataclasses.replace(
        ours,
        device={"policy": "cuda", "cpu": "a processor"},
        prompt_mode="paraphrase",
        budget={"nfe": {"action": 2}, "future": None},
        config={**ours.config, "env": {"task": "a", "max_ticks": 9}, "controller": {"execute": 2}},
    )
    warnings = compare_reports({"a": ours, "b": theirs}).pairings[0].warnings
    assert len(warnings) == 5
    assert "latency was measured on different devices" in warnings[0]
    assert "policy cuda" in warnings[0]
    assert warnings[1] == "the prompt modes differ: 'a' canonical, 'b' paraphrase"
    assert warnings[2] == "the budgets differ (here: 'a', there: 'b'): nfe.action: 2 there, 10 here"
    assert warnings[3].startswith("the controllers differ")
    assert "max_ticks" in warnings[4]
    assert compare_reports({"a": ours, "b": small_report(successes=1)}).pairings[0].warnings == ()


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least two"):
        compare_reports({"a": small_report()})
    with pytest.raises(ConfigError, match=r"share no episode.*seeds 0 to 3.*seeds 50 to 53.*same tasks"):
        compare_reports({"a": clean("SSSS"), "b": clean("SSSS", first_seed=50)})
    twice = report_of([EpisodeRecord("push", 0, "go", "success", 1, 1)] * 2)
    with pytest.raises(DataError, match="twice"):
        compare_reports({"a": twice, "b": clean("S")})
    with pytest.raises(ConfigError, match="given twice"):
        label_reports([(Path("x"), small_report()), (Path("x"), small_report())])


def test_the_verb_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, successes in (("one", 0), ("two", 5)):
        small_report("same", successes).save(tmp_path / name / "report.json")
    out = tmp_path / "out"
    runs = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main(["compare", *runs, "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "no significant difference at 5 %" in printed
    assert "push" in printed
    stored = json.loads((out / "compare.json").read_text())
    assert stored["labels"] == [f"same ({run})" for run in runs]
    row = stored["pairings"][0]["rows"][1]
    assert (row["scope"], row["only_other"], row["p_value"]) == ("push", 5, 0.0625)
    assert row["verdict"].startswith("no significant difference")
    assert (out / "compare.html").is_file()
    assert api.compare([Path(run) for run in runs], tmp_path / "again").labels == tuple(stored["labels"])
    assert main(["compare", runs[0], "--out", str(out)]) == 2
    assert "at least two" in capsys.readouterr().err


def test_the_page_is_well_formed_and_says_everything() -> None:
    reports = {"a <b>": shifted_report(), "c": shifted_report(status=lambda i, s: "success")}
    found = compare_reports(reports)
    parsed = read(render_comparison(found, reports))
    assert all(address.startswith(("data:", "#")) for address in parsed.addresses)
    text = " ".join(parsed.text)
    for row in found.pairings[0].rows:
        assert row.scope in text
    assert "c is better than a <b>: significant at 5 % (p < 0.0001, 70 pairs)" in text
    assert "not corrected" in text


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page cannot be laid out here")
def test_the_page_fits_a_phone(tmp_path: Path) -> None:
    label = "a-long-name-without-any-space-in-it-that-must-be-broken"
    reports = {label: shifted_report(), "b": shifted_report(), "c": small_report()}
    reports["c"] = report_of([e for e in reports["b"].episodes if not e.strength], "c")
    assert fits_a_phone(render_comparison(compare_reports(reports), reports), tmp_path)


def test_every_pair_of_outcomes_is_counted_once() -> None:
    outcomes = ["".join(pair) for pair in product("STE", repeat=2)]
    row = only_row(clean("".join(p[0] for p in outcomes)), clean("".join(p[1] for p in outcomes)))
    assert (row.difference.n, row.only_first, row.only_other, row.broken) == (4, 1, 1, 5)
