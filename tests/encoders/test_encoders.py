"""Encoders: views by name, padding flagged, exact translations, instructions by content, dropout in training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support import ToyWindows, acting_observation, data_spec
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.specs import ObservationSpec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders import ImagesConfig, InstructionConfig, StateConfig
from wamkit.encoders.images import random_shift
from wamkit.encoders.readout import FlatReadout, Keypoints, Stem
from wamkit.errors import ConfigError, DataError

TOY = ToyWindows(frames=100)
WINDOW = WindowSpec(observation=(-4, 0))
WIDTH = 16


def build(config: EncoderConfig, window: WindowSpec = WINDOW, data: DataSpec | None = None) -> Encoder:
    torch.manual_seed(0)
    return config.build(data or data_spec(), window, WIDTH).eval()


FLAT = ImagesConfig(patch=4, channels=(8, 8), features=4, keypoints=6, tokens=2)
POOLS = {"flat": FLAT, "keypoints": replace(FLAT, pool="keypoints"), "grid": replace(FLAT, pool="grid")}


def images(pool: str = "flat", shift: int = 2) -> ImagesConfig:
    return replace(POOLS[pool], shift=shift)


def observe(*index: int, window: WindowSpec = WINDOW) -> Observation:
    return acting_observation(TOY, list(index), window)


# ---------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize(("pool", "tokens"), [("flat", 2), ("keypoints", 2), ("grid", 4)])
def test_image_tokens_are_views_times_steps_times_tokens(pool: str, tokens: int) -> None:
    found, pad = build(images(pool))(observe(50, 60, 70))
    assert found.shape == (3, 2 * 2 * tokens, WIDTH)
    assert pad.shape == found.shape[:2]
    assert pad.dtype == torch.bool


@pytest.mark.parametrize("pool", POOLS)
def test_the_order_of_cameras_is_irrelevant_and_their_names_are_not(pool: str) -> None:
    encoder, seen = build(images(pool)), observe(50)
    forward = encoder(seen)[0]
    backward = encoder(
        replace(seen, images={name: seen.images[name] for name in sorted(seen.images, reverse=True)})
    )[0]
    assert torch.equal(forward, backward)
    data = data_spec()
    spec = replace(
        data.observation,
        cameras={n: data.observation.cameras[n] for n in sorted(data.observation.cameras, reverse=True)},
    )
    reordered = build(images(pool), data=replace(data, observation=spec))
    assert torch.equal(reordered(seen)[0], forward)
    swapped = {"scene": seen.images["gripper"], "gripper": seen.images["scene"]}
    assert not torch.allclose(encoder(replace(seen, images=swapped))[0], forward)


def test_a_view_changes_its_own_tokens_only() -> None:
    encoder, seen = build(images()), observe(50)
    before = encoder(seen)[0]
    blank = {**seen.images, "scene": torch.zeros_like(seen.images["scene"])}
    after = encoder(replace(seen, images=blank))[0]
    assert torch.equal(before[:, :4], after[:, :4])  # gripper comes first
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_steps_before_the_episode_are_flagged_for_every_token() -> None:
    tokens_per_step, views = 2, 2
    _, pad = build(images())(observe(0, 50))
    first = [True] * tokens_per_step + [False] * tokens_per_step
    assert pad.tolist() == [first * views, [False] * len(first) * views]
    _, state_pad = build(StateConfig())(observe(0, 50))
    assert state_pad.tolist() == [[True, False], [False, False]]


def test_one_step_of_a_window_encoder_is_now() -> None:
    """A shorter observation is read as the newest steps: the same "now" gets the same time embedding."""
    for config in (images(), StateConfig()):
        encoder, seen = build(config), observe(50)
        whole, now = encoder(seen)[0], encoder(seen.steps([-1]))[0]
        views = 2 if isinstance(config, ImagesConfig) else 1
        expected = whole.unflatten(1, (views, 2, -1))[:, :, 1].flatten(1, 2)
        torch.testing.assert_close(now, expected, atol=1e-6, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(row=st.integers(0, 5), column=st.integers(0, 7))
def test_a_keypoint_is_where_its_channel_peaks(row: int, column: int) -> None:
    """One bright cell of a 6 x 8 map: (row, column) in [-1, 1], and the value there, in closed form."""
    head = Keypoints(channels=1, keypoints=1, tokens=1, width=3)
    head.project = torch.nn.Sequential()  # look at the keypoints themselves
    with torch.no_grad():
        head.read.weight.copy_(torch.tensor([[100.0], [0.5]]))  # where, what
        head.read.bias.zero_()
    features = torch.zeros(1, 1, 6, 8)
    features[0, 0, row, column] = 1.0
    expected = torch.tensor([(row + 0.5) / 3 - 1, (column + 0.5) / 4 - 1, 0.5])
    torch.testing.assert_close(head(features)[0, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_grid_has_one_token_per_four_patches_at_every_stride(stride: int) -> None:
    """8 x 8 pixels of 2-pixel patches: pictures of 32 pixels are 4 x 4 tokens of two views in two steps."""
    config = replace(images("grid"), patch=2, stride=stride)
    found, _ = build(config)(observe(50))
    assert found.shape[1] == 2 * 2 * 4 * 4


def test_strides_that_do_not_tile_four_patches_are_refused() -> None:
    with pytest.raises(ConfigError, match="stride 3 of the second convolution"):
        build(replace(images(), stride=3))


@pytest.mark.parametrize("norm", ["group", "none"])
@pytest.mark.parametrize("channels", [(8,), (16, 24), (32, 48, 48), (16, 16, 16, 16, 16)])
def test_maps_vary_as_much_as_pictures_do_at_any_depth(channels: tuple[int, ...], norm: str) -> None:
    """A map that is nearly constant at the start says nothing of the picture until much has been learned."""
    torch.manual_seed(0)
    stem = Stem(4, channels, norm=norm)  # type: ignore[arg-type]
    shown = torch.randn(16, 3, 32, 32) * 0.5
    spread = stem(shown).std().item()
    assert 0.2 < spread < 2.0, spread


def test_keypoints_begin_at_some_cells() -> None:
    """Weights that are equal over all 64 cells would have a maximum of 1/64."""
    torch.manual_seed(0)
    stem, head = Stem(4, (32, 48, 48)), Keypoints(48, 32, 2, 16)
    features = stem(torch.randn(16, 3, 32, 32) * 0.5).flatten(2).transpose(1, 2)
    logits = head.read(features).transpose(1, 2)[:, :32] * head.sharpness
    assert logits.softmax(dim=-1).amax(dim=-1).mean() > 3 / 64


def dots(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures of a bright dot of 3 x 3 pixels among three darker ones, and where it is, in [-1, 1]."""
    g = torch.Generator().manual_seed(seed)
    shown = torch.full((rows, 3, 32, 32), -0.5)
    for brightness in (0.0, 0.0, 0.0, 1.0):
        corner = torch.randint(0, 30, (rows, 2), generator=g)
        for row, (y, x) in enumerate(corner.tolist()):
            shown[row, :, y : y + 3, x : x + 3] = brightness
    return shown, (corner + 1.5) / 16 - 1


