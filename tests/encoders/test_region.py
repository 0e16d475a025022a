"""The active region: it holds what moves, it is looked at closely, and leaving it out leaves the rest as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scenes import look, pose, scene_spec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.design import Design
from wamkit.encoders import InstructionConfig, RegionConfig, RegionEncoder
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.substrates import PixelLatentConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo.cells import Cell

DATA = scene_spec()
WINDOW = WindowSpec(observation=(-4, 0))
MOTION = RegionConfig(side=16, dropout=0.0)
LABELS = replace(MOTION, source="labels", labels="object_id", ids=(1,))


def build(config: RegionConfig) -> RegionEncoder:
    torch.manual_seed(0)
    return config.build(DATA, WINDOW, 16).eval()


def clip(seed: int) -> Observation:
    """Two plates side by side; the first moves, the labels say where it is."""
    g = torch.Generator().manual_seed(seed)
    u = (torch.rand(5, generator=g) * 2 - 1).tolist()
    side = 0.3 if seed % 2 else -0.3
    start = pose(side + 0.02 * u[0], 0.1 * u[1], 0.05)
    end = pose(side + 0.02 * u[2], 0.1 * u[1] + (0.08 if u[3] > 0 else -0.08), 0.05)
    return look([start, end], second=pose(-side, 0.1 * u[4], 0.05))


def inside(box: Tensor, mask: Tensor) -> float:
    """Share of the pixels of ``mask`` that lie in the box."""
    rows, columns = mask.nonzero().T + 0.5
    row, column, side = box
    kept = ((rows - row).abs() <= side / 2) & ((columns - column).abs() <= side / 2)
    return float(kept.float().mean())


@pytest.mark.parametrize("config", [MOTION, LABELS], ids=["motion", "labels"])
def test_the_region_contains_the_object_that_moves_and_not_the_other(config: RegionConfig) -> None:
    encoder = build(config)
    whole = []
    for seed in range(20):
        seen = clip(seed)
        ids = seen.extras["object_id.scene"][0, -1]
        (box,), found = encoder.boxes(seen)
        assert found.all()
        assert inside(box, ids == 1) == 1
        whole.append(inside(box, ids == 2))
    print(f"share of the other object inside: {sum(whole) / 20:.3f} (n = 20)")
    assert sum(whole) / 20 < 0.1


def test_the_crop_is_the_region_at_full_size() -> None:
    encoder, seen = build(replace(LABELS, margin=0.0)), clip(3)
    box, _ = encoder.boxes(seen)
    crop = encoder.crop(seen.images["scene"][:, -1], box)
    assert crop.shape == (1, 3, 16, 16)
    plate = seen.images["scene"][0, -1, 0][seen.extras["object_id.scene"][0, -1] == 1]
    middle = crop[0, 0, 3:-3, 3:-3]  # the plate fills the crop up to its blurred edge
    assert (middle - (plate[0] / 127.5 - 1)).abs().max() < 0.02
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    exact = build(replace(MOTION, side=4)).crop(image, torch.tensor([[3.0, 4.0, 4.0]]))
    torch.testing.assert_close((exact[0, 0] + 1) * 127.5, image[0, 0, 1:5, 2:6].float(), atol=1e-3, rtol=0)


def test_only_what_is_in_the_region_is_seen() -> None:
    encoder, seen = build(LABELS), clip(3)
    tokens, pad = encoder(seen)
    assert tokens.shape == (1, 1, 16)
    assert not pad.any()
    row, column, side = encoder.boxes(seen)[0][0]
    rows, columns = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    far = ((rows - row).abs() > side / 2 + 1) | ((columns - column).abs() > side / 2 + 1)
    for there, same in ((far, True), (~far, False)):
        images = torch.where(there, 255 - seen.images["scene"], seen.images["scene"])
        found, _ = encoder(replace(seen, images={"scene": images}))
        assert torch.allclose(found, tokens, atol=1e-6) == same


def test_where_nothing_moves_there_is_no_region() -> None:
    encoder = build(MOTION)
    still = pose(0.1, 0.0, 0.05)
    tokens, pad = encoder(look([still, still]))
    assert pad.all()
    assert tokens.isfinite().all()
    _, pad = encoder(clip(1))
    assert not pad.any()
    _, pad = build(replace(MOTION, dropout=1.0)).train()(clip(1))
    assert pad.all()


def test_dropping_the_region_reproduces_the_language_only_output() -> None:
    def config(encoders: dict) -> Design:  # type: ignore[type-arg]
        torch.manual_seed(0)
        trunk = TransformerConfig(width=32, depth=2, heads=2)
        cell = Cell(PixelLatentConfig(), "direct", RegressorConfig(), trunk=trunk, encoders=encoders)
        return Design(replace(cell.design(), width=32, observation=(-4, 0)), DATA).eval()

    both = config({"instruction": InstructionConfig(hidden=16), "region": MOTION})
    language = config({"instruction": InstructionConfig(hidden=16)})
    shared = {k: v for k, v in both.state_dict().items() if not k.startswith("encoders.region.")}
    language.load_state_dict(shared)
    seen = clip(1)
    gone = replace(seen, missing={"region": torch.ones(1, 2, dtype=torch.bool)})

    def act(design: Design, observation: Observation) -> Tensor:
        return design.sample(observation, ["action"], seeds=[1]).values["action"]

    torch.testing.assert_close(act(both, gone), act(language, seen), atol=1e-6, rtol=1e-6)
    assert not torch.allclose(act(both, seen), act(language, seen), atol=1e-4)
    assert torch.equal(act(both, replace(clip(2), missing=gone.missing)), act(both, gone))


def test_what_cannot_be_found_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no camera 'scen'. Did you mean 'scene'"):
        build(replace(MOTION, camera="scen"))
    with pytest.raises(ConfigError, match="motion needs two observed steps"):
        MOTION.build(DATA, WindowSpec(), 16)
    with pytest.raises(ConfigError, match=r"needs the extra 'masks.scene'"):
        build(replace(LABELS, labels="masks"))
    with pytest.raises(ConfigError, match="name the `ids`"):
        build(replace(LABELS, ids=()))
    with pytest.raises(ConfigError, match="patch 5 does not divide"):
        build(replace(MOTION, patch=5))
