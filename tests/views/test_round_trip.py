"""The way back through any view is the identity on actions, whatever its forms, names, scales and references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from wamkit.config import decode, encode
from wamkit.contract.data import Scaling
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.errors import ConfigError, SpecError
from wamkit.geometry.rotations import FORMS, SIZES, Form, convert, parse_rotation, write
from wamkit.views import Declared, RangeView, RotationView, View, ViewConfig

PLAIN = ("x", "y", "gripper")
FORM = st.sampled_from(FORMS)


def turns(form: Form) -> tuple[str, ...]:
    return tuple(f"r{i}" for i in range(SIZES[form]))


def specs(form: Form, mode: Any = "absolute", **fields: Any) -> tuple[ObservationSpec, ActionSpec]:
    """A robot that is told x, y, a rotation and a gripper, and reads these and a force."""
    names = ("x", "y", *turns(form), "gripper")
    action = ActionSpec(names, (-4.0,) * len(names), (4.0,) * len(names), 30.0, mode, **fields)
    return ObservationSpec({}, (*names, "force"), 30.0), action


def poses(rng: np.random.Generator, form: Form, *shape: int) -> np.ndarray:
    """Random values (..., A) whose rotations are written as the forms write them."""
    turn = write(Rotation.random(int(np.prod(shape)), rng), form).reshape(*shape, -1)
    return np.concatenate((rng.uniform(-2, 2, (*shape, 2)), turn, rng.uniform(-2, 2, (*shape, 1))), axis=-1)


@st.composite
def views(draw: st.DrawFn, form: Form) -> ViewConfig:
    relative: Any = draw(st.sampled_from(("none", "state", "tick")))
    pairs = {}
    if relative != "none":
        chosen = draw(st.lists(st.sampled_from(PLAIN), min_size=1, unique=True))
        pairs = {name: draw(st.sampled_from((name, "force"))) for name in chosen}
    against = turns(form) if relative != "none" and draw(st.booleans()) else ()
    ends = st.floats(-3, 3).map(lambda x: round(x, 2))
    change = st.tuples(ends, ends).filter(lambda p: abs(p[0] - p[1]) > 0.1)
    order = draw(st.permutations(("x", "y", "gripper", "turn")))
    columns = tuple(c for name in order for c in (turns(form) if name == "turn" else (name,)))
    named = draw(st.lists(st.sampled_from(PLAIN), unique=True))
    return ViewConfig(
        action=columns,
        relative=relative,
        relative_columns=pairs,
        action_rotations=(RotationView(turns(form), form, draw(FORM), "turn", against),),
        action_ranges={
            n: RangeView(draw(change), draw(change)) for n in draw(st.sets(st.sampled_from(PLAIN)))
        },
        action_names=dict(zip(named, draw(st.permutations([f"to_{n}" for n in named])), strict=True)),
        state_names=dict.fromkeys(draw(st.sets(st.just("force"))), "push"),
        action_width=draw(st.sampled_from((0, 20))),
    )


@settings(max_examples=80, deadline=None)
@given(data=st.data(), form=FORM, seed=st.integers(0, 2**32 - 1))
def test_the_way_back_is_the_identity_on_actions(data: st.DataObject, form: Form, seed: int) -> None:
    config, rng = data.draw(views(form)), np.random.default_rng(seed)
    observation, action = specs(form)
    plain = View(config, observation, action)
    width = plain.action.real
    scaling = Scaling(tuple(rng.uniform(-1, 1, width).tolist()), tuple(rng.uniform(0.1, 5, width).tolist()))
    states = Scaling((0.0,) * len(observation.state), (1.0,) * len(observation.state))
    values = poses(rng, form, 3, 4)
    now = np.concatenate((poses(rng, form, 3), rng.uniform(-1, 1, (3, 1))), axis=1)
    for view in (plain, View(config, observation, action, states, scaling)):
        seen = view.action.see(values, now)
        assert seen.shape == (3, 4, view.action_spec.width)
        assert len(set(view.action_spec.names)) == view.action_spec.width
        np.testing.assert_allclose(view.action.back(seen, now), values, atol=1e-6)
    assert decode(ViewConfig, encode(config), "view") == config


@settings(max_examples=60, deadline=None)
@given(
    form=FORM, read=FORM, seed=st.integers(0, 2**32 - 1), relative=st.sampled_from(("none", "state", "tick"))
)
def test_what_is_not_written_as_the_form_writes_it_comes_back_as_the_same_rotation(
    form: Form, read: Form, seed: int, relative: Any
) -> None:
    """Antipodal quaternions of any length, angles and axes beyond half a turn, 6D columns that are not orthonormal."""
    rng = np.random.default_rng(seed)
    values, now = poses(rng, form, 2, 5), np.concatenate((poses(rng, form, 2), np.zeros((2, 1))), axis=1)
    slots = slice(2, 2 + SIZES[form])
    for array in (values, now):
        turn = array[..., slots]
        if form.startswith("quaternion"):
            turn *= rng.choice([-2.0, -1.0, 0.5], (*turn.shape[:-1], 1))
        elif form.startswith("euler"):
            turn += 2 * np.pi * rng.integers(-2, 3, turn.shape)
        elif form == "axis_angle":
            length = np.linalg.norm(turn, axis=-1, keepdims=True)
            turn *= 1 + 2 * np.pi / length
        elif form == "rot6d":
            turn[..., 3:] += turn[..., :3]
            turn *= 2
    against = turns(form) if relative != "none" else ()
    rotation = RotationView(turns(form), form, read, "turn", against)
    pairs = {"x": "x"} if relative != "none" else {}
    view = View(
        ViewConfig(action_rotations=(rotation,), relative=relative, relative_columns=pairs), *specs(form)
    )
    back = view.action.back(view.action.see(values, now), now)
    meant, found = (parse_rotation(a[..., slots].reshape(-1, SIZES[form]), form) for a in (values, back))
    assert float((meant.inv() * found).magnitude().max()) < 1e-6
    np.testing.assert_allclose(back[..., :2], values[..., :2], atol=1e-9)


def test_half_a_turn_is_passed_without_a_jump_of_what_is_seen() -> None:
    """In 6D, and relative to the state, the two sides of half a turn are neighbours; as axis and angle they are not."""
    sides = np.zeros((1, 2, 3 + 3))
    sides[0, 0, 2], sides[0, 1, 2] = np.pi - 0.01, -np.pi + 0.01
    now = np.zeros((1, 7))
    now[0, 2] = np.pi - 0.01
    absolute = View(ViewConfig(action_rotations=(RotationView(turns("axis_angle")),)), *specs("axis_angle"))
    seen = absolute.action.see(sides, now)[0]
    assert np.abs(seen[1] - seen[0]).max() < 0.021
    turned = RotationView(turns("axis_angle"), "axis_angle", "axis_angle", "turn", turns("axis_angle"))
    config = ViewConfig(relative="state", relative_columns={"x": "x"}, action_rotations=(turned,))
    relative = View(config, *specs("axis_angle"))
    np.testing.assert_allclose(relative.action.see(sides, now)[0, :, 2], [0, 0.02], atol=1e-9)
    np.testing.assert_allclose(relative.action.back(relative.action.see(sides, now), now), sides, atol=1e-9)


def test_orders_and_places_of_the_real_part_are_closed_forms() -> None:
    angles = np.array([[0.1, 0.2, 0.3]])
    for form in FORMS[:6]:
        expected = np.eye(3)
        for axis, angle in zip(form[-3:], angles[0], strict=True):
            turn = np.zeros(3)
            turn["xyz".index(axis)] = angle
            expected = (
                Rotation.from_rotvec(turn).as_matrix() @ expected
            )  # about fixed axes: the later one is on the left
        np.testing.assert_allclose(convert(angles, form, "matrix").reshape(3, 3), expected, atol=1e-12)
    moving = (
        Rotation.from_euler("XYZ", angles).as_matrix().reshape(1, 9)
    )  # about moving axes: x, then y, then z
    np.testing.assert_allclose(convert(angles[:, ::-1], "euler_zyx", "matrix"), moving, atol=1e-12)
    first = convert(angles, "euler_xyz", "quaternion_wxyz")
    np.testing.assert_allclose(
        convert(angles, "euler_xyz", "quaternion_xyzw"), np.roll(first, -1), atol=1e-12
    )


@pytest.mark.parametrize(
    ("form", "values"),
    [("quaternion_wxyz", [0.0] * 4), ("quaternion_xyzw", [0.0] * 4), ("rot6d", [1.0, 0, 0, 2, 0, 0]),
     ("matrix", [-1.0, 0, 0, 0, -1, 0, 0, 0, -1]), ("axis_angle", [float("nan")] * 3)],
)  # fmt: skip
def test_what_is_no_rotation_is_refused(form: Form, values: list[float]) -> None:
    with pytest.raises(SpecError, match=f"row 0, .* is no rotation as {form}"):
        parse_rotation(np.array([values]), form)
    view = View(ViewConfig(action_rotations=(RotationView(turns(form), form),)), *specs(form))
    fine, wrong = poses(np.random.default_rng(0), form, 3), poses(np.random.default_rng(0), form, 3)
    wrong[1, 2 : 2 + SIZES[form]] = values
    assert view.action.no_rotation(fine) is None
    assert view.action.no_rotation(wrong) == (1, f"{', '.join(turns(form))} ({form})")


def test_two_robots_share_the_names_of_their_columns() -> None:
    arm = ObservationSpec({}, ("joint_1.pos", "joint_2.pos"), 30.0)
    told = ActionSpec(("joint_1.pos", "joint_2.pos"), (-9.0,) * 2, (9.0,) * 2, 30.0, "absolute")
    names = {"joint_1.pos": "shoulder_pan", "joint_2.pos": "elbow"}
    view = View(ViewConfig(state_names=names, action_names=names, relative="state"), arm, told)
    assert view.observation_spec.state == view.action_spec.names == ("shoulder_pan", "elbow")
    assert not view.same
    now, action = torch.tensor([[1.0, 2.0]]), torch.tensor([[[5.0, 7.0]]])
    assert view.actions(action, now).tolist() == [[[4.0, 5.0]]]
    assert torch.equal(view.commands(view.actions(action, now), now), action)
    swapped = ViewConfig(action_names={"joint_1.pos": "joint_2.pos", "joint_2.pos": "joint_1.pos"})
    assert View(swapped, arm, told).action_spec.names == ("joint_2.pos", "joint_1.pos")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"action_names": {"q": "x"}}, r"view.action: no recorded column 'q'"),
        ({"state_names": {"forse": "f"}}, r"view.state: no recorded column 'forse'.*force"),
        ({"action_names": {"x": "y"}}, r"two columns are called 'y'. .*`view.action_names`"),
        (
            {"action_names": {"r0": "roll"}, "action_rotations": (RotationView(turns("axis_angle")),)},
            r"column 'r0' is an entry of a rotation.*rotation_0.*Set `name`",
        ),
    ],
)
def test_names_that_do_not_fit_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        View(ViewConfig(**fields), *specs("axis_angle"))


def test_the_sign_of_a_gripper_follows_its_range() -> None:
    pair = specs("axis_angle", gripper="positive_closes")
    flip = {"gripper": RangeView((-1.0, 1.0), (1.0, -1.0))}
    assert View(ViewConfig(action_ranges=flip), *pair).action_spec.gripper == "negative_closes"
    wide = {"gripper": RangeView((0.0, 1.0), (0.0, 2.0))}
    assert View(ViewConfig(action_ranges=wide), *pair).action_spec.gripper == "positive_closes"
    for moved in ({"action": ("gripper", "x", "y", *turns("axis_angle"))}, {"action_width": 12}):
        seen = View(ViewConfig(**moved, action_ranges=flip), *pair).action_spec
        assert (seen.gripper, seen.gripper_entry) == (
            "negative_closes",
            "gripper",
        )  # it is the last entry no more
    without = View(ViewConfig(action=("x", "y")), *pair).action_spec
    assert (without.gripper, without.gripper_entry) == ("none", "")


def test_what_a_dataset_does_not_say_is_declared_and_checked() -> None:
    observation, said = specs("axis_angle")
    silent = specs("axis_angle", frame="unknown")
    declare = Declared(mode="delta")
    assert View(ViewConfig(declare=declare), *silent).action_spec.mode == "delta"
    with pytest.raises(ConfigError, match=r"are delta already, as `view.declare.mode` says"):
        View(ViewConfig(declare=declare, relative="state"), *silent)
    with pytest.raises(ConfigError, match=r"view.declare.mode: 'delta', but the dataset says 'absolute'"):
        View(ViewConfig(declare=declare), observation, said)
    with pytest.raises(ConfigError, match=r"Declare `low` and `high`"):
        View(ViewConfig(declare=Declared(frame="world")), *silent)
    with pytest.raises(ConfigError, match=r"declare.low: 2 limits for the 6 columns x, y, r0"):
        View(ViewConfig(declare=Declared(low=(0.0, 0.0))), *silent)
    with pytest.raises(ConfigError, match=r"declare.high: 3 for 'gripper', but actions of 4 were recorded"):
        View(ViewConfig(declare=Declared(high=(5.0, 5.0, 5.0, 5.0, 5.0, 3.0))), *silent)
    whole = Declared("absolute", "base", "axis_angle", "positive_closes", (-5.0,) * 6, (5.0,) * 6)
    view = View(ViewConfig(declare=whole, relative="state"), *silent)
    assert (view.recorded[1].frame, view.recorded[1].low) == ("base", (-5.0,) * 6)
    again = View(ViewConfig(declare=whole, relative="state"), *view.recorded)  # as a checkpoint stores it
    assert again.recorded == view.recorded
