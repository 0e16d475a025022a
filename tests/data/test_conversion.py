"""Conversion keeps every value and every picture, and leaves nothing half written."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from films import edit_info
from foreign import EXTRAS, SCENE, STILL, WRIST, Take, encode, take, write_new, write_old
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import EXTRAS as OWN_EXTRAS
from recordings import SMALL, record, varied

from wamkit.cli import main
from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset
from wamkit.data.conversion import convert_dataset, jobs
from wamkit.errors import BusyError, DataError
from wamkit.storage import claim

CAMERAS = st.lists(st.sampled_from((SCENE, WRIST, STILL)), unique=True, max_size=3)
TAKES = st.builds(
    lambda lengths, cameras, extras, tasks: [
        take(n, seed, cameras, extras, f"do {tasks[seed % len(tasks)]}") for seed, n in enumerate(lengths)
    ],
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    CAMERAS,
    st.lists(st.sampled_from(sorted(EXTRAS)), unique=True),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=6),
        min_size=1,
        max_size=3,
    ),
)


def decoded(path: Path) -> np.ndarray:
    """All pictures of a file, as FFmpeg decodes them from its start."""
    with av.open(str(path)) as source:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)])


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def require_same(one: Path, other: Path) -> None:
    """Two v2.1 datasets hold the same values, types and decoded pictures, under the same names."""
    files = [
        sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
        for root in (one, other)
    ]
    assert files[0] == files[1]
    for name in files[0]:
        here, there = one / name, other / name
        match here.suffix:
            case ".parquet":
                tables = pq.read_table(here), pq.read_table(there)
                assert tables[0].schema.equals(tables[1].schema)
                assert tables[0].equals(tables[1])
            case ".mp4":
                np.testing.assert_array_equal(decoded(here), decoded(there))
            case ".jsonl" if "stats" not in name:
                assert lines(here) == lines(there)
    assert json.loads((one / "meta/info.json").read_text()) == json.loads(
        (other / "meta/info.json").read_text()
    )


def require_same_stats(root: Path, wanted: list[Take]) -> None:
    """``episodes_stats.jsonl`` has the statistics of every episode's numbers."""
    for row, one in zip(lines(root / "meta/episodes_stats.jsonl"), wanted, strict=True):
        for name, values in one.columns.items():
            if values.dtype.kind != "U" and values.ndim <= 2:
                np.testing.assert_allclose(
                    row["stats"][name]["mean"], values.astype(float).mean(0), atol=1e-9
                )
                assert row["stats"][name]["count"] == [len(one)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wanted=TAKES, frames_b=st.sampled_from(("0", "2")), per_chunk=st.integers(1, 3))
