"""Extras follow their camera: maps, points and lenses stay aligned with the picture, or are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.geometry.cameras import project
from wamkit.views import View, ViewConfig

ACTION = ActionSpec(("x",), (-1.0,), (1.0,), 10.0, mode="absolute")
SIDES = st.integers(2, 70)
FITS = st.sampled_from(("letterbox", "crop", "stretch"))


def view(front: tuple[int, int] = (48, 64), wrist: tuple[int, int] = (40, 40), **fields: Any) -> View:
    cameras = {"front": CameraSpec(*front), "wrist": CameraSpec(*wrist)}
    return View(ViewConfig(**fields), ObservationSpec(cameras, ("x",), 10.0), ACTION)


def observation(view: View, front: Tensor, extras: dict[str, Tensor], **more: Any) -> Observation:
    """One step with ``front`` (3, h, w) uint8, a black wrist picture, and extras of one step."""
    cameras = view.recorded[0].cameras
    wrist = torch.zeros(1, 1, 3, cameras["wrist"].height, cameras["wrist"].width, dtype=torch.uint8)
    images = {"front": front[None, None], "wrist": wrist}
    shown = {name: value[None, None] for name, value in extras.items()}
    pad = torch.zeros(1, 1, dtype=torch.bool)
    return Observation(images, torch.zeros(1, 1, 1), ("",), pad, shown, **more)


@settings(max_examples=120, deadline=None)
@given(source=st.tuples(SIDES, SIDES), target=st.tuples(SIDES, SIDES), fit=FITS)
def test_a_map_painted_as_the_picture_stays_aligned(source: Any, target: Any, fit: Any) -> None:
    """A ramp along each axis: the mean over a pixel's area is the value at its centre, which the nearest one holds."""
    seen = view(source, cameras={"scene": "front"}, size=target, fit=fit)
    rows, columns = np.mgrid[0 : source[0], 0 : source[1]]
    ramps = torch.from_numpy(
        np.stack([50 + 2 * rows, 50 + 2 * columns, 50 + rows + columns]).astype(np.uint8)
    )
    maps = {f"{name}.front": ramp.float() for name, ramp in zip("abc", ramps, strict=True)}
    there = seen.observe(observation(seen, ramps, maps))
    assert set(there.extras) == {"a.scene", "b.scene", "c.scene"}
    picture = there.images["scene"][0, 0].float()
    found = torch.stack([there.extras[f"{name}.scene"][0, 0] for name in "abc"])
    assert found.shape == (3, *target)
    # Half a pixel of the ramp of 2 levels, one more where a picture is enlarged past its edge, and rounding twice.
    assert float((picture - found).abs().max()) <= 3.1
    bars = picture.sum(dim=0) == 0
    assert not found[:, bars].any()


@settings(max_examples=80, deadline=None)
@given(source=st.tuples(SIDES, SIDES), target=st.tuples(SIDES, SIDES), fit=FITS, seed=st.integers(0, 999))
def test_no_class_is_invented(source: Any, target: Any, fit: Any, seed: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(seed).choice([3, 7, 200], source).astype(np.uint8))
    seen = view(source, size=target, fit=fit)
    shown = seen.extras.see({"segmentation.front": labels[None]}, lead=1)["segmentation.front"][0]
    assert shown.dtype == torch.uint8
    left, upper, right, lower = seen.sizing["front"].place
    assert set(shown[upper:lower, left:right].unique().tolist()) <= {3, 7, 200}


