"""A camera flagged as missing: what is read does not depend on its buffer; no words: every text encoder takes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scenes import look, pose, scene_spec
from support import ToyWindows, acting_observation, data_spec
from tiny_models import text_model, vision_language_model, vision_model
from wamkit.contract.protocols import DataSpec, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders import (
    DepthConfig,
    ImagesConfig,
    InstructionBPEConfig,
    InstructionConfig,
    LanguageModelConfig,
    MaskedConfig,
    RegionConfig,
    VisionLanguageModelConfig,
    VisionModelConfig,
)
from wamkit.memory import SceneMemoryConfig

WINDOW = WindowSpec(observation=(-2, 0))


def toy() -> Observation:
    return acting_observation(ToyWindows(40), [20, 30], WINDOW)


def plates() -> Observation:
    return look([pose(0.0, 0.0, 0.05), pose(0.1, 0.0, 0.05)])


def build(config: EncoderConfig, data: DataSpec) -> torch.nn.Module:
    torch.manual_seed(0)
    return config.build(data, WINDOW, 16).eval()


def other_buffer(seen: Observation, flags: Tensor) -> Observation:
    """The same observation with noise in the pictures of the flagged steps."""
    noise = torch.randint(0, 256, seen.images["scene"].shape, dtype=torch.uint8)
    picture = torch.where(flags[..., None, None, None], noise, seen.images["scene"])
    return replace(seen, images={**seen.images, "scene": picture})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    vision_model(root / "vision", "resnet")
    vision_language_model(root / "both")
    text_model(root / "text", "bert")
    return root


def reader(name: str, folder: Path) -> EncoderConfig:
    return {
        "images": ImagesConfig(),
        "grid": ImagesConfig(pool="grid"),
        "masked": MaskedConfig(ImagesConfig(pool="grid", shift=0), rows=2, columns=2),
        "vision": VisionModelConfig(str(folder / "vision")),
        "both": VisionLanguageModelConfig(str(folder / "both")),
        "region": RegionConfig(side=16),
        "depth": DepthConfig(impute=True),
        "scene_memory": SceneMemoryConfig(
            viewpoint=(0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 60.0), size=16, patch=4
        ),
    }[name]


@pytest.mark.parametrize("flags", [[True, True], [False, True], [True, False]], ids=["all", "now", "past"])
@pytest.mark.parametrize(
    "name", ["images", "grid", "masked", "vision", "both", "region", "depth", "scene_memory"]
)
def test_what_is_read_does_not_depend_on_the_buffer_of_a_missing_camera(
    name: str, flags: list[bool], folder: Path
) -> None:
    seen, data = (
        (plates(), scene_spec()) if name in ("region", "depth", "scene_memory") else (toy(), data_spec())
    )
    if name == "depth":  # pictures are read where depth is missing
        seen = replace(seen, missing={"depth.scene": torch.ones(1, 2, dtype=torch.bool)})
    encoder = build(reader(name, folder), data)
    gone = torch.tensor([flags]).expand(seen.batch_size, -1)
    flagged = replace(seen, missing={**seen.missing, "scene": gone})
    (tokens, pad), (noisy, noisy_pad) = (encoder(o) for o in (flagged, other_buffer(flagged, gone)))
    assert torch.equal(pad, noisy_pad)
    assert torch.equal(tokens[~pad], noisy[~pad])
    # Without the flag the buffer is read.
    shown, shown_noisy = encoder(seen), encoder(other_buffer(seen, gone))
    assert not (torch.equal(shown[0], shown_noisy[0]) and torch.equal(shown[1], shown_noisy[1]))


@pytest.mark.parametrize("name", ["images", "vision"])
def test_tokens_of_the_other_camera_and_of_other_steps_stay(name: str, folder: Path) -> None:
    encoder, seen = build(reader(name, folder), data_spec()), toy()
    gone = torch.tensor([[False, True], [True, True]])
    tokens, pad = encoder(seen)
    left, left_pad = encoder(replace(seen, missing={"scene": gone}))
    assert not pad.any()
    per_step = tokens.shape[1] // 4  # two cameras in alphabetical order, two steps
    assert torch.equal(left_pad, torch.cat((torch.zeros_like(gone), gone), 1).repeat_interleave(per_step, 1))
    assert torch.equal(left[~left_pad], tokens[~left_pad])


@pytest.mark.parametrize("name", ["instruction", "phrases", "bpe", "language_model", "both"])
def test_no_instruction_is_an_instruction(name: str, folder: Path) -> None:
    config: EncoderConfig = {
        "instruction": InstructionConfig(),
        "phrases": InstructionConfig(phrases=3),
        "bpe": InstructionBPEConfig(),
        "language_model": LanguageModelConfig(str(folder / "text"), length=6),
        "both": VisionLanguageModelConfig(str(folder / "both")),
    }[name]
    encoder = build(config, data_spec())
    if name == "bpe":
        encoder.fit(ToyWindows(40), 0)
    tokens, pad = encoder(replace(toy(), task=("", "push it")))
    assert bool(tokens[~pad].isfinite().all())
    assert (~pad).any(dim=1).all()
    assert not torch.equal(tokens[0], tokens[1])
