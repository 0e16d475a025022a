"""What an evaluation leaves on disk, with real simulators: films, variants, Rerun exports."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from shifted import shifted_report
from wanderer import ENV, Wanderer

from wamkit.controllers import Chunked
from wamkit.envs.perturbations import DIMENSIONS
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shifts
from wamkit.evaluation.closed_loop.recording import Recording, record
from wamkit.evaluation.closed_loop.rollout import Rollout, rollout
from wamkit.evaluation.output.films import choose_failures, links
from wamkit.evaluation.output.report_page import render
from wamkit.evaluation.output.results import check_outputs, write_results

CONFIG = EvaluationConfig(
    tasks=("drawer-open-v3",),
    env=ENV,
    controller=Chunked(4),
    workers=1,
    slots=2,
    latency_calls=1,
    shifts=Shifts(per_dimension=2, dimensions=("Light Conditions", "Objects Layout")),
)


@pytest.fixture(scope="module")
def done() -> Rollout:
    return rollout(Wanderer(), CONFIG, progress=False)


@pytest.fixture(scope="module")
def out(done: Rollout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("rerun")
    folder = tmp_path_factory.mktemp("out")
    (folder / "films").mkdir()
    (folder / "films" / "stale.mp4").touch()
    write_results(done, CONFIG, folder, failures=2, rerun=True)
    return folder


def test_failures_are_dealt_over_the_dimensions() -> None:
    episodes = shifted_report().episodes  # 4 failures in each of the seven dimensions, none in the clean arm
    chosen = choose_failures(episodes, 10)
    assert [e.dimension for e in chosen[:7]] == list(DIMENSIONS)
    assert Counter(e.status for e in chosen) == {"timeout": 10}
    assert len({e.key for e in chosen}) == 10
    assert len(choose_failures(episodes, 100)) == 28
    assert choose_failures(episodes, 0) == []


@pytest.mark.sim
def test_a_recording_shows_what_the_policy_saw(done: Rollout) -> None:
    taken: dict[str, Recording] = {}
    record(CONFIG, done.traces, lambda recording: taken.update({recording.plan.key: recording}))
    ended = {e.key: (e.status, e.ticks) for e in done.report.episodes}
    assert {k: (r.status, len(r.actions)) for k, r in taken.items()} == ended
    assert all(len(r.frames) == len(r.actions) + 1 for r in taken.values())
    for strip in done.report.filmstrips:
        frames = taken[f"clean/{strip.task}/000"].frames
        assert np.array_equal(frames[strip.tick]["images"][strip.camera], strip.now)
        for offset, real in zip(strip.offsets, strip.real, strict=True):
            assert np.array_equal(frames[strip.tick + offset]["images"][strip.camera], real)


@pytest.mark.sim
def test_what_is_written(done: Rollout, out: Path) -> None:
    report = done.report
    rows = pq.read_table(out / "report.variants.parquet").to_pylist()
    assert [row["variant"] for row in rows] == [e.variant for e in report.episodes]
    assert [row["success"] for row in rows] == [0] * 6
    assert {row["phase"] for row in rows} == {"reach"}  # a wanderer that times out before it touches anything
    assert {row["never_reached"] for row in rows} == {row["timeout"] for row in rows} == {1}
    listed = [json.loads(line) for line in (out / "variants.jsonl").read_text().splitlines()]
    assert [line["id"] for line in listed] == [row["variant"] for row in rows]
    linked = links(report, out, out / "pages" / "report.html")
    assert len(linked) == 2
    assert len(list((out / "films").iterdir())) == 2
    assert all(address in render([report], [linked]) for address in linked.values())
    for address in linked.values():
        with av.open(str((out / "pages" / address).resolve())) as film:
            stream = film.streams.video[0]
            assert (stream.width, stream.height, stream.average_rate) == (512, 256, 20)
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert sum(1 for _ in film.decode(stream)) == 11
    exported = {path.stem for path in (out / "rerun").glob("*.rrd")}
    assert exported == {key.replace("/", "__") for key in [*linked, "clean/drawer-open-v3/000"]}


@pytest.mark.sim
def test_a_rerun_export_opens_again(done: Rollout, out: Path) -> None:
    from rerun.chunk import RrdReader

    reader = RrdReader(out / "rerun" / "clean__drawer-open-v3__000.rrd")
    assert [entry.application_id for entry in reader.recordings()] == ["wamkit"]
    rows: Counter[str] = Counter()
    for part in reader.stream():
        if "tick" in part.to_record_batch().schema.names:
            rows[part.entity_path] += part.to_record_batch().num_rows
    trace = done.traces[0]
    ticks = sum(len(block.actions) for block in trace.blocks)
    assert rows["/camera/scene"] == rows["/camera/gripper"] == rows["/state"] == ticks + 1
    assert rows["/action"] == ticks
    imagined = sum(len(s.offsets) for s in done.report.filmstrips if s.camera == "scene")
    assert rows["/imagined/scene"] == imagined == 5


@pytest.mark.sim
def test_an_episode_that_does_not_repeat_is_no_film(done: Rollout, tmp_path: Path) -> None:
    first, *rest = done.traces
    cut = dataclasses.replace(first.blocks[-1], actions=first.blocks[-1].actions[:1])
    other = dataclasses.replace(first, blocks=(*first.blocks[:-1], cut))
    with pytest.raises(DataError, match=r"clean/drawer-open-v3/000: the recording ends here"):
        write_results(dataclasses.replace(done, traces=(other, *rest)), CONFIG, tmp_path, failures=1)
    assert (tmp_path / "report.json").is_file()
    ended = [dataclasses.replace(e, ticks=e.ticks - 1) for e in done.report.episodes]
    lied = dataclasses.replace(done.report, episodes=tuple(ended))
    with pytest.raises(DataError, match=r"timeout after 9 ticks, but timeout after 10 .* does not repeat"):
        write_results(dataclasses.replace(done, report=lied), CONFIG, tmp_path, failures=1)


def test_bad_outputs_are_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="films_of_failures: -1"):
        check_outputs(-1, False)
