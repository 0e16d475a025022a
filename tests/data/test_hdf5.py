"""Demonstrations in HDF5, as robomimic and LIBERO lay them out, become datasets."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import pictures

from wamkit.cli import main
from wamkit.contract.types import WindowSpec
from wamkit.data.conversion import Reading, convert_dataset
from wamkit.errors import DataError, MissingExtraError

LENGTHS = (4, 6, 3)
ORDER = ("demo_0", "demo_2", "demo_10")  # their text order is another one


def write_libero(path: Path, **attributes: Any) -> Path:
    """A file of three demonstrations with two cameras."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Kitchen", "env_kwargs": {"control_freq": 20}})
        data.attrs["problem_info"] = json.dumps({"language_instruction": "put the bowl on the plate"})
        for name, value in attributes.items():
            data.attrs[name] = value
        for seed, (name, length) in enumerate(zip(ORDER, LENGTHS, strict=True)):
            demo = data.create_group(name)
            demo["actions"] = rng.uniform(-1, 1, (length, 7))
            demo["rewards"] = np.eye(length, dtype=np.uint8)[-1] if seed != 1 else np.zeros(length, np.uint8)
            demo["dones"] = demo["rewards"][()]
            demo["states"] = rng.normal(size=(length, 5))
            demo["obs/ee_pos"] = rng.normal(size=(length, 3))
            demo["obs/gripper"] = rng.normal(size=(length, 1)).astype(np.float32)
            demo["obs/object"] = rng.normal(size=(length, 4))
            demo["obs/depth"] = rng.uniform(0, 2, (length, 6, 8, 1)).astype(np.float32)
            demo["obs/agentview_rgb"] = pictures(length, (32, 48), seed)
            demo["obs/wrist_rgb"] = pictures(length, (24, 24), seed + 5)
            demo["obs/states"] = np.full(length, seed)
            demo["next_obs/ee_pos"] = np.zeros((length, 3))
    return path


