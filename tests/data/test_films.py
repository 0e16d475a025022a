"""Frame k of a dataset is read as picture k of its video, or not at all."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from films import FILM, KEY, SIDE, draw, edit_episodes, edit_info, foreign_set, numbers_in, seen, shoot
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from wamkit.data import Dataset, rebuild_stats
from wamkit.errors import DataError

RATES = (10, 12.5, 29.97, 30, 80)
LENGTHS = ((3, 5, 4), (7, 3), (6,))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[int, ...], float], Path]:
    """Copies of datasets that are recorded once each."""
    folder, made = tmp_path_factory.mktemp("films"), itertools.count()

    @lru_cache
    def recorded(lengths: tuple[int, ...], rate: float) -> Path:
        return foreign_set(folder / f"set {lengths} {rate}", lengths, rate)

    return lambda lengths, rate: Path(shutil.copytree(recorded(lengths, rate), folder / f"copy {next(made)}"))


def outcome(root: Path, memory: float) -> list[int] | None:
    try:
        return seen(root, memory)
    except DataError:
        return None


@st.composite
def faults(draw_from: st.DrawFn) -> tuple[str, float, int]:
    """Kind, size in frames, and place."""
    kinds = ["none", "offset", "rate", "jitter", "drop", "drop closed", "double", "double closed", "between"]
    kinds += ["from", "to", "span", "swap"]
    size = draw_from(st.sampled_from([-3, -2, -1, -0.6, -0.5, -0.39, -0.2, -0.02]).map(lambda x: -x))
    return (
        draw_from(st.sampled_from(kinds)),
        size * draw_from(st.sampled_from([-1, 1])),
        draw_from(st.integers(0, 20)),
    )


def film_with(fault: tuple[str, float, int], total: int, rate: float) -> tuple[list[int], list[float]]:
    """Numbers and times of a video in which one thing is wrong."""
    kind, size, place = fault
    place %= total
    shown = [(number, number / rate) for number in range(total)]
    if kind == "offset":
        shown = [(n, t + size / rate) for n, t in shown]
    elif kind == "rate":
        shown = [(n, t * (1 + size / 100)) for n, t in shown]
    elif kind == "jitter":
        shown = [(n, t + min(abs(size), 0.45) * (-1) ** n / rate) for n, t in shown]
    elif kind == "drop":
        del shown[place]
    elif kind in ("drop closed", "double closed"):
        numbers = list(range(total))
        numbers[place : place + 1] = [] if kind == "drop closed" else [place, place]
        shown = [(n, k / rate) for k, n in enumerate(numbers)]
    elif kind == "double":
        shown.insert(place, (place, max(0, place - 0.5) / rate))
    elif kind == "between":
        shown.insert(place + 1, (place + 100, (place + 0.3) / rate))
    shown = [(n, round(t * 90_000)) for n, t in shown]
    shift = -min(0, min(t for _, t in shown)) if kind == "jitter" else 0
    return [n for n, _ in shown], [(t + shift) / 90_000 for _, t in shown]


def spoil_table(root: Path, fault: tuple[str, float, int], rate: float) -> None:
    kind, size, place = fault

    def move(values: list[float]) -> list[float]:
        values[place % len(values)] += size / rate
        return values

    if kind in ("from", "span"):
        edit_episodes(root, "from_timestamp", move)
    if kind in ("to", "span"):
        edit_episodes(root, "to_timestamp", move)
    if kind == "swap":
        for column in ("from_timestamp", "to_timestamp"):
            edit_episodes(root, column, lambda values: values[1:] + values[:1])


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.sampled_from(LENGTHS),
    st.sampled_from(RATES),
    faults(),
    st.sampled_from([4.0, 1e-6]),
    st.sampled_from(["0", "2"]),
)
def test_never_another_picture(
    sets: Callable[[tuple[int, ...], float], Path],
    lengths: tuple[int, ...],
    rate: float,
    fault: tuple[str, float, int],
    memory: float,
    bframes: str,
) -> None:
    total = sum(lengths)
    numbers, times = film_with(fault, total, rate)
    assume(len(set(times)) == len(times))  # the encoder refuses two pictures of one time
    root = sets(lengths, rate)
    shoot(root / FILM, numbers, times, bf=bframes)
    spoil_table(root, fault, rate)
    got = outcome(root, memory)
    event(f"{fault[0]}: {'refused' if got is None else 'read'}")
    assert got is None or got == list(range(total))
    sliver = fault[0] in ("jitter", "from", "to") and abs(fault[1]) < 0.3
    if (
        fault[0] == "none" or sliver or (fault[0] == "offset" and 0 < fault[1] < 0.3)
    ):  # mp4 cuts what is before 0 s
        assert got is not None, "slivers of a frame are no fault"


@pytest.mark.parametrize("rate", RATES)
def test_a_span_off_by_up_to_0_4_frames_is_read(tmp_path: Path, rate: float) -> None:
    root = foreign_set(tmp_path / "set", [4, 5, 3], rate)
    edit_episodes(root, "from_timestamp", lambda v: [v[0], v[1] + 0.35 / rate, v[2] - 0.35 / rate])
    assert seen(root) == list(range(12))
    edit_episodes(root, "from_timestamp", lambda v: [v[0], v[1] + 0.1 / rate, v[2] + 0.35 / rate])
    with pytest.raises(DataError, match=r"episode 1, camera 'scene'.* 0\.45 frames off"):
        seen(root)


def test_a_long_video_at_30000_1001_called_29_97(tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set", [900, 900], 30000 / 1001)
    edit_info(root, lambda info: info.update(fps=29.97))
    rebuild_stats(root)
    assert seen(root) == list(range(1800))


def test_a_wrong_rate_is_named_and_the_advice_leads_out(tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set", [20], 10)
    shoot(root / FILM, range(20), [k / 10.4 for k in range(20)])
    edit_episodes(root, "to_timestamp", lambda _: [2.0])
    with pytest.raises(DataError, match="too few"):
        seen(root)
    shoot(root / FILM, range(21), [k / 10.4 for k in range(21)])
    with pytest.raises(DataError, match=r"10\.4000 pictures per second.*fps is 10 in info\.json: correct it"):
        seen(root)
    shoot(root / FILM, range(20), [k / 10 for k in range(20)])  # encoded again at 10 Hz
    assert seen(root) == list(range(20))


@pytest.mark.parametrize(
    "mux", [{}, {"movflags": "faststart"}, {"use_editlist": "0"}, {"movflags": "frag_keyframe"}]
)
@pytest.mark.parametrize("bframes", ["0", "3"])
@pytest.mark.parametrize("memory", [4.0, 1e-6])
def test_containers(tmp_path: Path, mux: dict[str, str], bframes: str, memory: float) -> None:
    root = foreign_set(tmp_path / "set", [6, 7], 10)
    shoot(root / FILM, range(13), [k / 10 for k in range(13)], mux=mux, bf=bframes, g="7")
    got = outcome(root, memory)
    assert got is None or got == list(range(13))
    if bframes == "0" or mux in ({}, {"movflags": "faststart"}):  # others have no edit list and begin late
        assert got is not None


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4", "mjpeg", "ffv1"])
def test_codecs(tmp_path: Path, codec: str) -> None:
    pixels = {"mjpeg": "yuvj420p", "ffv1": "bgr0", "libx264": "yuv420p"}.get(codec, "yuv420p")
    root = foreign_set(tmp_path / "set", [6, 7], 10)
    film, side = root / FILM, 64
    try:
        shoot(
            film.with_suffix(".mkv" if codec == "ffv1" else ".mp4"),
            range(13),
            [k / 10 for k in range(13)],
            codec,
            pixels,
            picture=lambda n: np.kron(draw(n), np.ones((side // SIDE, side // SIDE, 1), np.uint8)),
            **({"strict": "unofficial"} if codec == "mjpeg" else {}),
        )
    except (ValueError, OSError) as error:
        pytest.skip(f"this build of FFmpeg has no {codec}: {error}")
    if codec == "ffv1":
        os.replace(film.with_suffix(".mkv"), film)
    edit_info(root, lambda info: info["features"][KEY].update(shape=[side, side, 3]))
    for memory in (4.0, 1e-6):
        data = Dataset(root, image_memory_gb=memory)
        images = data.frames.take("scene", np.array([12, 3, 3, 0, 7, 5]))
        assert numbers_in(images[:, :, ::4, ::4]) == [12, 3, 3, 0, 7, 5]


@pytest.mark.parametrize(
    ("codec", "pixels", "words"),
    [
        ("libx264", "yuv420p10le", ("10 bits", "is_depth_map", "8 bits")),
        ("libx265", "yuv444p12le", ("12 bits",)),
        ("ffv1", "gray16le", ("16 bits",)),
        ("ffv1", "gray10le", ("10 bits",)),
        ("ffv1", "yuva420p", ("alpha",)),
        ("ffv1", "gbrp16le", ("16 bits",)),
    ],
)
def test_pixels_that_8_bit_rgb_cannot_hold(
    tmp_path: Path, codec: str, pixels: str, words: tuple[str, ...]
) -> None:
    root = foreign_set(tmp_path / "set", [6, 7], 10)
    film = root / FILM
    shoot(film.with_suffix(".mkv"), range(13), [k / 10 for k in range(13)], codec, pixels)
    os.replace(film.with_suffix(".mkv"), film)
    with pytest.raises(DataError) as caught:
        Dataset(root)
    for word in (FILM, "'scene'", pixels, *words):
        assert word in str(caught.value)
    # What the message advises for a depth camera.
    edit_info(
        root, lambda info: info["features"][KEY].setdefault("info", {}).update({"video.is_depth_map": True})
    )
    assert Dataset(root).observation_spec.cameras == {}


def test_grey_video_is_read_as_grey(tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set", [6, 7], 10)
    film = root / FILM
    shoot(film.with_suffix(".mkv"), range(13), [k / 10 for k in range(13)], "ffv1", "gray")
    os.replace(film.with_suffix(".mkv"), film)
    assert seen(root) == list(range(13))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [SIDE, SIDE, 1]}, "a picture of 1 channel"),
        ({"shape": [1, SIDE, SIDE], "names": ["channels", "height", "width"]}, "a picture of 1 channel"),
        ({"shape": [SIDE, SIDE, 4]}, "a picture of 4 channels"),
        ({"shape": [SIDE, SIDE]}, "a picture of 1 channel"),
        ({"info": {"video.is_depth_map": True}}, "a depth map"),
    ],
)
def test_what_is_declared_as_no_rgb_camera_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, object], told: str
) -> None:
    root = foreign_set(tmp_path / "set", [4], 10)
    edit_info(root, lambda info: info["features"][KEY].update(change))
    rebuild_stats(root)
    assert Dataset(root).observation_spec.cameras == {}
    assert f"{KEY!r} is {told}" in caplog.text


def test_pictures_of_an_episode_that_is_not_in_the_table_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = foreign_set(tmp_path / "set", [4, 5], 10)
    shoot(root / FILM, range(14), [k / 10 for k in range(14)])
    assert seen(root) == list(range(9))
    shoot(root / FILM, range(12), [k / 10 for k in range(12)])
    with pytest.raises(DataError, match=r"3 pictures from 0\.900 s on belong to no episode"):
        seen(root)


def test_beyond_memory_is_said_once_and_the_advice_leads_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = foreign_set(tmp_path / "set", [9, 8], 10)
    data = Dataset(root, image_memory_gb=1e-6)
    whole = Dataset(root)
    rng = np.random.default_rng(0)
    for _ in range(20):
        index = rng.integers(0, 17, (3, 2))
        np.testing.assert_array_equal(data.frames.take("scene", index), whole.frames.take("scene", index))
    (line,) = [r.getMessage() for r in caplog.records if "image_memory_gb" in r.getMessage()]
    advised = float(line.split("set image_memory_gb to ")[1].rstrip("."))
    assert Dataset(root, image_memory_gb=advised).frames.in_memory
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(DataError, match="image_memory_gb"):
            Dataset(root, image_memory_gb=wrong)


def test_some_frames_are_kept_beyond_memory(tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set", [9, 8], 10)
    data = Dataset(root, image_memory_gb=(8 * 3 * SIDE * SIDE) / 1024**3)
    for _ in range(3):
        for index in (np.arange(17), np.arange(16, -1, -1), np.array([5])):
            assert numbers_in(data.frames.take("scene", index)) == index.tolist()
