"""Every fault of a dataset is found, with its place, by the checks of which the reader raises the first."""

import dataclasses
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from corruption import KINDS as CORRUPTIONS
from corruption import mutant
from films import foreign_set
from PIL import Image
from recordings import ACTION, EXTRAS, OBSERVATION, SMALL, episode, record, varied
from test_broken import cut, edit_column, edit_json, remux, set_value
from test_pictures import coded, with_pictures

from wamkit.data import Dataset, DatasetWriter, rebuild_stats
from wamkit.data.faults import KINDS, Fault
from wamkit.data.findings import Checked, check_dataset
from wamkit.errors import DataError

INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
SCENE, GRIPPER = (f"observation.images.{name}" for name in ("scene", "gripper"))


def video(key: str) -> str:
    return f"videos/{key}/chunk-000/file-000.mp4"


Place = tuple[str, str | None, int | None, int | None, str | None]


@dataclass(frozen=True)
class Plant:
    """A way to break a dataset, and the fault that must be found: kind, file, episode, frame, feature."""

    name: str
    touches: str
    breaks: Callable[[Path], None]
    found: Place


def value(column: str, row: int, new: Any, entry: int | None = None) -> Callable[[Path], None]:
    return lambda root: edit_column(root / DATA, column, set_value(row, new, entry))


def entry_of(file: str, *trail: str, to: Any = None) -> Callable[[Path], None]:
    """Set an entry of a JSON file, or remove it."""

    def change(content: Any) -> None:
        for name in trail[:-1]:
            content = content[name]
        if to is None:
            del content[trail[-1]]
        else:
            content[trail[-1]] = to

    return lambda root: edit_json(root / file, change)


def row_of(column: str, row: int, new: Any) -> Callable[[Path], None]:
    return lambda root: edit_column(root / EPISODES, column, set_value(row, new))


def shorten(root: Path) -> None:
    remux(root / video(GRIPPER), 17)


def without(column: str) -> Callable[[Path], None]:
    def drop(root: Path) -> None:
        pq.write_table(pq.read_table(root / DATA).drop_columns([column]), root / DATA)

    return drop


# Episodes have 5, 9 and 4 frames: rows 0 to 4, 5 to 13, 14 to 17.
PLANTS = (
    Plant("nan in the action", "action", value("action", 8, float("nan"), 1), ("value", DATA, 1, 3, "action")),
    Plant(
        "infinity in the state",
        "state",
        value("observation.state", 2, float("inf"), 0),
        ("value", DATA, 0, 2, "observation.state"),
    ),
    Plant(
        "null in an extra", "pose", value("extra.pose", 15, None, 2), ("column", DATA, 2, 1, "extra.pose")
    ),
    Plant(
        "an action beyond its limits", "action", value("action", 4, 3.0, 0), ("limits", DATA, 0, 4, "action")
    ),
    Plant("another action", "action", value("action", 15, 0.123, 0), ("changed", DATA, 2, None, "action")),
    Plant(
        "another extra",
        "depth",
        lambda root: edit_column(root / DATA, "extra.contact", set_value(3, 9.0)),
        ("changed", "data", None, None, "extra.contact"),
    ),
    Plant("a time stamp", "timestamp", value("timestamp", 7, 1.0), ("index", DATA, 1, 2, "timestamp")),
    Plant("a frame index", "frame_index", value("frame_index", 16, 0), ("index", DATA, 2, 2, "frame_index")),
    Plant("an unknown task", "task_index", value("task_index", 1, 7), ("task", DATA, 0, 1, "task_index")),
    Plant("a missing column", "pose", without("extra.pose"), ("column", DATA, None, None, "extra.pose")),
    Plant(
        "a missing statistic",
        "stats of the state",
        entry_of(STATS, "observation.state", "q99"),
        ("statistics", STATS, None, None, "observation.state"),
    ),
    Plant(
        "a changed statistic",
        "stats of the scene",
        entry_of(STATS, SCENE, "mean", to=[[[0.2]], [[0.2]], [[0.2]]]),
        ("statistics", STATS, None, None, SCENE),
    ),
    Plant("a wrong total", "totals", entry_of(INFO, "total_tasks", to=9), ("totals", INFO, None, None, None)),
    Plant(
        "the end of an episode",
        "rows",
        row_of("dataset_to_index", 1, 13),
        ("episodes", EPISODES, 1, None, None),
    ),
    Plant("the number of an episode", "numbers", row_of("episode_index", 2, 9), ("episodes", EPISODES, 2, None, None)),
    Plant("a span", "scene", row_of(f"videos/{SCENE}/to_timestamp", 1, 9.0), ("span", video(SCENE), 1, None, SCENE)),
    Plant(
        "a missing video",
        "scene",
        lambda root: (root / video(SCENE)).unlink(),
        ("video", video(SCENE), None, None, SCENE),
    ),
    Plant("a short video", "gripper", shorten, ("span", video(GRIPPER), 2, 3, GRIPPER)),
    Plant(
        "a cut video",
        "gripper",
        lambda root: cut(root / video(GRIPPER), 0.5),
        ("video", video(GRIPPER), None, None, GRIPPER),
    ),
    Plant("a cut table of tasks", "tasks", lambda root: cut(root / TASKS, 0.5), ("tasks", TASKS, None, None, None)),
    Plant(
        "a changed spec",
        "specs",
        entry_of(INFO, "wamkit", "action_spec", "low", to=[-2, -1]),
        ("specs", INFO, None, None, None),
    ),
)  # fmt: skip
# Plants of which one hides what another would show: what both need is broken.
HIDDEN = {
    "an action beyond its limits": {"a changed spec"},
    "a wrong total": {"a cut table of tasks"},
    "an unknown task": {"a cut table of tasks"},
}