@pytest.mark.learns
def test_a_flat_map_learns_where_an_object_is() -> None:
    """After 200 steps it is found within a pixel in unseen pictures, where the mean position is 9 pixels off."""
    torch.manual_seed(0)
    stem, head = Stem(4, (16, 32), stride=2), FlatReadout(32, 16, features=16, tokens=1, width=64)
    last = torch.nn.Linear(64, 2)
    model = torch.nn.ModuleList([stem, head, last])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(200):
        shown, places = dots(64, seed=step)
        optimizer.zero_grad()
        (last(head(stem(shown))[:, 0]) - places).square().mean().backward()
        optimizer.step()
    shown, places = dots(200, seed=10**6)
    with torch.no_grad():
        off = (last(head(stem(shown))[:, 0]) - places).abs().mean() * 16
    assert off < 1.0, off
    assert places.abs().mean() * 16 > 5


def test_shift_happens_in_training_only() -> None:
    encoder, seen = build(images(shift=3)), observe(50)
    assert torch.equal(encoder(seen)[0], encoder(seen)[0])
    torch.manual_seed(0)
    encoder.train()
    assert not torch.equal(encoder(seen)[0], encoder(seen)[0])
    still = build(images(shift=0)).train()
    assert torch.equal(still(seen)[0], still(seen)[0])


def pictures(seed: int, rows: int, height: int, width: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, 3, height, width), generator=g, dtype=torch.uint8)


def test_a_shift_by_zero_is_the_identity() -> None:
    x = pictures(0, 3, 8, 6)
    assert torch.equal(random_shift(x, 0), x)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), pixels=st.integers(0, 3), height=st.integers(4, 9), width=st.integers(4, 9))
