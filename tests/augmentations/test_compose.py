"""Lists of operations on whole batches: what changes, what agrees, what stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support import ToyWindows, data_spec
from wamkit.augmentations import (
    Affine,
    Blur,
    Colour,
    Crop,
    DropCamera,
    DropInstruction,
    Erase,
    Noise,
    Paraphrase,
    Shift,
    StateNoise,
    augment,
)
from wamkit.config import decode, encode
from wamkit.contract.augmenting import AugmentConfig
from wamkit.contract.rows import views_of
from wamkit.contract.types import Batch, Observation, WindowSpec

PICTURES: tuple[AugmentConfig, ...] = (
    Shift(pixels=4),
    Affine(degrees=5.0, zoom=0.05),
    Colour(),
    Blur(probability=0.3),
    Noise(probability=0.5),
)
DATA = data_spec()
WINDOW = WindowSpec(observation=(-8, 0), future=(8, 16), goal=True, horizon=4)
TOY = ToyWindows()


def batch(rows: int = 6) -> Batch:
    """Windows at both ends of the episode and inside, with a map of depth and two milestones."""
    cut = TOY.windows(np.linspace(0, TOY.num_frames - 1, rows, dtype=int), WINDOW)
    assert cut.future is not None
    cut = replace(cut, milestones=cut.future)
    depth = {name: depth_of(view) for name, view in views_of(cut).items()}
    return replace(cut, **{name: replace(view, extras=depth[name]) for name, view in views_of(cut).items()})


def depth_of(view: Observation) -> dict[str, torch.Tensor]:
    """A map that follows from the picture, and a vector that is no map."""
    return {"depth.scene": view.images["scene"][:, :, 0].float() / 100, "force": view.state[..., :2]}


WITH_DEPTH = replace(DATA, extras={"depth.scene": (32, 32), "force": (2,)})


def run(
    operations: tuple[AugmentConfig, ...], seed: int = 0, step: int = 0, of: Batch | None = None
) -> Batch:
    return augment(batch() if of is None else of, operations, WITH_DEPTH, seed, step)


def same(one: Any, other: Any) -> bool:
    """Whether two observations or batches hold the same values, bit for bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Batch | Observation):
        return all(same(value, getattr(other, name)) for name, value in vars(one).items())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)


NOTHING: tuple[AugmentConfig, ...] = (
    Shift(pixels=0),
    Crop(share=1.0),
    Affine(degrees=0.0, zoom=0.0),
    Colour(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0),
    Blur(sigma=0.0),
    Noise(std=0.0),
    Erase(share=0.0),
    StateNoise(std=0.0),
    DropCamera(probability=0.0),
    Paraphrase(probability=0.0, phrases={"push it": ("shove it",)}),
    DropInstruction(probability=0.0),
    Shift(probability=0.0),
)


@pytest.mark.parametrize("operation", NOTHING, ids=repr)
def test_settings_of_nothing_leave_a_batch_bit_equal(operation: AugmentConfig) -> None:
    assert same(run((operation,)), batch())


def test_no_operation_and_all_settings_of_nothing_leave_a_batch_bit_equal() -> None:
    assert same(run(()), batch())
    assert same(run(NOTHING), batch())


def test_what_is_given_in_is_not_changed() -> None:
    given_in, operations = batch(), (*PICTURES, StateNoise(), DropCamera(probability=0.5))
    run(operations, of=given_in)
    assert same(given_in, batch())


ALL: tuple[AugmentConfig, ...] = (
    *PICTURES,
    Crop(),
    Erase(),
    StateNoise(std=0.5),
    DropCamera(probability=0.5),
    Paraphrase(probability=0.5, phrases={"push it": ("shove it", "press it")}),
    DropInstruction(probability=0.3),
)


def test_present_future_goal_and_milestones_of_a_window_agree() -> None:
    """The same frame at every time of a window is the same frame afterwards, and differs from window to window."""
    cut = batch()
    now = cut.observation.steps([-1])
    # Every observation of the batch shows the present frame.
    alike = replace(cut, **{name: repeated(now, view.pad.shape[1]) for name, view in views_of(cut).items()})
    changed = run(PICTURES, of=alike)
    for camera in ("scene", "gripper"):
        first = changed.observation.images[camera][:, :1]
        for view in views_of(changed).values():
            assert torch.equal(view.images[camera], first.expand_as(view.images[camera]))
        assert not torch.equal(first, now.images[camera])
    depth = changed.observation.extras["depth.scene"][:, :1]
    for view in views_of(changed).values():
        assert torch.equal(view.extras["depth.scene"], depth.expand_as(view.extras["depth.scene"]))


def repeated(view: Observation, steps: int) -> Observation:
    return view.steps([0] * steps)


