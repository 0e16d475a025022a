"""Views: the way back is the identity, closed forms of every change, and clear refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from wamkit.config import decode, encode
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.geometry.rotations import FORMS, SIZES, write
from wamkit.views import RangeView, RotationView, View, ViewConfig

ROTATION = ("rx", "ry", "rz")
ARM = ("x", "y", "z", *ROTATION, "gripper")
OBSERVATION = ObservationSpec(
    {"front": CameraSpec(48, 64), "wrist": CameraSpec(40, 40)}, (*ARM, "force"), 30.0
)
ACTION = ActionSpec(ARM, (-2.0,) * 7, (2.0,) * 7, 30.0, mode="absolute")


def view(**fields: Any) -> View:
    return View(ViewConfig(**fields), OBSERVATION, ACTION)


def poses(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random states or actions (..., 7) whose rotations have one axis-angle form."""
    out = rng.uniform(-2, 2, (*shape, 7))
    out[..., 3:6] = Rotation.random(int(np.prod(shape)), rng).as_rotvec().reshape(*shape, 3)
    return out


@st.composite
def views(draw: st.DrawFn) -> ViewConfig:
    """Views that read every column of the action."""
    relative: Any = draw(st.sampled_from(("none", "state", "tick")))
    turned = draw(st.booleans())
    order = draw(st.permutations(("x", "y", "z", "gripper")))
    names = draw(st.sampled_from((None, (*order, *ROTATION), (*ROTATION, *order))))
    pairs: dict[str, str] = {}
    if relative != "none":
        chosen = draw(st.lists(st.sampled_from(("x", "y", "z")), min_size=1, unique=True))
        pairs = {name: draw(st.sampled_from((name, "force"))) for name in chosen}
    rotation = RotationView(
        ROTATION,
        "axis_angle",
        draw(st.sampled_from(FORMS)),
        "turn",
        ROTATION if relative != "none" and draw(st.booleans()) else (),
    )
    ends = st.floats(-3, 3).map(lambda x: round(x, 2))
    change = st.tuples(ends, ends).filter(lambda p: abs(p[0] - p[1]) > 0.1)
    ranges = {
        n: RangeView(draw(change), draw(change)) for n in draw(st.sets(st.sampled_from(("x", "gripper"))))
    }
    return ViewConfig(
        action=names,
        relative=relative,
        relative_columns=pairs,
        action_rotations=(rotation,) if turned else (),
        action_ranges=ranges,
        action_width=draw(st.sampled_from((0, 16))),
    )


@settings(max_examples=40, deadline=None)
@given(config=views(), seed=st.integers(0, 2**32 - 1))
def test_the_way_back_is_the_identity_on_actions(config: ViewConfig, seed: int) -> None:
    rng, seen = np.random.default_rng(seed), View(config, OBSERVATION, ACTION)
    action = poses(rng, 3, 5)
    state = np.concatenate((poses(rng, 3), rng.uniform(-1, 1, (3, 1))), axis=1)
    there = seen.action.see(action, state)
    assert there.shape == (3, 5, seen.action_spec.width)
    np.testing.assert_allclose(seen.action.back(there, state), action, atol=1e-6)
    through = seen.commands(
        seen.actions(torch.from_numpy(action).float(), torch.from_numpy(state).float()),
        torch.from_numpy(state).float(),
    )
    np.testing.assert_allclose(through.numpy(), action, atol=2e-5)  # single precision of values up to 30
    assert decode(ViewConfig, encode(config), "view") == config


@settings(max_examples=50, deadline=None)
@given(config=views(), seed=st.integers(0, 2**32 - 1))
def test_what_is_seen_lies_within_the_limits_that_are_said(config: ViewConfig, seed: int) -> None:
    rng, seen = np.random.default_rng(seed), View(config, OBSERVATION, ACTION)
    state = np.concatenate((poses(rng, 3), rng.uniform(-1, 1, (3, 1))), axis=1)
    there = seen.action.see(poses(rng, 3, 5), state)
    turned = np.array(
        [name in ROTATION for name in seen.action_spec.names]
    )  # rotations have limits of their own
    low, high = np.array(seen.action_spec.low), np.array(seen.action_spec.high)
    assert ((there >= low - 1e-6) | turned).all()
    assert ((there <= high + 1e-6) | turned).all()


