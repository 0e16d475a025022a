"""Operations against closed forms and independent implementations."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from wamkit.augmentations import Affine, Blur, Colour, Crop, Erase, Noise, Shift
from wamkit.augmentations.colour import colour_map
from wamkit.augmentations.geometry import warp
from wamkit.contract.augmenting import Draws, PictureAugment

HEIGHT, WIDTH = 12, 20


def frames(rows: int = 6, steps: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rows, steps, 3, HEIGHT, WIDTH), generator=generator).float()


def draws(rows: int = 6) -> Draws:
    return Draws.of(3, 7, range(rows))


# ------------------------------------------------------------------------------------------------------ draws


def test_a_row_draws_the_same_whatever_the_other_rows_are() -> None:
    every, some = Draws.of(1, 2, range(8)), Draws.of(1, 2, (5, 0))
    chosen = torch.arange(8) % 2 == 0
    for kind in ("uniform", "normal"):

        def of(d: Draws, kind: str = kind) -> Tensor:
            return d.normal("x", 4) if kind == "normal" else d.uniform("x", 0, 1, 4)

        assert torch.equal(of(every)[[5, 0]], of(some))
        assert torch.equal(of(every.only(chosen)), of(every)[chosen])


def test_seed_step_place_and_name_draw_apart() -> None:
    base = Draws.of(1, 2, range(4))
    others = (
        Draws.of(2, 2, range(4)),
        Draws.of(1, 3, range(4)),
        base.at(0),
        base.at("0"),
        Draws.of(2, 1, range(4)),
    )
    values = [base.uniform("x", 0, 1), base.uniform("y", 0, 1), *(d.uniform("x", 0, 1) for d in others)]
    assert len({float(v) for value in values for v in value}) == 4 * len(values)


def test_draws_leave_the_global_generators_alone() -> None:
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    draws().normal("x", 9)
    draws().uniform("x", 0, 1, 9)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_numbers_are_uniform_and_normal() -> None:
    many = Draws.of(0, 0, range(2000))
    uniform, normal = many.uniform("u", -2.0, 3.0, 5), many.normal("n", 20)
    assert -2 <= uniform.min() < -1.99
    assert 2.99 < uniform.max() < 3
    # Kolmogorov-Smirnov distances of n = 10,000 and 40,000 draws; 1.95 / sqrt(n) is exceeded once in a thousand.
    ordered = ((uniform.flatten().sort().values + 2) / 5 - (torch.arange(10_000) + 0.5) / 10_000).abs().max()
    assert ordered < 1.95 / math.sqrt(10_000)
    cumulated = torch.special.ndtr(normal.flatten().sort().values) - (torch.arange(40_000) + 0.5) / 40_000
    assert cumulated.abs().max() < 1.95 / math.sqrt(40_000)
    counts = many.integers("i", -1, 1, 5).unique(return_counts=True)
    assert counts[0].tolist() == [-1, 0, 1]
    assert (counts[1] / 10_000 - 1 / 3).abs().max() < 0.02


# --------------------------------------------------------------------------------------------------- geometry


def test_a_shift_is_a_crop_of_the_picture_with_repeated_edges() -> None:
    values, found = frames(40), set()
    moved = Shift(pixels=2).pictures(values, draws(40))
    for before, after in zip(values.numpy(), moved.numpy(), strict=True):
        padded = np.pad(before, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
        fits = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if (padded[..., y : y + HEIGHT, x : x + WIDTH] == after).all()
        ]
        assert len(fits) == 1
        found.update(fits)
    assert len(found) > 15


def test_a_right_angle_of_a_square_picture_is_exact() -> None:
    square = frames()[..., :HEIGHT]
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0]]).expand(6, -1, -1)
    for nearest in (True, False):
        torch.testing.assert_close(warp(square, turn, nearest), square.rot90(1, (3, 4)), atol=1e-3, rtol=0)


def test_rotation_and_zoom_of_an_oblong_picture_are_those_of_scipy() -> None:
    values, config = frames(), Affine(degrees=30.0, zoom=0.4)
    moved = config.pictures(values, draws())
    degrees, size = draws().uniform("degrees", -30.0, 30.0), draws().uniform("zoom", 0.6, 1.4)
    centre = (np.array([HEIGHT, WIDTH]) - 1) / 2
    for row in range(6):
        angle, factor = math.radians(float(degrees[row])), float(size[row])
        matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / factor
        for step, colour in ((0, 0), (1, 2)):
            wanted = ndimage.affine_transform(
                values[row, step, colour].numpy(), matrix, centre - matrix @ centre, order=1, mode="nearest"
            )
            np.testing.assert_allclose(moved[row, step, colour].numpy(), wanted, atol=2e-2)


def test_a_crop_shows_a_part_of_the_picture_inside_its_borders() -> None:
    ramp = torch.arange(WIDTH).float().expand(200, 1, 3, HEIGHT, WIDTH) + 0.5
    moved = Crop(share=0.5).pictures(ramp.contiguous(), draws(200))[:, 0, 0, HEIGHT // 2]
    inner = moved[:, 2:-2]
    slope = (inner[:, -1] - inner[:, 0]) / (inner.shape[1] - 1)  # pixels of the picture per pixel of the crop
    assert slope.min() > 0.5 - 1e-4
    assert slope.max() < 1 + 1e-4
    assert slope.min() < 0.52
    left = inner[:, 0] - 2.5 * slope  # border of the crop, in pixels from the picture's
    right = left + WIDTH * slope
    assert left.min() > -1e-3
    assert right.max() < WIDTH + 1e-3
    assert left.max() > 5


def test_labels_are_moved_without_mixing() -> None:
    labels = torch.tensor([0.0, 7.0, 200.0])[torch.randint(0, 3, (6, 1, 1, HEIGHT, WIDTH))]
    for config in (Shift(pixels=3), Affine(degrees=20.0, zoom=0.2), Crop(share=0.6)):
        assert set(config.move(labels, draws(), nearest=True).unique().tolist()) <= {0.0, 7.0, 200.0}


def test_a_map_moves_as_the_picture_does() -> None:
    """A smooth picture and its own values as a map agree up to half a pixel's change."""
    ramp = (
        (torch.arange(WIDTH) + torch.arange(HEIGHT)[:, None])
        .float()
        .expand(6, 1, 3, HEIGHT, WIDTH)
        .contiguous()
    )
    for config in (Shift(pixels=3), Affine(degrees=20.0, zoom=0.2), Crop(share=0.6)):
        picture = config.pictures(ramp, draws())[:, :, :1]
        assert (picture - config.move(ramp[:, :, :1], draws(), nearest=True)).abs().max() <= 1.0 + 1e-3
        assert (picture - ramp[:, :, :1]).abs().max() > 2