def places(result: Checked) -> set[Place]:
    return {(f.kind, f.file, f.episode, f.frame, f.feature) for f in result.faults}


def independent(*plants: Plant) -> bool:
    """Whether the plants touch different things, and none hides another."""
    pairs = list(itertools.combinations(plants, 2))
    return all(a.touches != b.touches for a, b in pairs) and not any(
        b.name in HIDDEN.get(a.name, ()) or a.name in HIDDEN.get(b.name, ()) for a, b in pairs
    )


def sets(size: int, count: int) -> list[tuple[Plant, ...]]:
    """Some of all independent sets of plants, drawn with a fixed seed."""
    every = [s for s in itertools.combinations(PLANTS, size) if independent(*s)]
    return random.Random(size).sample(every, count)


def named(plants: tuple[Plant, ...]) -> str:
    return " + ".join(plant.name for plant in plants)


@pytest.mark.parametrize("plants", [*((plant,) for plant in PLANTS), *sets(2, 40), *sets(3, 40)], ids=named)
def test_every_planted_fault_is_found_at_its_place_and_nothing_else(
    recorded: Path, plants: tuple[Plant, ...]
) -> None:
    for plant in plants:
        plant.breaks(recorded)
    result = check_dataset(recorded)
    assert places(result) == {plant.found for plant in plants}
    assert len(result.faults) == len(plants)
    assert result.summary is None
    assert all(fault.kind in KINDS for fault in result.faults)


@pytest.mark.parametrize("plants", [*((plant,) for plant in PLANTS), *sets(3, 20)], ids=named)
def test_the_reader_raises_the_first_fault(recorded: Path, plants: tuple[Plant, ...]) -> None:
    for plant in plants:
        plant.breaks(recorded)
    with pytest.raises(DataError) as caught:
        Dataset(recorded, extras=tuple(EXTRAS))
    # In whichever order: the same checks say the same words.
    assert str(caught.value) in {fault.message for fault in check_dataset(recorded).faults}


def test_faults_of_one_kind_in_many_places_are_all_named(recorded: Path) -> None:
    for row in (1, 6, 13, 17):
        value("action", row, float("nan"), 0)(recorded)
    value("observation.state", 6, float("nan"), 2)(recorded)
    for row in (0, 10):
        value("extra.pose", row, None, 0)(recorded)
    assert places(check_dataset(recorded)) == {
        ("value", DATA, 0, 1, "action"),
        ("value", DATA, 1, 1, "action"),
        ("value", DATA, 2, 3, "action"),
        ("value", DATA, 1, 1, "observation.state"),
        ("column", DATA, 0, 0, "extra.pose"),
        ("column", DATA, 1, 5, "extra.pose"),
    }


def test_every_entry_of_the_info_is_checked(recorded: Path) -> None:
    def change(info: Any) -> None:
        info["fps"] = -1
        info["total_frames"] = "many"
        info["features"]["action"]["shape"] = [2, 2]
        info["features"][SCENE]["shape"] = []
        info["data_path"] = "../{chunk_index}-{file_index}"

    edit_json(recorded / INFO, change)
    result = check_dataset(recorded)
    assert places(result) == {
        ("info", INFO, None, None, None),
        ("feature", INFO, None, None, "action"),
        ("feature", INFO, None, None, SCENE),
    }
    assert len(result.faults) == 5
    # Nothing else can be read without it, and that is said.
    assert result.left_out == (
        "specs", "episode table", "instructions", "statistics", "inferred specs", "values of the frames",
        "frames against their statistics", "extras", "videos",
    )  # fmt: skip


def test_files_are_checked_apart(tmp_path: Path) -> None:
    root = record(tmp_path / "set", varied([12] * 9), SMALL)
    files = sorted(path.relative_to(root).as_posix() for path in root.glob("data/*/*.parquet"))
    films = sorted(path.relative_to(root).as_posix() for path in root.glob(f"videos/{SCENE}/*/*.mp4"))
    assert len(files) > 2
    assert len(films) > 1
    cut(root / files[0], 0.5)
    (root / films[-1]).unlink()
    edit_column(root / files[-1], "action", set_value(1, float("nan"), 0))
    last = pq.read_table(root / files[-1]).column("episode_index").to_pylist()[1]
    assert places(check_dataset(root)) == {
        ("table", files[0], None, None, None),
        ("value", files[-1], last, 1, "action"),
        ("video", films[-1], None, None, SCENE),
    }


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0x10
    path.write_bytes(content)