def test_relative_to_the_state_now_and_to_the_tick_before() -> None:
    action, state = torch.zeros(1, 4, 7), torch.zeros(1, 8)
    action[0, :, 0] = torch.tensor([3.0, 5.0, 6.0, 6.5])
    state[0, 0] = 2.0
    to_state = view(relative="state", relative_columns={"x": "x"}).actions(action, state)
    assert to_state[0, :, 0].tolist() == [1.0, 3.0, 4.0, 4.5]
    to_tick = view(relative="tick", relative_columns={"x": "x"}).actions(action, state)
    assert to_tick[0, :, 0].tolist() == [1.0, 2.0, 1.0, 0.5]
    with_past = view(relative="tick", relative_columns={"x": "x"}).actions(action, state, past=2)
    assert with_past[0, :, 0].tolist() == [0.0, 2.0, 4.0, 0.5]
    assert view(relative="state", relative_columns={"x": "x"}).action_spec.mode == "relative"


def test_columns_with_the_same_name_are_relative_unless_they_turn() -> None:
    seen = view(relative="state", action_rotations=(RotationView(ROTATION),))
    relative = [piece.names for piece in seen.action.pieces if piece.against]
    assert relative == [("x",), ("y",), ("z",), ("gripper",)]


@pytest.mark.parametrize("form", FORMS)
def test_a_rotation_is_composed_with_the_state(form: Any) -> None:
    rng = np.random.default_rng(0)
    now, then = [Rotation.random(None, rng) for _ in range(2)]
    config = RotationView(ROTATION, "axis_angle", form, "turn", ROTATION)
    seen = view(relative="state", relative_columns={"x": "x"}, action_rotations=(config,))
    state, action = np.zeros((1, 8)), np.zeros((1, 1, 7))
    state[0, 3:6], action[0, 0, 3:6] = now.as_rotvec(), then.as_rotvec()
    there = seen.action.see(action, state)[0, 0, 3 : 3 + SIZES[form]]
    expected = write(Rotation.concatenate([now.inv() * then]), form).ravel()
    np.testing.assert_allclose(there, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("read", "said"), [("rot6d", "rot6d"), ("quaternion_wxyz", "quaternion_wxyz"), ("matrix", "none")]
)
def test_the_spec_names_the_form_that_is_seen(read: Any, said: str) -> None:
    assert view(action_rotations=(RotationView(ROTATION, "axis_angle", read),)).action_spec.rotation == said


def test_a_range_maps_its_ends_and_turns_the_sign() -> None:
    seen = view(action_ranges={"gripper": RangeView((0.0, 100.0), (1.0, -1.0))})
    action = torch.zeros(1, 3, 7)
    action[0, :, 6] = torch.tensor([0.0, 50.0, 100.0])
    assert seen.actions(action, torch.zeros(1, 8))[0, :, 6].tolist() == [1.0, 0.0, -1.0]
    assert seen.action_spec.low[6] == pytest.approx(0.96)
    assert seen.action_spec.high[6] == pytest.approx(1.04)


def test_padding_is_zero_and_named() -> None:
    seen = view(action_width=9, state_width=10)
    assert seen.action_spec.names[7:] == ("padding_7", "padding_8")
    assert seen.observation_spec.state[8:] == ("padding_8", "padding_9")
    assert not seen.actions(torch.ones(2, 3, 7), torch.ones(2, 8))[..., 7:].any()
    assert not seen.states(torch.ones(2, 3, 8))[..., 8:].any()


def test_ticks_are_the_nearest_recorded_ones() -> None:
    assert view(every=3).ticks(8).tolist() == [0, 3, 6]
    assert view(rate_hz=10.0).ticks(8).tolist() == [0, 3, 6]
    assert view(rate_hz=20.0).ticks(8).tolist() == [0, 2, 3, 5, 6]
    assert view(rate_hz=60.0).ticks(3).tolist() == [0, 1, 1, 2, 2]
    assert view(rate_hz=20.0).action_spec.rate_hz == pytest.approx(20.0)
    assert view(every=3).observation_spec.rate_hz == pytest.approx(10.0)


@settings(max_examples=60, deadline=None)
@given(rate=st.floats(1.0, 90.0), count=st.integers(1, 200))
def test_every_tick_of_a_rate_is_nearest_in_time(rate: float, count: int) -> None:
    ticks = view(rate_hz=rate).ticks(count)
    assert ticks[0] == 0
    assert (np.diff(ticks) >= 0).all()
    assert ticks[-1] < count
    times = np.arange(len(ticks)) / rate
    assert (np.abs(ticks / 30.0 - times) <= 0.5 / 30.0 + 1e-9).all()