# ----------------------------------------------------------------------------------------------------- colour


def one(value: float) -> Tensor:
    return torch.tensor([value])


def mapped(pixels: Tensor, **changes: float) -> Tensor:
    factors = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, **changes}
    matrix, offset = colour_map(*(one(factors[n]) for n in ("brightness", "contrast", "saturation", "hue")))
    return pixels @ matrix[0].T + offset


PIXELS = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) * 255


def test_brightness_scales_and_contrast_scales_about_the_middle() -> None:
    torch.testing.assert_close(mapped(PIXELS, brightness=0.7), PIXELS * 0.7)
    torch.testing.assert_close(
        mapped(PIXELS, contrast=1.3), (PIXELS - 127.5) * 1.3 + 127.5, atol=1e-3, rtol=0
    )
    constant = torch.full((4, 2, 3, HEIGHT, WIDTH), 100.0)
    lit = Colour(brightness=0.5, contrast=0.0, saturation=0.0, hue=0.0).pictures(constant, draws(4))
    factor = draws(4).uniform("brightness", 0.5, 1.5)
    torch.testing.assert_close(lit, (100 * factor).view(-1, 1, 1, 1, 1).expand_as(lit), atol=1e-3, rtol=0)


def test_without_saturation_a_picture_is_grey_of_the_same_luma() -> None:
    grey = mapped(PIXELS, saturation=0.0)
    luma = torch.tensor([colorsys.rgb_to_yiq(*p)[0] for p in PIXELS.double().tolist()])
    # The library rounds the weights of the luma to two digits.
    torch.testing.assert_close(grey, luma.float()[:, None].expand(-1, 3), atol=1.0, rtol=0)
    torch.testing.assert_close(grey, grey.mean(dim=1, keepdim=True).expand(-1, 3), atol=1e-2, rtol=0)