@settings(max_examples=120, deadline=None)
@given(
    source=st.tuples(SIDES, SIDES),
    target=st.tuples(SIDES, SIDES),
    fit=FITS,
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_point_stays_on_what_it_points_at(source: Any, target: Any, fit: Any, at: Any) -> None:
    """The map's value under the moved point is that under the recorded one, to the pixel that rounding may cost."""
    seen = view(source, size=target, fit=fit, points={"click": "front"})
    point = torch.tensor([[at[0] * (source[1] - 1), at[1] * (source[0] - 1)], [-1.0, 5.0]])
    rows, columns = np.mgrid[0 : source[0], 0 : source[1]]
    maps = {
        "row.front": torch.from_numpy(rows + 1.0)[None],
        "column.front": torch.from_numpy(columns + 1.0)[None],
    }
    shown = seen.extras.see({**maps, "click": point[None]}, lead=1)
    (x, y), none = shown["click"][0]
    assert none.tolist() == [-1.0, 5.0]
    if not (0 <= x < target[1] and 0 <= y < target[0]):
        assert fit == "crop"
        return
    sx, sy = seen.sizing["front"].scale
    found = [float(shown[f"{name}.front"][0, int(y), int(x)]) - 1 for name in ("column", "row")]
    for have, want, scale in zip(found, point[0].tolist(), (sx, sy), strict=True):
        assert have == -1 or abs(have + 0.5 - want) <= 0.5 + 0.5 / scale + 1e-3


@settings(max_examples=120, deadline=None)
@given(source=st.tuples(SIDES, SIDES), target=st.tuples(SIDES, SIDES), fit=FITS, seed=st.integers(0, 999))
def test_a_lens_projects_to_where_the_picture_shows_it(source: Any, target: Any, fit: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    camera = torch.tensor([0.1, 0.2, 0.3, 1.0, 0.0, 0.0, 0.0, rng.uniform(20, 100)], dtype=torch.float64)
    seen = view(source, size=target, fit=fit)
    sizing = seen.sizing["front"]
    if sizing.lens_error >= 1:
        assert fit == "stretch"
        with pytest.raises(
            ConfigError, match=r"'camera.front' describes a lens of square pixels, which `fit` stretch"
        ):
            seen.extras.see({"camera.front": camera[None]}, lead=1)
        return
    moved = seen.extras.see({"camera.front": camera[None]}, lead=1)["camera.front"][0]
    points = torch.from_numpy(rng.uniform(-1, 1, (40, 3)) * [0.5, 0.5, 0.2] - [0, 0, 2.0])
    before, _ = project(points, camera, *source)
    after, _ = project(points, moved, *target)
    x0, y0, x1, y1 = sizing.cut
    inside = (before >= before.new_tensor([x0, y0])).all(1) & (before <= before.new_tensor([x1, y1])).all(1)
    missed = (sizing.points(before.clamp(min=0)) - after).abs()[inside]
    assert missed.numel() == 0 or float(missed.max()) <= sizing.lens_error + 1e-3
    assert torch.equal(moved[:7], camera[:7])
    if fit == "crop":
        assert sizing.lens_error < 1e-6


def test_closed_forms() -> None:
    seen = view(
        (4, 8), size=(4, 4), points={"click": "front"}
    )  # 2 rows of picture between two bars of one row
    depth = torch.arange(32.0).reshape(1, 4, 8)
    shown = seen.extras.see(
        {"depth.front": depth, "click": torch.tensor([[[8.0, 4.0], [0.0, 0.0]]]), "pose": depth[:, :1, :7]},
        lead=1,
    )
    assert shown["depth.front"][0].tolist() == [[0] * 4, [9, 11, 13, 15], [25, 27, 29, 31], [0] * 4]
    assert shown["click"][0].tolist() == [[4.0, 3.0], [0.0, 1.0]]
    assert torch.equal(shown["pose"], depth[:, :1, :7])
    lens = view((4, 8), size=(4, 4), fit="crop").sizing["front"].lens(torch.tensor([0.0] * 7 + [90.0]))
    assert float(lens[7]) == pytest.approx(90)  # the middle of all rows


def test_names_follow_the_camera_also_where_two_change_places() -> None:
    swapped = view((40, 40), cameras={"front": "wrist", "wrist": "front"})
    one, two = torch.ones(1, 40, 40), torch.zeros(1, 40, 40)
    shown = swapped.extras.see({"depth.front": one, "depth.wrist": two, "force": one}, lead=1)
    assert {name: float(value.mean()) for name, value in shown.items()} == {
        "depth.wrist": 1.0,
        "depth.front": 0.0,
        "force": 1.0,
    }
    assert swapped.extras.recorded_name("depth.front") == "depth.wrist"
    only = view(cameras={"front": "wrist"})  # the recorded front camera is hidden behind the other
    assert list(only.extras.see({"depth.front": torch.ones(1, 48, 64)}, lead=1)) == []
    assert only.extras.shapes({"depth.wrist": (40, 40), "depth.front": (48, 64)}) == {"depth.front": (40, 40)}
    twice = view(cameras={"a": "front", "b": "front"}, size=(6, 8))
    assert twice.extras.shapes({"depth.front": (48, 64)}) == {"depth.a": (6, 8), "depth.b": (6, 8)}
    blind = view(cameras={})  # nothing is shown, so nothing is changed
    assert blind.extras.shapes({"depth.front": (48, 64)}) == {"depth.front": (48, 64)}


def test_flags_of_missing_sensors_follow_and_those_of_hidden_cameras_do_not() -> None:
    seen, flag = view(cameras={"front": "wrist"}, size=(8, 8)), torch.ones(1, 1, dtype=torch.bool)
    front = torch.zeros(3, 48, 64, dtype=torch.uint8)
    shown = seen.observe(observation(seen, front, {}, missing={"front": flag, "gestures": flag}))
    assert list(shown.missing) == ["gestures"]
    shown = seen.observe(observation(seen, front, {}, missing={"wrist": flag, "depth.wrist": flag}))
    assert sorted(shown.missing) == ["depth.front", "front"]


@pytest.mark.parametrize(
    ("fields", "name", "shape", "told"),
    [
        (
            {},
            "tracks.front",
            (5, 2),
            r"'tracks.front' of the shape \(5, 2\) is neither a map .*`view.points` \({tracks",
        ),
        ({}, "depth.front", (24, 32), r"neither a map of its 48 x 64 pixels"),
        ({}, "camera.front", (3, 3), r"nor a camera's pose and lens"),
        (
            {"points": {"tracks.front": "front"}},
            "tracks.front",
            (5, 3),
            r"view.points.tracks.front: .*needs \(..., 2\)",
        ),
        ({"fit": "stretch", "size": (48, 20)}, "camera.front", (8,), r"Set `view.fit` to crop or letterbox"),
    ],
)
def test_what_cannot_follow_is_refused_by_name(
    fields: dict[str, Any], name: str, shape: Any, told: str
) -> None:
    seen = view(**{"size": (24, 24), **fields})
    with pytest.raises(ConfigError, match=told):
        seen.extras.require(name, shape)
    with pytest.raises(ConfigError, match=told):
        seen.extras.see({name: torch.zeros(1, *shape)}, lead=1)
    view(cameras={"front": "front"}).extras.require(
        name, shape
    )  # the picture stays as it is, and so does this


def test_what_only_has_the_name_of_a_camera_stays() -> None:
    seen = view(cameras={"hand": "wrist"}, size=(8, 8), unmoved=("force.wrist",))
    assert torch.equal(seen.extras.see({"force.wrist": torch.ones(1, 3)}, 1)["force.wrist"], torch.ones(1, 3))
    assert seen.extras.recorded_name("force.wrist") == "force.wrist"


def test_points_of_an_unknown_camera_and_names_of_before_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"view.points.click: no recorded camera 'frnt'.*front"):
        view(points={"click": "frnt"})
    with pytest.raises(ConfigError, match=r"the view shows the extra 'depth.front' as 'depth.scene'"):
        view(cameras={"scene": "front"}).extras.recorded_name("depth.front")