def test_there_and_back_nothing_has_changed(wanted: list[Take], frames_b: str, per_chunk: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_old(root / "a", wanted, chunks_size=per_chunk)
        for one, path in zip(wanted, sorted((root / "a").glob(f"videos/*/{SCENE}/*.mp4")), strict=False):
            encode(path, one.pictures[SCENE], bf=frames_b, g="4")
        convert_dataset(root / "a", root / "b", progress=False)
        convert_dataset(root / "b", root / "c", "v2.1", progress=False)
        require_same(root / "a", root / "c")
        require_same_stats(root / "c", wanted)
        assert json.loads((root / "b/meta/info.json").read_text())["codebase_version"] == "v3.0"


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_from_v3_every_picture_is_the_same(tmp_path: Path, codec: str) -> None:
    camera = WRIST if codec == "libsvtav1" else SCENE
    wanted = [take(n, seed, (camera,), tuple(EXTRAS)) for seed, n in enumerate((4, 7, 3))]
    write_new(tmp_path / "a", wanted, codec=codec)
    convert_dataset(tmp_path / "a", tmp_path / "b", "v2.1", progress=False)
    convert_dataset(tmp_path / "b", tmp_path / "c", "v3.0", progress=False)
    sides = [Dataset(tmp_path / name, extras=("next.done", "pose")) for name in "abc"]
    seen = [d.windows(np.arange(14), WindowSpec(horizon=1)).observation for d in sides]
    for other in seen[1:]:
        for name, images in seen[0].images.items():
            np.testing.assert_array_equal(images, other.images[name])
        for name, values in seen[0].extras.items():
            np.testing.assert_array_equal(values, other.extras[name])
        assert other.task == seen[0].task
    whole = np.concatenate([decoded(p) for p in sorted((tmp_path / "a/videos").rglob("*.mp4"))])
    parts = np.concatenate([decoded(p) for p in sorted((tmp_path / "b/videos").rglob("*.mp4"))])
    np.testing.assert_array_equal(whole, parts)


def test_what_wamkit_recorded_keeps_specs_outcomes_and_digests(tmp_path: Path) -> None:
    root = record(tmp_path / "a", varied([5, 9, 4, 7]), SMALL)
    convert_dataset(root, tmp_path / "b", "v2.1", progress=False)
    convert_dataset(tmp_path / "b", tmp_path / "c", progress=False)
    one, other, third = (Dataset(tmp_path / name, extras=tuple(OWN_EXTRAS)) for name in "abc")
    assert one.action_spec == other.action_spec == third.action_spec
    assert one.observation_spec == other.observation_spec == third.observation_spec
    assert (
        [e.success for e in one.episodes]
        == [e.success for e in other.episodes]
        == [e.success for e in third.episodes]
    )
    for name in OWN_EXTRAS:
        np.testing.assert_array_equal(one.extras[name], third.extras[name])
    for key, stats in one.stats.items():
        # A recording measures its pictures before they are encoded, a conversion those that are read.
        slack = 0.02 if "images" in key else 0
        np.testing.assert_allclose(stats.mean, third.stats[key].mean, rtol=0, atol=slack)
        np.testing.assert_allclose(stats.q99, third.stats[key].q99, rtol=0, atol=slack)
    assert set(third.info["wamkit"]) == set(one.info["wamkit"])
    film = next((tmp_path / "c/videos").rglob("*.mp4"))
    film.write_bytes(film.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="the bytes are not those that were recorded"):
        Dataset(tmp_path / "c").windows(np.arange(25), WindowSpec(horizon=1))


def test_from_v2_0_and_what_lines_hold_beyond(tmp_path: Path) -> None:
    wanted = [take(3, 0), take(4, 1), take(2, 2)]
    for number, one in enumerate(wanted):
        one.further.update(operator=f"nr {number}", success=number != 1)
    write_old(tmp_path / "a", wanted, "v2.0")
    (tmp_path / "a/meta/modality.json").write_text(json.dumps({"state": {"all": {"start": 0, "end": 3}}}))
    made = convert_dataset(tmp_path / "a", tmp_path / "b", progress=False)
    assert [e.success for e in made.episodes] == [True, False, True]
    assert made.observation_spec.state == ("all_0", "all_1", "all_2")
    convert_dataset(tmp_path / "b", tmp_path / "c", "v2.1", progress=False)
    assert lines(tmp_path / "c/meta/episodes.jsonl") == lines(tmp_path / "a/meta/episodes.jsonl")
    convert_dataset(tmp_path / "a", tmp_path / "d", "v2.1", progress=False)
    assert Dataset(tmp_path / "d").num_frames == 9


def test_files_of_another_coding_begin_a_new_file(tmp_path: Path) -> None:
    wanted = [take(4, seed) for seed in range(3)]
    root = write_old(tmp_path / "a", wanted)
    film = sorted(root.glob("videos/*/*/*.mp4"))[1]
    encode(film, wanted[1].pictures[SCENE], bf="0", profile="baseline")
    before = Dataset(root).windows(np.arange(12), WindowSpec(horizon=1)).observation.images["scene"]
    made = convert_dataset(root, tmp_path / "b", progress=False)
    np.testing.assert_array_equal(
        made.windows(np.arange(12), WindowSpec(horizon=1)).observation.images["scene"], before
    )
    assert len(list((tmp_path / "b/videos").rglob("*.mp4"))) == 3


# ------------------------------------------------------------------------------------------ cuts


def uncut(root: Path) -> list[Take]:
    """Two episodes of v3.0 in one file with a single key frame."""
    wanted = [take(5, 0), take(6, 1)]
    write_new(root, wanted)
    film = next(root.rglob("*.mp4"))
    encode(film, np.concatenate([one.pictures[SCENE] for one in wanted]), g="100", bf="0", sc_threshold="0")
    return wanted


def test_a_cut_between_key_frames_is_refused_before_any_work(tmp_path: Path) -> None:
    uncut(tmp_path / "a")
    with pytest.raises(DataError, match=r"episode 1, camera .*no key frame.*--reencode"):
        convert_dataset(tmp_path / "a", tmp_path / "b", "v2.1", progress=False)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["a"]


def test_such_an_episode_alone_is_encoded_anew_when_asked(tmp_path: Path) -> None:
    uncut(tmp_path / "a")
    before = decoded(next((tmp_path / "a").rglob("*.mp4"))).astype(int)
    convert_dataset(tmp_path / "a", tmp_path / "b", "v2.1", reencode=True, progress=False)
    first, second = (decoded(path).astype(int) for path in sorted((tmp_path / "b").rglob("*.mp4")))
    np.testing.assert_array_equal(first, before[:5])
    assert 0 < np.abs(second - before[5:]).mean() < 3


# ------------------------------------------------------------------------------ all or nothing


def there(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("."))


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    write_old(tmp_path / "a", [take(3, 0, ())])
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="b exists"):
        convert_dataset(tmp_path / "a", tmp_path / "b", progress=False)
    with pytest.raises(DataError, match=r"in the layout v2\.1 already"):
        convert_dataset(tmp_path / "a", tmp_path / "c", "v2.1", progress=False)
    with pytest.raises(DataError, match=r"'v2\.9' cannot be written"):
        convert_dataset(tmp_path / "a", tmp_path / "c", "v2.9", progress=False)
    with pytest.raises(DataError, match="lies inside"):
        convert_dataset(tmp_path / "a", tmp_path / "a/data/c", progress=False)
    with claim(tmp_path / "c"), pytest.raises(BusyError):
        convert_dataset(tmp_path / "a", tmp_path / "c", progress=False)
    assert there(tmp_path) == ["a", "b"]