def edit(path: Path, change: Callable[[Any], Any]) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def test_every_array_of_every_demonstration_is_kept(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = write_libero(tmp_path / "demos.hdf5")
    made = convert_dataset(path, tmp_path / "set", progress=False)
    made = made.with_extras(("states", "obs.states", "object", "depth", "rewards", "dones"))
    assert (made.num_episodes, made.num_frames, made.fps) == (3, 13, 20.0)
    assert made.tasks == ("put the bowl on the plate",)
    assert made.observation_spec.state == ("ee_pos_0", "ee_pos_1", "ee_pos_2", "gripper")
    assert [episode.success for episode in made.episodes] == [True, False, True]
    seen = made.windows(np.arange(13), WindowSpec(horizon=1))
    with h5py.File(path) as file:
        demos = [file["data"][name] for name in ORDER]
        together = {
            n: np.concatenate([d[n][()] for d in demos])
            for n in ("actions", "states", "obs/object", "obs/depth")
        }
        np.testing.assert_array_equal(seen.action[:, 0], together["actions"].astype(np.float32))
        for name in ("states", "object", "depth"):
            truth = together.get(name, together.get(f"obs/{name}"))
            np.testing.assert_array_equal(made.extras[name], truth)
        np.testing.assert_array_equal(made.extras["obs.states"], np.repeat([0, 1, 2], LENGTHS))
        for name in ("agentview_rgb", "wrist_rgb"):
            truth = np.concatenate([d[f"obs/{name}"][()] for d in demos]).astype(int)
            got = seen.observation.images[name][:, 0].numpy().transpose(0, 2, 3, 1)
            assert np.abs(got - truth).mean() < 2


def test_also_as_v2_1_and_with_a_state_of_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_libero(tmp_path / "demos.hdf5")
    options = ["--to", "v2.1", "--state", "gripper,object", "--fps", "10", "--task", "tidy up"]
    assert main(["data", "convert", str(path), str(tmp_path / "set"), *options]) == 0
    assert "3 episodes, 13 frames" in capsys.readouterr().out
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert info["features"]["observation.state"]["names"] == ["gripper", *(f"object_{i}" for i in range(4))]
    assert "extra.ee_pos" in info["features"]
    assert (info["codebase_version"], info["fps"]) == ("v2.1", 10)
    assert json.loads((tmp_path / "set/meta/tasks.jsonl").read_text())["task"] == "tidy up"


def replace(file: Any, name: str, values: Any) -> None:
    del file[name]
    if values is not None:
        file[name] = values


def nan(file: Any) -> None:
    file["data/demo_2/actions"][3, 5] = np.nan


def each(file: Any, change: Callable[[Any, int], Any]) -> None:
    for name, length in zip(ORDER, LENGTHS, strict=True):
        change(file["data"][name], length)


def link(file: Any) -> None:
    h5py = pytest.importorskip("h5py")
    file["data"]["demo_11"] = h5py.SoftLink("/nowhere")


def empty(file: Any) -> None:
    demo, names = file["data/demo_2"], list[str]()
    demo.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
    for name in names:
        replace(demo, name, demo[name][:0])


BROKEN: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "no observations": (
        lambda f: replace(f, "data/demo_2/obs", None),
        ("data/demo_2", "episode 1", "no group 'obs'"),
    ),
    "no actions": (
        lambda f: replace(f, "data/demo_10/actions", None),
        ("data/demo_10", "no array 'actions'"),
    ),
    "actions that are text": (
        lambda f: replace(f, "data/demo_0/actions", ["a", "b", "c", "d"]),
        ("data/demo_0", "'actions'", "no numbers"),
    ),
    "actions without width": (
        lambda f: [replace(f, f"data/{n}/actions", np.zeros(k)) for n, k in zip(ORDER, LENGTHS, strict=True)],
        ("data/demo_0", "'actions'", "(T, A)"),
    ),
    "a key that one lacks": (
        lambda f: replace(f, "data/demo_2/obs/gripper", None),
        ("data/demo_2", "obs/gripper", "no such array"),
    ),
    "another shape": (
        lambda f: replace(f, "data/demo_2/obs/ee_pos", np.zeros((6, 2))),
        ("data/demo_2", "obs/ee_pos", "[2]", "[3]"),
    ),
    "another type": (
        lambda f: replace(f, "data/demo_2/obs/ee_pos", np.zeros((6, 3), np.float32)),
        ("data/demo_2", "obs/ee_pos", "float32", "float64"),
    ),
    "too few rows": (
        lambda f: replace(f, "data/demo_2/obs/ee_pos", np.zeros((5, 3))),
        ("data/demo_2", "obs/ee_pos", "5 rows", "has 6"),
    ),
    "not a number": (nan, ("data/demo_2", "episode 1", "frame 3", "entry 5")),
    "no demonstrations": (lambda f: replace(f, "data", None), ("group 'data'",)),
    "no rate": (lambda f: f["data"].attrs.pop("env_args"), ("control_freq", "--fps")),
    "no instruction": (lambda f: f["data"].attrs.pop("problem_info"), ("no instruction", "--task")),
    "a link that leads nowhere": (link, ("data/demo_11", "episode 3", "cannot be read")),
    "no rows": (empty, ("data/demo_2", "episode 1", "'actions'", "no rows")),
    "two arrays of one name": (
        lambda f: each(f, lambda demo, n: [demo.__setitem__(k, np.zeros((n, 2))) for k in ("a/b", "a.b")]),
        ("data/demo_0", "'a.b' and 'a/b'"),
    ),
    "two cameras of one name": (
        lambda f: each(
            f,
            lambda demo, n: [demo.__setitem__(f"obs/{k}", pictures(n, (24, 24), 0)) for k in ("a/b", "a.b")],
        ),
        ("data/demo_0", "'obs/a.b' and 'obs/a/b'"),
    ),
    "no width": (
        lambda f: each(f, lambda demo, n: replace(demo, "actions", np.zeros((n, 0)))),
        ("no dataset can be made",),
    ),
    "too large for float32": (
        lambda f: each(f, lambda demo, n: replace(demo, "obs/ee_pos", np.full((n, 3), 1e300))),
        ("data/demo_0", "episode 0", "frame 0", "'ee_pos_0' is inf"),
    ),
    "not JSON": (lambda f: f["data"].attrs.modify("env_args", "{"), ("env_args", "not JSON")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_by_place_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    change, words = BROKEN[name]
    path = edit(write_libero(tmp_path / "demos.hdf5"), change)
    with pytest.raises(DataError) as caught:
        convert_dataset(path, tmp_path / "set", progress=False)
    for word in ("demos.hdf5", *words):
        assert word in str(caught.value)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["demos.hdf5"]


def first_to_last(demo: Any, name: str) -> None:
    replace(demo, name, demo[name][()].transpose(0, 3, 1, 2))


def test_pictures_with_channels_first_and_numbers_of_another_byte_order(tmp_path: Path) -> None:
    plain = convert_dataset(write_libero(tmp_path / "a.hdf5"), tmp_path / "a", progress=False)

    def change(demo: Any, length: int) -> None:
        first_to_last(demo, "obs/agentview_rgb")
        for name in ("actions", "states", "obs/ee_pos"):
            replace(demo, name, demo[name][()].astype(">f8"))

    path = edit(write_libero(tmp_path / "b.hdf5"), lambda file: each(file, change))
    made = convert_dataset(path, tmp_path / "b", progress=False)
    assert list(made.observation_spec.cameras) == ["agentview_rgb", "wrist_rgb"]
    for camera in made.observation_spec.cameras:
        np.testing.assert_array_equal(made.frames.all(camera), plain.frames.all(camera))
    np.testing.assert_array_equal(made.action, plain.action)
    np.testing.assert_array_equal(made.state, plain.state)
    extras = [data.with_extras(("states",)).extras["states"] for data in (made, plain)]
    np.testing.assert_array_equal(*extras)


def test_what_is_no_camera_or_no_column_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def change(demo: Any, length: int) -> None:
        replace(demo, "obs/agentview_rgb", demo["obs/agentview_rgb"][()] / 255)
        demo["seed"], demo["model"] = 5, "<xml/>"

    path = edit(write_libero(tmp_path / "demos.hdf5"), lambda file: each(file, change))
    with caplog.at_level(logging.WARNING):
        made = convert_dataset(path, tmp_path / "set", progress=False)
    assert list(made.observation_spec.cameras) == ["wrist_rgb"]
    assert "'obs/agentview_rgb' has the form of pictures" in caplog.text
    assert "model, seed" in caplog.text


@pytest.mark.parametrize(
    ("said", "meant"), [('"put it"', "put it"), ('say "hi"', 'say "hi"'), ('"a" and "b"', '"a" and "b"')]
)
def test_quotes_around_an_instruction_are_none_of_it(tmp_path: Path, said: str, meant: str) -> None:
    path = write_libero(tmp_path / "demos.hdf5", problem_info=json.dumps({"language_instruction": said}))
    assert convert_dataset(path, tmp_path / "set", progress=False).tasks == (meant,)


@pytest.mark.parametrize(
    ("reading", "word"),
    [
        (Reading(fps=float("nan")), "a rate of nan Hz"),
        (Reading(fps=0), "a rate of 0 Hz"),
        (Reading(state=("gripper", "gripper")), "state 'gripper' is named twice"),
    ],
)
def test_an_option_that_cannot_be_is_named(tmp_path: Path, reading: Reading, word: str) -> None:
    path = write_libero(tmp_path / "demos.hdf5")
    with pytest.raises(DataError, match=word):
        convert_dataset(path, tmp_path / "set", reading=reading, progress=False)


def test_a_state_that_is_not_there_and_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = write_libero(tmp_path / "demos.hdf5")
    with pytest.raises(DataError, match=r"state 'elbow'.*ee_pos, gripper, object"):
        convert_dataset(path, tmp_path / "set", reading=Reading(state=("elbow",)), progress=False)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        convert_dataset(path, tmp_path / "set", progress=False)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.hdf5").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"wamkit\[hdf5\]"):
        convert_dataset(tmp_path / "a.hdf5", tmp_path / "set", progress=False)
