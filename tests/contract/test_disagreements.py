"""Specs that disagree are told apart field by field, with both sides and the fields of a view that map them."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from wamkit.contract.specs import (
    UNKNOWN_FRAME,
    VIEW_FIELDS,
    ActionSpec,
    CameraSpec,
    ObservationSpec,
    disagreements,
    require_same,
    require_same_robot,
    size_option,
)
from wamkit.errors import SpecError
from wamkit.views import Declared, ViewConfig

SEEN = ObservationSpec({"front": CameraSpec(60, 80)}, ("x", "y"), 30.0)
MOVES = ActionSpec(("x", "y"), (-1.0, -1.0), (1.0, 1.0), 30.0, "absolute", frame=UNKNOWN_FRAME)


def test_every_named_field_is_one_of_the_view() -> None:
    known = {field.name for field in fields(ViewConfig)}
    assert {name for names in VIEW_FIELDS.values() for name in names} <= known


def test_each_difference_is_one_line_with_its_field_of_the_view() -> None:
    other = ObservationSpec({"scene": CameraSpec(64, 64)}, ("y", "x"), 10.0)
    assert disagreements(SEEN, other) == [
        "cameras.front: 60 x 80 pixels against none (view: cameras)",
        "cameras.scene: none against 64 x 64 pixels (view: cameras)",
        "state: ('x', 'y') against ('y', 'x') (view: state)",
        "rate_hz: 30.0 against 10.0 (view: rate_hz or every)",
    ]
    small = replace(SEEN, cameras={"front": CameraSpec(64, 64)})
    assert disagreements(SEEN, small) == [
        "cameras.front: 60 x 80 pixels against 64 x 64 pixels (view: size or most or fit)"
    ]
    dark = replace(SEEN, cameras={"front": CameraSpec(60, 80, high=200)})
    assert disagreements(SEEN, dark) == ["cameras.front: pixels of 0 to 255 against 0 to 200"]


def test_no_view_is_named_where_none_helps() -> None:
    for mine, other in (("absolute", "delta"), ("delta", "relative")):
        found = disagreements(
            replace(MOVES, frame="base", mode=mine), replace(MOVES, frame="base", mode=other)
        )  # type: ignore[arg-type]
        assert found == [f"mode: {mine!r} against {other!r}"]
    grips = replace(MOVES, frame="base", gripper="positive_closes")
    assert disagreements(replace(MOVES, frame="base"), grips) == ["gripper: 'none' against 'positive_closes'"]
    assert disagreements(replace(MOVES, frame="base"), replace(MOVES, frame="world")) == [
        "frame: 'base' against 'world'"
    ]


@pytest.mark.parametrize(
    ("state", "mends"),
    [
        (("hand_x", "hand_y"), "state_names or state_rotations or state_width"),
        (("x", "hand_y"), "state_names or state_rotations or state_width"),
        (("y", "x"), "state"),
        (("x",), "state or state_width"),
        (("x", "y", "z"), "state or state_width"),
    ],
)
def test_columns_are_told_apart_by_how_they_differ(state: tuple[str, ...], mends: str) -> None:
    assert disagreements(SEEN, replace(SEEN, state=state)) == [
        f"state: ('x', 'y') against {state!r} (view: {mends})"
    ]
    ones = (1.0,) * len(state)
    other = replace(MOVES, names=state, low=tuple(-x for x in ones), high=ones)
    of_actions = mends.replace("state", "action")
    assert disagreements(MOVES, other) == [f"names: ('x', 'y') against {state!r} (view: {of_actions})"]


def test_what_a_dataset_does_not_say_is_declared() -> None:
    """Against an environment, which says all of it; what is declared, and in the same words, agrees."""
    world = replace(
        MOVES, frame="world", mode="delta", rotation="axis_angle", gripper="positive_closes", high=(2.0, 1.0)
    )
    assert disagreements(MOVES, world) == [
        "high: (1.0, 1.0) against (2.0, 1.0) (view of the training: declare.high)",
        "mode: 'absolute' against 'delta' (view of the training: declare.mode)",
        "frame: 'unknown' against 'world' (view of the training: declare.frame)",
        "rotation: 'none' against 'axis_angle' (view of the training: declare.rotation)",
        "gripper: 'none' against 'positive_closes' (view of the training: declare.gripper)",
    ]
    said = Declared("delta", "world", "axis_angle", "positive_closes", MOVES.low, (2.0, 1.0))
    assert disagreements(said.of(MOVES), world) == []


def test_limits_that_two_recordings_reached_are_no_convention() -> None:
    wider = replace(MOVES, high=(2.0, 2.0))
    assert disagreements(MOVES, wider) == []
    declared, other = replace(MOVES, frame="base"), replace(wider, frame="base")
    assert disagreements(declared, other) == ["high: (1.0, 1.0) against (2.0, 2.0) (view: action_ranges)"]


def test_observations_and_actions_are_told_at_once() -> None:
    slow, same = (replace(SEEN, rate_hz=10.0), replace(MOVES, mode="delta")), (SEEN, MOVES)
    require_same_robot(same, same, "this", "that")
    with pytest.raises(
        SpecError,
        match=r"(?s)rate_hz: 10.0 against.*mode: 'delta' against 'absolute' \(view of the training: declare.mode",
    ):
        require_same_robot(slow, same, "this", "that")
    with pytest.raises(SpecError, match=r"this and that do not agree \(this first\):(?s:.*)\(--view\)"):
        require_same(slow[0], SEEN, "this", "that", "--view")


def test_the_way_out_of_a_size_is_the_next_multiple() -> None:
    assert "--design.view.size '[64, 96]'" in size_option(60, 80, 32)
    assert "'[32, 32]'" in size_option(32, 32, 32)