def test_a_stopped_conversion_goes_on_and_writes_no_file_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_old(tmp_path / "a", [take(3, seed) for seed in range(4)])
    write_new(tmp_path / "n", [take(3, seed) for seed in range(4)])
    whole = convert_dataset(tmp_path / "n", tmp_path / "whole", "v2.1", progress=False)
    done: list[str] = []
    run = jobs.run

    def stopping(source: Any, job: jobs.Job, *rest: Any) -> None:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(job.path)
        run(source, job, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "run", stopping)
        with pytest.raises(KeyboardInterrupt):
            convert_dataset(tmp_path / "n", tmp_path / "b", "v2.1", progress=False)
        assert not (tmp_path / "b").exists()
        done.append("the second part begins")
        convert_dataset(tmp_path / "n", tmp_path / "b", "v2.1", progress=False)
    names = [name for name in done if name.startswith(("data", "videos"))]
    assert len(names) == len(set(names)) == 8
    require_same(tmp_path / "whole", tmp_path / "b")
    assert whole.num_frames == 12
    assert not list((tmp_path / "b").rglob("*conversion*"))


def test_unfinished_work_of_another_source_is_discarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_new(tmp_path / "n", [take(3, seed) for seed in range(4)])
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "result_file", lambda root, number: 1 / 0)
        with contextlib.suppress(ZeroDivisionError):
            convert_dataset(tmp_path / "n", tmp_path / "b", "v2.1", progress=False)
    assert (tmp_path / "b.partial/meta/conversion.json").is_file()
    shutil.rmtree(tmp_path / "n")
    write_new(tmp_path / "n", [take(4, seed) for seed in range(2)])
    assert convert_dataset(tmp_path / "n", tmp_path / "b", "v2.1", progress=False).num_frames == 8
    assert len(list((tmp_path / "b").rglob("*.mp4"))) == 2


@pytest.mark.whole
@pytest.mark.parametrize("job", [1, 4, 7])
def test_after_a_kill_the_same_command_goes_on(tmp_path: Path, job: int) -> None:
    write_new(tmp_path / "n", [take(3, seed) for seed in range(4)])
    convert_dataset(tmp_path / "n", tmp_path / "whole", "v2.1", progress=False)
    command = ["data", "convert", str(tmp_path / "n"), str(tmp_path / "b"), "--to", "v2.1"]
    code = (
        "import os, signal, sys\nfrom wamkit.data.conversion import jobs\nfrom wamkit.cli import main\n"
        "replace, left = os.replace, [0]\n"
        "def counted(*names):\n"
        "    replace(*names)\n"
        f"    left[0] += str(names[0]).endswith('.unfinished')\n"
        f"    left[0] > {job} and os.kill(os.getpid(), signal.SIGKILL)\n"
        f"jobs.os.replace = counted\nmain({command!r})"
    )
    died = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    assert not (tmp_path / "b").exists()
    assert main(command) == 0
    require_same(tmp_path / "whole", tmp_path / "b")


def test_a_fault_found_half_way_leaves_nothing(tmp_path: Path) -> None:
    """The last episode's table has another type; what was written before it is removed."""
    root = write_old(tmp_path / "a", [take(3, seed, (), ("pose",)) for seed in range(3)])
    path = sorted(root.glob("data/*/*.parquet"))[2]
    table = pq.read_table(path)
    place = table.column_names.index("pose")
    pq.write_table(
        table.set_column(place, "pose", table.column("pose").cast(pa.list_(pa.float32(), 2))), path
    )
    with pytest.raises(DataError, match="episode 2, feature 'pose'"):
        convert_dataset(root, tmp_path / "b", progress=False)
    assert there(tmp_path) == ["a"]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_old(tmp_path / "a", [take(3, 0)])
    assert main(["data", "convert", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "1 episodes, 3 frames" in capsys.readouterr().out
    assert main(["data", "convert", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["data"]) == 2
    assert "data convert" in capsys.readouterr().err
    assert main(["data", "convert", str(tmp_path / "nothing"), str(tmp_path / "c")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change", [{"info": {"video.is_depth_map": True}}, {"shape": [64, 32, 1]}], ids=["depth", "grey"]
)
def test_cameras_that_are_not_read_are_copied_too(tmp_path: Path, change: dict[str, Any]) -> None:
    root = write_old(tmp_path / "a", [take(n, seed, (SCENE, WRIST)) for seed, n in enumerate((3, 5))])
    edit_info(root, lambda info: info["features"][WRIST].update(change))
    convert_dataset(root, tmp_path / "b", progress=False)
    convert_dataset(tmp_path / "b", tmp_path / "c", "v2.1", progress=False)
    require_same(root, tmp_path / "c")
    assert WRIST not in json.loads((tmp_path / "b/meta/stats.json").read_text())
    next((tmp_path / "b/videos" / WRIST).rglob("*.mp4")).unlink()
    with pytest.raises(DataError, match=f"episode 0, camera '{WRIST}'.*missing"):
        convert_dataset(tmp_path / "b", tmp_path / "d", "v2.1", progress=False)
