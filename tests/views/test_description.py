"""A view is said in words: every camera, column and rate, and every change."""

from __future__ import annotations

from dataclasses import replace

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.views import Declared, RangeView, RotationView, View, ViewConfig, describe_view

OBSERVATION = ObservationSpec(
    {"front": CameraSpec(480, 640), "wrist": CameraSpec(64, 64)}, ("x", "rx", "ry", "rz", "grip"), 30.0
)
ACTION = ActionSpec(("x", "rx", "ry", "rz", "grip"), (-1.0,) * 5, (1.0,) * 5, 30.0, "absolute")


def described(**fields: object) -> dict[str, list[str]]:
    return describe_view(View(ViewConfig(**fields), OBSERVATION, ACTION))  # type: ignore[arg-type]


def test_a_view_that_changes_nothing_says_so() -> None:
    assert described() == {
        "cameras": ["front: 480 x 640 pixels, as recorded", "wrist: 64 x 64 pixels, as recorded"],
        "state": ["x, rx, ry, rz, grip"],
        "action": ["x, rx, ry, rz, grip"],
        "rate": ["30 Hz, as recorded"],
    }


def test_no_change_of_a_picture_is_silent() -> None:
    assert described(most=64)["cameras"][0] == (
        "front: 480 x 640 -> 64 x 64 pixels (letterbox: the picture takes 48 x 64, the rest is black)"
    )
    assert described(size=(64, 64), fit="crop")["cameras"][0] == (
        "front: 480 x 640 -> 64 x 64 pixels (crop: the middle 480 x 480 is kept)"
    )
    assert described(size=(60, 80))["cameras"][0] == "front: 480 x 640 -> 60 x 80 pixels (scaled)"
    assert described(cameras={"scene": "wrist"})["cameras"] == [
        "scene (recorded as wrist): 64 x 64 pixels, as recorded",
        "not read: front",
    ]


def test_no_change_of_a_column_or_rate_is_silent() -> None:
    turn = RotationView(name="turn", against=("rx", "ry", "rz"))
    found = described(
        state=("grip", "x"),
        relative="state",
        relative_columns={"x": "x"},
        action_rotations=(turn,),
        action_ranges={"grip": RangeView((0.0, 1.0), (1.0, -1.0))},
        action_width=10,
        rate_hz=10.0,
    )
    assert found["state"] == ["grip, x", "not read: rx, ry, rz"]
    assert found["action"][1:] == [
        'relative to the state at "now": x, turn_0, turn_1, turn_2, turn_3, turn_4, turn_5',
        "absolute: grip",
        "rotation rx, ry, rz (axis_angle) -> turn_0, turn_1, turn_2, turn_3, turn_4, turn_5 (rot6d)",
        "grip times -2 plus 1",
        "padded with zeros from 8 to 10 columns",
    ]
    part = described(action=("x", "grip"))["action"]
    assert part[1:] == [
        "not read: rx, ry, rz",
        "the robot needs every column, so this can be tested on recordings only",
    ]
    assert found["rate"] == ["30 -> 10 Hz (every 3 recorded ticks)"]


def test_names_declarations_and_extras_are_said() -> None:
    found = described(
        action_names={"grip": "hand"}, declare=Declared(mode="absolute"), points={"click": "front"}
    )
    assert "grip is called hand" in found["action"]
    assert "declared: mode absolute" in found["action"]
    assert found["extras"] == ["click: pixels of front, moved with its picture"]
    silent = replace(ACTION, frame="unknown")
    lines = describe_view(View(ViewConfig(relative="state"), OBSERVATION, silent))["action"]
    assert any("does not say that its actions are absolute" in line for line in lines)