def test_damage_inside_a_video_shows_when_it_is_decoded(recorded: Path) -> None:
    flip(recorded / video(SCENE), 0.4)
    assert check_dataset(recorded).faults == ()
    result = check_dataset(recorded, decode=True)
    assert {(f.kind, f.file, f.feature) for f in result.faults} == {("picture", video(SCENE), SCENE)}
    assert result.decoded


def test_a_picture_that_cannot_be_decoded_is_named(recorded: Path) -> None:
    """Bytes of one picture overwritten in the middle of its packet: the episode and the frame are found."""
    path = recorded / video(SCENE)
    sizes, places_of = packets(path)
    content = bytearray(path.read_bytes())
    start = places_of[7]  # frame 2 of episode 1
    content[start + 5 : start + sizes[7]] = b"\xff" * (sizes[7] - 5)
    path.write_bytes(content)
    found = check_dataset(recorded, decode=True).faults
    assert [(f.kind, f.file, f.episode, f.feature) for f in found] == [("picture", video(SCENE), 1, SCENE)]
    assert found[0].frame in (2, 3)  # some decoders notice at the next picture


def test_pictures_in_a_table_are_named_one_by_one(tmp_path: Path) -> None:
    wrist = "observation.images.wrist"
    root = with_pictures(
        foreign_set(tmp_path / "set", [4, 5], 10),
        lambda n: coded(Image.new("RGB", (5, 6), (n, 0, 9))),
        [6, 5, 3],
    )
    rebuild_stats(root)
    assert check_dataset(root, decode=True).faults == ()
    for row in (2, 6):
        edit_column(root / DATA, wrist, set_value(row, {"bytes": b"no picture", "path": None}))
    assert check_dataset(root).faults == ()
    assert places(check_dataset(root, decode=True)) == {
        ("picture", DATA, 0, 2, wrist),
        ("picture", DATA, 1, 2, wrist),
    }


def packets(path: Path) -> tuple[list[int], list[int]]:
    """Sizes and places of a video's packets."""
    import av

    with av.open(str(path)) as source:
        listed = [p for p in source.demux(source.streams.video[0]) if p.size]
        return [p.size for p in listed], [int(p.pos or 0) for p in listed]


@pytest.mark.parametrize("decode", [False, True])
def test_a_sound_dataset_has_no_fault_and_a_summary(recorded: Path, decode: bool) -> None:
    result = check_dataset(recorded, decode)
    assert (result.faults, result.left_out) == ((), ())
    summary = result.summary
    assert summary is not None
    assert (summary.episodes, summary.frames, summary.rate_hz) == (3, 18, 80)
    assert summary.hours == pytest.approx(18 / 80 / 3600)
    assert summary.cameras == {"scene": (16, 24), "gripper": (16, 16)}
    assert (summary.state, summary.action) == (OBSERVATION.state, ACTION.names)
    assert summary.tasks == {"task 0": 2, "task 1": 1}
    assert summary.successes == (2, 3)
    assert json.loads(json.dumps(result.to_json()))["sound"] is True


def test_a_sound_dataset_written_elsewhere_has_no_fault(recorded: Path) -> None:
    edit_json(recorded / INFO, lambda info: info.pop("wamkit"))
    table = pq.read_table(recorded / DATA)
    pq.write_table(
        table.drop_columns([n for n in table.column_names if n.startswith("extra.")]), recorded / DATA
    )

    def drop(info: Any) -> None:
        for name in EXTRAS:
            del info["features"][f"extra.{name}"]

    edit_json(recorded / INFO, drop)
    result = check_dataset(recorded, decode=True)
    assert result.faults == ()
    assert result.summary is not None
    assert result.summary.state == OBSERVATION.state


def test_clips_without_actions_are_sound_and_half_of_one_is_not(tmp_path: Path) -> None:
    items = [episode(6, 0), dataclasses.replace(episode(5, 1), action=None)]
    with DatasetWriter(tmp_path / "set", OBSERVATION, ACTION, extras=EXTRAS, actionless=True) as writer:
        for item in items:
            writer.add(item)
    assert check_dataset(tmp_path / "set").faults == ()
    edit_column(tmp_path / "set" / DATA, "has_action", set_value(8, True))
    assert places(check_dataset(tmp_path / "set")) == {("has_action", DATA, 1, 2, "has_action")}


def test_no_corruption_is_reported_sound_that_the_reader_refuses(original: Path, tmp_path: Path) -> None:
    """The reader and the check agree on 30 random corruptions, and the check never ends in another error."""
    for seed in range(30):
        broken = mutant(original, tmp_path / "mutant", random.Random(seed), tuple(CORRUPTIONS)).root
        try:
            Dataset(broken, extras=tuple(EXTRAS))
            refused = False
        except DataError:
            refused = True
        assert bool(check_dataset(broken).faults) == refused, seed


def test_a_fault_says_all_of_its_place_as_plain_values() -> None:
    fault = Fault("value", "text", "data/a.parquet", 1, 2, "action")
    assert fault.to_json() == {
        "kind": "value", "message": "text", "file": "data/a.parquet", "episode": 1, "frame": 2, "feature": "action",
    }  # fmt: skip