def test_shifts_are_exact_translations_with_repeated_edges(
    seed: int, pixels: int, height: int, width: int
) -> None:
    x = pictures(seed, 4, height, width)
    torch.manual_seed(seed)
    shifted = random_shift(x, pixels)
    assert shifted.dtype == torch.uint8
    padded = torch.nn.functional.pad(x.float(), (pixels,) * 4, mode="replicate").to(torch.uint8)
    for row, source in zip(shifted, padded, strict=True):
        views = [
            source[:, i : i + height, j : j + width]
            for i in range(2 * pixels + 1)
            for j in range(2 * pixels + 1)
        ]
        assert any(torch.equal(row, view) for view in views)


def test_every_shift_occurs() -> None:
    torch.manual_seed(0)
    x = torch.arange(49, dtype=torch.uint8).view(1, 1, 7, 7).expand(600, -1, -1, -1)
    assert len({int(row[0, 3, 3]) for row in random_shift(x, 2)}) == 25


def test_image_sizes_and_missing_cameras_are_refused() -> None:
    data = data_spec()
    with pytest.raises(ConfigError, match="multiples of four patches of 16"):
        replace(images(), patch=16).build(data, WINDOW, WIDTH)
    blind = replace(data, observation=ObservationSpec({}, data.observation.state, 40.0))
    with pytest.raises(ConfigError, match="the dataset has no camera"):
        images().build(blind, WINDOW, WIDTH)


# ----------------------------------------------------------------------------------------------- instruction


def tell(*texts: str) -> Tensor:
    seen = replace(observe(*([50] * len(texts))), task=texts)
    tokens, pad = build(InstructionConfig(tokens=2, length=16, hidden=8))(seen)
    assert not pad.any()
    assert tokens.shape == (len(texts), 2, WIDTH)
    return tokens


def test_the_same_text_has_the_same_tokens_whatever_stands_beside_it() -> None:
    tokens = tell("open it", "close it", "open it")
    assert torch.equal(tokens[0], tokens[2])
    assert not torch.allclose(tokens[0], tokens[1])
    torch.testing.assert_close(tell("open it")[0], tokens[0], atol=1e-6, rtol=1e-5)


def test_swapping_texts_swaps_rows() -> None:
    assert torch.equal(tell("open it", "close it"), tell("close it", "open it").flip(0))


def test_the_order_of_letters_matters() -> None:
    assert not torch.allclose(tell("ab ba")[0], tell("ba ab")[0])


def test_empty_overlong_and_foreign_texts_are_encoded() -> None:
    tokens = tell("", "x" * 16 + "left", "x" * 16 + "right", "öffne die Schublade 引き出し")
    assert tokens.isfinite().all()
    assert torch.equal(tokens[1], tokens[2])  # cut at `length`
    assert not torch.allclose(tokens[0], tokens[1])


# ----------------------------------------------------------------------------------------------------- state


def test_state_is_dropped_in_training_only() -> None:
    encoder, seen = build(StateConfig(dropout=1.0)), observe(50, 60)
    other = replace(seen, state=seen.state + 1)
    assert not torch.allclose(encoder(seen)[0], encoder(other)[0])
    encoder.train()
    assert torch.equal(encoder(seen)[0], encoder(other)[0])  # nothing of the state is left


def test_state_is_dropped_for_whole_rows_at_the_given_rate() -> None:
    encoder = build(StateConfig(dropout=0.3)).train()
    seen = observe(*([50] * 1000))
    torch.manual_seed(0)
    gone = (encoder(seen)[0] == build(StateConfig(dropout=1.0)).train()(seen)[0]).all(dim=-1)
    assert torch.equal(gone[:, 0], gone[:, 1])
    assert gone[:, 0].float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_state_noise_is_for_training_only() -> None:
    encoder, seen = build(StateConfig(noise=0.5)), observe(50)
    assert torch.equal(encoder(seen)[0], encoder(seen)[0])
    encoder.train()
    assert not torch.equal(encoder(seen)[0], encoder(seen)[0])


def test_state_needs_its_statistics() -> None:
    poor = replace(data_spec(), stats={"observation.stat": {}})
    with pytest.raises(
        DataError,
        match=r"no feature 'observation.state', which a part of this design reads. Did you mean 'observation",
    ):
        StateConfig().build(poor, WINDOW, WIDTH)