@pytest.mark.parametrize("turn", [1.0, -1.0, 2.0])
def test_a_full_turn_of_the_hue_is_the_identity(turn: float) -> None:
    torch.testing.assert_close(mapped(PIXELS, hue=turn), PIXELS, atol=1e-3, rtol=0)


def test_a_turned_hue_keeps_luma_and_chroma_and_turns_by_the_angle() -> None:
    yiq, turned = (
        np.array([colorsys.rgb_to_yiq(*p) for p in pixels.double().tolist()])
        for pixels in (PIXELS, mapped(PIXELS, hue=0.2))
    )
    chroma, other = (values[:, 1] + 1j * values[:, 2] for values in (yiq, turned))
    np.testing.assert_allclose(turned[:, 0], yiq[:, 0], atol=2.0)  # its weights have two digits
    far = np.abs(chroma) > 30  # near grey a hue means nothing
    assert far.sum() > 20
    np.testing.assert_allclose(np.abs(other)[far] / np.abs(chroma)[far], 1, atol=0.05)
    np.testing.assert_allclose(np.angle(other[far] / chroma[far]), 2 * math.pi * 0.2, atol=0.05)


def test_a_blur_is_that_of_scipy() -> None:
    values = frames()
    blurred = Blur(sigma=1.5).pictures(values, draws())
    for row, sigma in enumerate(draws().uniform("sigma", 0.0, 1.5).tolist()):
        wanted = ndimage.gaussian_filter(values[row, 1, 2].numpy(), sigma, mode="nearest", radius=5)
        np.testing.assert_allclose(blurred[row, 1, 2].numpy(), wanted, atol=1e-2)


def test_noise_has_its_deviation_and_one_pattern_per_window() -> None:
    grey = torch.full((40, 2, 3, HEIGHT, WIDTH), 128.0)
    noise = Noise(std=10.0).pictures(grey, draws(40)) - 128
    assert torch.equal(noise[:, 0], noise[:, 1])
    strength = draws(40).uniform("strength", 0.0, 10.0)
    found = noise[:, 0].flatten(1).std(dim=1)
    assert (found / strength - 1).abs().max() < 4 / math.sqrt(2 * 3 * HEIGHT * WIDTH)
    assert (noise[0] - noise[1]).abs().max() > 0


def test_an_erased_rectangle_is_grey_and_no_larger_than_its_share() -> None:
    white = torch.full((60, 2, 3, HEIGHT, WIDTH), 255.0)
    erased = Erase(share=0.5).pictures(white, draws(60)) == 128
    assert torch.equal(erased[:, :1].expand(-1, 2, 3, -1, -1), erased[:, :, :1].expand(-1, -1, 3, -1, -1))
    rows, columns = erased[:, 0, 0].any(dim=2), erased[:, 0, 0].any(dim=1)
    assert torch.equal(erased[:, 0, 0], rows[:, :, None] & columns[:, None])
    assert rows.sum(dim=1).max() == HEIGHT // 2
    assert columns.sum(dim=1).max() <= WIDTH // 2
    assert rows.any(dim=0).all()  # any row can be hidden
    assert columns.any(dim=0).all()


@pytest.mark.parametrize(
    "config", [Shift(), Crop(), Affine(), Colour(), Blur(), Noise(), Erase(share=0.9)], ids=repr
)
def test_pictures_of_a_window_are_changed_alike_and_those_of_two_windows_apart(
    config: PictureAugment,
) -> None:
    same = frames(1, 1).expand(6, 3, -1, -1, -1).contiguous()
    changed = config.pictures(same, draws())
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert torch.equal(changed[:, 0], changed[:, 2])
    assert len({row.numpy().tobytes() for row in changed[:, 0]}) == 6