def observation(rng: np.random.Generator) -> Observation:
    images = {
        "front": torch.from_numpy(rng.integers(0, 256, (2, 1, 3, 48, 64), dtype=np.uint8)),
        "wrist": torch.from_numpy(rng.integers(0, 256, (2, 1, 3, 40, 40), dtype=np.uint8)),
    }
    state = torch.from_numpy(rng.normal(size=(2, 1, 8)).astype(np.float32))
    return Observation(images, state, ("a", "b"), torch.zeros(2, 1, dtype=torch.bool))


def test_an_observation_is_seen_with_its_goal_and_its_past() -> None:
    rng = np.random.default_rng(0)
    goal, past = observation(rng), torch.from_numpy(poses(rng, 2, 4)).float()
    plain = observation(rng)
    whole = Observation(
        plain.images, plain.state, plain.task, plain.pad, past_action=past, past_action_pad=past[..., 0] > 9, goal=goal,
        missing={"wrist": torch.ones(2, 1, dtype=torch.bool)},
    )  # fmt: skip
    seen = view(cameras={"hand": "wrist"}, size=(16, 24), state=("gripper", "x"), relative="state")
    there = seen.observe(whole)
    assert {name: tuple(v.shape) for name, v in there.images.items()} == {"hand": (2, 1, 3, 16, 24)}
    assert torch.equal(there.state, whole.state[..., [6, 0]])
    assert there.goal is not None
    assert torch.equal(there.goal.state, goal.state[..., [6, 0]])
    assert list(there.missing) == ["hand"]
    assert there.past_action is not None
    torch.testing.assert_close(there.past_action[..., 0], past[..., 0] - whole.state[:, :1, 0])


def test_the_default_shows_what_was_recorded() -> None:
    assert view().same
    assert view(most=64).same
    assert not view(most=63).same
    assert view().action_spec is ACTION
    assert view().observation_spec == OBSERVATION


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"cameras": {"a": "frnt"}}, "no recorded camera 'frnt'.*front"),
        ({"state": ("forse",)}, "view.state: no recorded column 'forse'.*force"),
        ({"action": ("w",)}, "view.action: no recorded column 'w'"),
        ({"action_ranges": {"grip": RangeView()}}, "view.action: no recorded column 'grip'.*gripper"),
        ({"action_rotations": (RotationView(("x", "y", "q")),)}, "no recorded column 'q'"),
        (
            {"action": ("x", "rx"), "action_rotations": (RotationView(ROTATION),)},
            "column 'ry' of the rotation",
        ),
        (
            {"action_rotations": (RotationView(ROTATION),), "action_ranges": {"rx": RangeView()}},
            "has no range",
        ),
        (
            {"action_rotations": (RotationView(ROTATION), RotationView(("rx", "x", "y")))},
            "belongs to two rotations",
        ),
        ({"action_width": 3}, "view.action_width: 3 is less than the 7"),
        ({"relative": "state", "relative_columns": {"q": "x"}}, "no recorded action column 'q'"),
        ({"relative": "state", "relative_columns": {"x": "q"}}, "no recorded state column 'q'"),
        (
            {
                "relative": "state",
                "relative_columns": {"rx": "rx"},
                "action_rotations": (RotationView(ROTATION),),
            },
            "composed, not subtracted",
        ),
    ],
)
def test_what_does_not_fit_the_robot_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        view(**fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"size": (3,)}, "rows and columns"),
        ({"most": 50, "multiple": 32}, "Set `most` to 32"),
        ({"multiple": 32}, "Set `most` to 32"),
        ({"every": 2, "rate_hz": 10.0}, "choose one"),
        ({"relative_columns": {"x": "x"}}, "nothing is relative"),
        ({"action_rotations": (RotationView(ROTATION, against=ROTATION),)}, "needs `relative`"),
        (
            {"state_rotations": (RotationView(ROTATION, against=ROTATION),), "relative": "state"},
            "for actions",
        ),
    ],
)
def test_a_view_that_contradicts_itself_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ViewConfig(**fields)


def test_actions_that_are_relative_already_are_refused() -> None:
    delta = ActionSpec(ARM, (-1.0,) * 7, (1.0,) * 7, 30.0, mode="delta")
    with pytest.raises(ConfigError, match="delta already"):
        View(ViewConfig(relative="state"), OBSERVATION, delta)


def test_without_all_columns_there_is_no_way_back() -> None:
    seen = view(action=("x", "y"))
    with pytest.raises(ConfigError, match="also needs z, rx, ry, rz, gripper"):
        seen.commands(torch.zeros(1, 2, 2), torch.zeros(1, 8))
