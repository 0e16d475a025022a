"""The parquet of one row per episode: phases and tags as columns, null where nothing is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from reports import small_report
from stories import AWAY, LEFT, PUSH, TOUCH, record

from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.rollout import Rollout
from wamkit.evaluation.output.records import MEANING, RECORD_COLUMNS, RECORDS_FILE, write_records
from wamkit.evaluation.output.results import write_results
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.failures import DRIFT_M, FLICKER, TAGS, tags_of

BROKEN = EpisodeRecord("push", 9, "push it", "error", 1, 1, error="Traceback: boom")
BLIND = EpisodeRecord("push", 8, "push it", "timeout", 5, 4)  # its simulator states no facts
CONTACTS = ("phase", "first_contact", "contacts", "contact_ticks", "moved_m", "drift_m", "never_reached")


def written(path: Path, *episodes: EpisodeRecord) -> list[dict[str, Any]]:
    write_records(path, episodes)
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_phases_tags_and_replans_are_columns(tmp_path: Path) -> None:
    episodes = [
        record([AWAY, AWAY], early_calls=1),
        record([AWAY, TOUCH, *[LEFT] * (FLICKER + 1)]),
        record([AWAY, TOUCH, *[AWAY] * (FLICKER + 1)], "failure", dimension="Sensor Noise", strength=3),
        record([AWAY, PUSH], "success"),
    ]
    rows = written(tmp_path / "rows.parquet", *episodes)
    names = ("phase", "success", "never_reached", "contact_lost", "drift", "timeout", "first_contact")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("reach", 0, 1, 0, 0, 1, None),
        ("contact", 0, 0, 1, 0, 1, 2),
        ("contact", 0, 0, 1, 1, 0, 2),
        ("success", 1, 0, 0, 0, 0, 2),
    ]
    assert rows[2]["drift_m"] > DRIFT_M
    assert [row["replans"] for row in rows] == [2] * 4  # three calls each
    assert [row["early_replans"] for row in rows] == [1, 0, 0, 0]
    for row, episode in zip(rows, episodes, strict=True):
        assert {tag for tag in TAGS if row[tag.replace(" ", "_")]} == set(tags_of(episode))


def test_what_is_not_known_is_null_and_the_types_do_not_depend_on_it(tmp_path: Path) -> None:
    broken, blind = written(tmp_path / "rows.parquet", BROKEN, BLIND)
    assert broken["success"] is None
    assert broken["error"] == "Traceback: boom"
    assert blind["success"] == 0
    assert blind["replans"] == 3
    for row in (broken, blind):
        assert [row[name] for name in CONTACTS] == [None] * len(CONTACTS)
        assert [row[tag.replace(" ", "_")] for tag in TAGS] == [None] * len(TAGS)
    few, many = pq.read_schema(tmp_path / "rows.parquet"), tmp_path / "many.parquet"
    write_records(many, [record([AWAY]), BROKEN])
    assert few.equals(pq.read_schema(many), check_metadata=True)
    for column, field in zip(RECORD_COLUMNS, few, strict=True):
        assert field.metadata[MEANING].decode() == column.meaning


def test_a_plain_evaluation_has_its_rows_too(tmp_path: Path) -> None:
    report = small_report(errors=1)
    write_results(Rollout(report, ()), EvaluationConfig(), tmp_path, failures=0)
    rows = pq.read_table(tmp_path / RECORDS_FILE).to_pylist()
    assert [row["success"] for row in rows].count(None) == 1
    assert sum(row["success"] or 0 for row in rows) == report.overall.successes
    assert not (tmp_path / "variants.jsonl").exists()


def test_every_column_is_explained_in_the_docs() -> None:
    page = Path(__file__).parents[3] / "docs" / "robustness.md"
    text = page.read_text("utf-8")
    assert [column.name for column in RECORD_COLUMNS if f"`{column.name}`" not in text] == []