def test_one_window_in_every_row_comes_out_differently_in_every_row_and_camera() -> None:
    cut = TOY.windows(np.full(8, 100), WINDOW)
    cut = replace(
        cut,
        observation=replace(
            cut.observation, images=dict.fromkeys(("a", "b"), cut.observation.images["scene"])
        ),
    )
    cut = replace(cut, future=None, goal=None)
    changed = augment(cut, PICTURES, DATA, 0, 0).observation.images
    assert len({row.numpy().tobytes() for images in changed.values() for row in images}) == 16


def test_a_future_is_changed_as_if_it_were_observed() -> None:
    """The recorded future put in place of the present goes through the same transformation."""
    cut = batch()
    assert cut.future is not None
    swapped = replace(cut, observation=cut.future, future=cut.observation)
    for operation in PICTURES:
        there, here = run((operation,), of=cut), run((operation,), of=swapped)
        assert there.future is not None
        assert here.future is not None
        assert same(there.future.images, here.observation.images)
        assert same(there.observation.images, here.future.images)


def test_padded_steps_still_repeat_their_nearest_step() -> None:
    cut = batch()
    changed = run(ALL, of=cut)
    before, after = cut.observation.pad, changed.observation.pad
    assert torch.equal(before, after)
    assert before[0, 0]
    assert torch.equal(changed.observation.images["scene"][0, 0], changed.observation.images["scene"][0, 1])
    assert torch.equal(changed.observation.state[0, 0], changed.observation.state[0, 1])
    assert changed.future is not None
    assert changed.future.pad[-1].all()
    assert torch.equal(changed.future.images["scene"][-1, 0], changed.observation.images["scene"][-1, -1])


def test_maps_move_with_their_camera_and_other_extras_stay() -> None:
    cut = batch()
    changed = run((Shift(pixels=4),), of=cut)
    for view in views_of(changed).values():
        assert torch.equal(view.extras["depth.scene"], view.images["scene"][:, :, 0].float() / 100)
    assert same(changed.observation.extras["force"], cut.observation.extras["force"])
    assert not same(changed.observation.extras["depth.scene"], cut.observation.extras["depth.scene"])
    assert same(run((Colour(), Blur(), Noise(), Erase())).observation.extras, cut.observation.extras)


def test_named_cameras_change_and_the_others_stay() -> None:
    changed, cut = run((Noise(cameras=("gripper",)),)), batch()
    assert same(changed.observation.images["scene"], cut.observation.images["scene"])
    assert not same(changed.observation.images["gripper"], cut.observation.images["gripper"])


def test_a_probability_chooses_windows_per_camera() -> None:
    cut = TOY.windows(np.arange(300), WindowSpec())
    changed = augment(cut, (Erase(share=1.0, probability=0.3),), DATA, 0, 0)
    apart = [
        (changed.observation.images[c] != cut.observation.images[c]).flatten(1).any(dim=1)
        for c in ("scene", "gripper")
    ]
    for rows in apart:
        assert abs(float(rows.float().mean()) - 0.3) < 4 * np.sqrt(0.21 / 300)
    assert not torch.equal(*apart)


# ------------------------------------------------------------------------------------------------- other inputs


def test_state_noise_is_one_offset_per_window_in_units_of_the_spread() -> None:
    cut = TOY.windows(np.arange(400), WINDOW)
    changed = augment(cut, (StateNoise(std=0.5),), DATA, 0, 0)
    offset = changed.observation.state - cut.observation.state
    for before, after in zip(views_of(cut).values(), views_of(changed).values(), strict=True):
        torch.testing.assert_close(after.state - before.state, offset[:, :1].expand_as(after.state))
    wanted = 0.5 * torch.as_tensor(DATA.stats["observation.state"]["std"])
    found = offset[:, 0].double()
    assert ((found.std(dim=0) / wanted - 1).abs() < 4 / np.sqrt(800)).all()
    assert (torch.corrcoef(found.T) - torch.eye(4)).abs().max() < 0.2


@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_dropped_cameras_are_flagged_and_one_always_stays(probability: float) -> None:
    cut = TOY.windows(np.arange(400), WINDOW)
    changed = augment(cut, (DropCamera(probability=probability),), DATA, 0, 0)
    flags = torch.stack([changed.observation.missing[c] for c in ("gripper", "scene")], dim=2)
    assert torch.equal(flags, flags[:, :1].expand_as(flags))
    assert not flags.all(dim=2).any()
    share = probability - probability**2 / 2  # both are drawn with probability p^2, and one of them stays
    assert (flags[:, 0].float().mean(dim=0) - share).abs().max() < 4 * np.sqrt(0.25 / 400)
    assert same(changed.observation.images, cut.observation.images)
    assert changed.future is not None
    assert not changed.future.missing


