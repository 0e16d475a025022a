"""An evaluation that is killed goes on; what another evaluation left is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import lines_of
from resumable import CONFIG, EPISODES, Slow
from wanderer import Wanderer

from wamkit.errors import BusyError, ConfigError, DataError
from wamkit.evaluation.closed_loop import rollout as module
from wamkit.evaluation.closed_loop.assemble import Finished
from wamkit.evaluation.closed_loop.episodes import Trace
from wamkit.evaluation.closed_loop.journal import Head, discard_journal, open_journal
from wamkit.evaluation.closed_loop.plan import plan_episodes
from wamkit.evaluation.closed_loop.rollout import Rollout, rollout
from wamkit.evaluation.report.episode import EpisodeRecord

HEAD = Head({"seed": 0, "env": {"type": "toy", "max_ticks": 10}}, "abc", "toy", {"torch": "1"})


def episode(i: int) -> Finished:
    return Finished(f"clean/task/{i:03d}", EpisodeRecord("task", i, "go", "success", 3 + i, 1), {"calls": i})


def actions(traces: tuple[Trace, ...]) -> list[tuple[str, list[bytes]]]:
    return [(t.plan.key, [block.actions.tobytes() for block in t.blocks]) for t in traces]


@pytest.fixture(scope="module")
def whole() -> Rollout:
    """The evaluation in one piece."""
    return rollout(Wanderer(), CONFIG, checkpoint="abc", progress=False)


@pytest.mark.sim
def test_a_killed_evaluation_goes_on_with_nothing_lost_or_counted_twice(
    tmp_path: Path, whole: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    folder = Path(__file__).parents[1]
    process = subprocess.Popen([sys.executable, str(folder / "resumable.py"), "evaluate", str(path)])
    while process.poll() is None and not (path.exists() and len(lines_of(path, "episode")) >= 3):
        time.sleep(0.01)
    process.kill()
    assert process.wait() < 0
    before = {line["key"] for line in lines_of(path, "episode")}
    assert 3 <= len(before) < EPISODES
    with path.open("ab") as file:
        file.write(b'{"episode": {"key": "clean/dr')  # as if killed while writing
    resumed = rollout(Slow(), CONFIG, checkpoint="abc", journal=path, progress=False)
    report = resumed.report
    written = [line["key"] for line in lines_of(path, "episode")]
    assert sorted(written) == sorted(plan.key for plan in plan_episodes(CONFIG))
    assert set(written[: len(before)]) == before
    # What was batched with what differed; this policy's rows do not depend on it, so everything is equal.
    assert report.episodes == whole.report.episodes
    assert report.shifts == whole.report.shifts
    assert report.filmstrips == whole.report.filmstrips
    assert actions(resumed.traces) == actions(whole.traces)
    assert (
        f"resumed: {len(before)} of {EPISODES} episodes were finished by 1 earlier session" in report.notes[0]
    )
    assert not any("resumed" in note for note in whole.report.notes)

    # Nothing is left to run: killed before the report was saved. No simulator is started.
    monkeypatch.setattr(module, "VectorEnv", None)
    again = rollout(Slow(), CONFIG, checkpoint="abc", journal=path, progress=False).report
    assert again.episodes == report.episodes
    assert (again.latency_ms, again.nfe, again.rollout_s) == (report.latency_ms, report.nfe, report.rollout_s)
    assert "2 earlier sessions" in again.notes[0]
    with pytest.raises(ConfigError, match=r"checkpoint 'abc' there, 'abd' here.* delete .*journal.jsonl"):
        rollout(Slow(), CONFIG, checkpoint="abd", journal=path, progress=False)
    other = dataclasses.replace(CONFIG, seed=1, slots=4)
    with pytest.raises(ConfigError, match=r"seed: 0 there, 1 here; slots: 2 there, 4 here"):
        rollout(Slow(), other, checkpoint="abc", journal=path, progress=False)
    discard_journal(path)
    assert not list(tmp_path.iterdir())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.data())
def test_a_torn_line_is_dropped_wherever_the_process_died(count: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        with open_journal(path, HEAD) as journal:
            for i in range(count):
                journal.append(episode(i))
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        kept = max(content[:cut].count(b"\n") - 2, 0)  # after the head and the session
        with open_journal(path, HEAD) as journal:
            assert journal.finished == {f.key: f for f in map(episode, range(kept))}
            for i in range(kept, count):
                journal.append(episode(i))
        with open_journal(path, HEAD) as journal:
            assert list(journal.finished.values()) == [episode(i) for i in range(count)]


def test_what_is_not_this_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with open_journal(path, HEAD) as journal:
        journal.append(episode(0))
        with pytest.raises(BusyError, match="another process"), open_journal(path, HEAD):
            pass
        journal.append(episode(0))
    with (
        pytest.raises(DataError, match=r"line 4: .*/000' stands there twice"),
        open_journal(path, HEAD),
    ):
        pass
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1], lines[2][:20] + "\n"]))
    with (
        pytest.raises(DataError, match="line 3: the line is not as it was written"),
        open_journal(path, HEAD),
    ):
        pass
    path.write_text("".join(lines[:2]))
    longer = dataclasses.replace(HEAD, config={"seed": 0, "env": {"type": "toy", "max_ticks": 20}})
    with pytest.raises(ConfigError, match=r"env.max_ticks: 10 there, 20 here"), open_journal(path, longer):
        pass
    path.write_text('{"format": "else"}\n')
    with pytest.raises(ConfigError, match="'else'"), open_journal(path, HEAD):
        pass


def test_a_changed_journal_is_never_believed(tmp_path: Path) -> None:
    """Every bit flipped, every line repeated, taken out or moved: read as it was up to some line, or refused."""
    path = tmp_path / "journal.jsonl"
    with open_journal(path, HEAD) as journal:
        for i in range(4):
            journal.append(episode(i))
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    mutants = [
        content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in range(len(content))
    ]
    for i in range(len(lines)):
        mutants += [b"".join([*lines[: i + 1], *lines[i:]]), b"".join([*lines[:i], *lines[i + 1 :]])]
        mutants += [b"".join([*lines[:j], lines[i], *lines[j:i], *lines[i + 1 :]]) for j in range(i)]
    refused = 0
    for mutant in mutants[::5]:
        path.write_bytes(mutant)
        found, told = [], ""
        try:
            with open_journal(path, HEAD) as journal:
                found = list(journal.finished.values())
        except (ConfigError, DataError) as error:
            refused, told = refused + 1, str(error)
        assert found == [episode(i) for i in range(len(found))]
        assert not told or (str(path) in told and "choose another `out`" in told)
    assert refused >= len(mutants) // 5 - len(lines[-1]) - 2  # only at the end can something be missing


def test_another_simulator_or_wamkit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for name in ("wamkit", "mujoco"):
        with open_journal(path, dataclasses.replace(HEAD, versions={name: "1"})):
            pass
        with (
            pytest.raises(ConfigError, match=f"versions.{name}: '1' there, '2' here"),
            open_journal(path, dataclasses.replace(HEAD, versions={name: "2"})),
        ):
            pass
        path.unlink()


def test_another_version_is_named() -> None:
    from wamkit.evaluation.closed_loop.journal import resumption

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        with open_journal(path, HEAD) as journal:
            assert resumption(journal, 4) == []
        with open_journal(path, dataclasses.replace(HEAD, versions={"torch": "2"})) as journal:
            notes = resumption(journal, 4)
    assert len(notes) == 2
    assert "torch: '1' there, '2' here" in notes[1]