def test_a_camera_that_may_not_be_dropped_stays() -> None:
    changed = run((DropCamera(probability=1.0, cameras=("gripper",)),))
    assert changed.observation.missing["gripper"].all()
    assert "scene" not in changed.observation.missing


def test_words_are_dropped_or_replaced_by_declared_ones() -> None:
    cut = TOY.windows(np.arange(600), WINDOW)
    phrases = {"push it": ("shove it", "press it")}
    told = augment(cut, (Paraphrase(probability=0.5, phrases=phrases),), DATA, 0, 0)
    pushed = [
        new for old, new in zip(cut.observation.task, told.observation.task, strict=True) if old == "push it"
    ]
    for text, share in (("push it", 0.5), ("shove it", 0.25), ("press it", 0.25)):
        assert abs(pushed.count(text) / len(pushed) - share) < 4 * np.sqrt(0.25 / 300)
    pulled = {
        new for old, new in zip(cut.observation.task, told.observation.task, strict=True) if old == "pull it"
    }
    assert pulled == {"pull it"}
    assert told.goal is not None
    assert told.goal.task == told.observation.task
    assert set(run((DropInstruction(probability=1.0),)).observation.task) == {""}
    assert set(run((DropInstruction(probability=1.0, text="act"),)).observation.task) == {"act"}


# --------------------------------------------------------------------------------------------- draws of a list


def rows_of(changed: Batch, rows: slice) -> list[bytes]:
    images, state = changed.observation.images["scene"], changed.observation.state
    return [
        images[rows].numpy().tobytes(),
        state[rows].numpy().tobytes(),
        repr(changed.observation.task[rows]).encode(),
    ]


def test_a_row_comes_out_the_same_in_a_smaller_batch() -> None:
    index = np.arange(10) * 30
    large, small = (augment(TOY.windows(index[:n], WINDOW), ALL, DATA, 4, 2) for n in (10, 3))
    assert rows_of(large, slice(0, 3)) == rows_of(small, slice(0, 3))


def test_seeds_and_steps_draw_apart_and_again_the_same() -> None:
    found = [rows_of(run(ALL, seed, step), slice(None))[0] for seed, step in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert len(set(found)) == 3
    assert found[0] == found[3]


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run(ALL)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(run(ALL), first)


UNIT = st.floats(0, 1, width=32)
OPERATIONS = st.one_of(
    st.builds(Shift, pixels=st.integers(0, 40), probability=UNIT),
    st.builds(Crop, share=st.floats(0.05, 1), probability=UNIT),
    st.builds(
        Affine, degrees=st.floats(0, 180), zoom=st.floats(0, 0.9), cameras=st.sampled_from([(), ("scene",)])
    ),
    st.builds(
        Colour, brightness=UNIT, contrast=UNIT, saturation=UNIT, hue=st.floats(0, 0.5), probability=UNIT
    ),
    st.builds(Blur, sigma=st.floats(0, 5), probability=UNIT),
    st.builds(Noise, std=st.floats(0, 255), probability=UNIT),
    st.builds(Erase, share=UNIT, probability=UNIT),
    st.builds(StateNoise, std=st.floats(0, 3)),
    st.builds(DropCamera, probability=UNIT),
    st.builds(Paraphrase, probability=UNIT, phrases=st.just({"push it": ("shove it",)})),
    st.builds(DropInstruction, probability=UNIT),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(OPERATIONS, max_size=5).map(tuple), st.integers(0, 2**32 - 1), st.integers(0, 10**6))
def test_any_list_keeps_shapes_types_and_ranges_and_repeats(
    operations: tuple[AugmentConfig, ...], seed: int, step: int
) -> None:
    cut = batch(3)
    changed = run(operations, seed, step, cut)
    assert same(run(operations, seed, step, batch(3)), changed)
    for before, after in zip(views_of(cut).values(), views_of(changed).values(), strict=True):
        for name, images in after.images.items():
            assert images.dtype == torch.uint8
            assert images.shape == before.images[name].shape
        assert after.state.shape == before.state.shape
        assert bool(after.state.isfinite().all())
        assert len(after.task) == 3
        depth = after.extras["depth.scene"]
        assert set(depth.unique().tolist()) <= set(before.extras["depth.scene"].unique().tolist())
        assert torch.equal(after.pad, before.pad)
    assert torch.equal(changed.action, cut.action)
    assert torch.equal(changed.action_pad, cut.action_pad)
    for operation in operations:
        assert decode(AugmentConfig, encode(operation), "test") == operation


# ---------------------------------------------------------------------------------------------------- refusals
