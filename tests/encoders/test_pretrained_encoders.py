"""Text and vision models of `transformers` as encoders: what is read, what is frozen, what a checkpoint holds."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support import ToyWindows, acting_observation, data_spec
from tiny_models import NORMALISATION, text_model, transformers, vision_model
from wamkit.config import decode, encode
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Budget, Observation, WindowSpec
from wamkit.design import Design, DesignConfig
from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.encoders import (
    LanguageModelConfig,
    LanguageModelEncoder,
    VisionModelConfig,
    VisionModelEncoder,
)
from wamkit.errors import ConfigError, MissingExtraError
from wamkit.zoo import recipe

WINDOW = WindowSpec(observation=(-2, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All models, one folder each."""
    root = tmp_path_factory.mktemp("models")
    for family in ("bert", "gpt2", "t5", "clip"):
        text_model(root / family, family)
    for family in ("dinov2", "dinov3", "siglip", "vjepa2", "resnet"):
        vision_model(root / family, family)
    return root


def text(config: LanguageModelConfig) -> LanguageModelEncoder:
    torch.manual_seed(0)
    return config.build(data_spec(), WINDOW, 24).eval()


def vision(config: VisionModelConfig) -> VisionModelEncoder:
    torch.manual_seed(0)
    return config.build(data_spec(), WINDOW, 24).eval()


def say(*texts: str) -> Observation:
    seen = acting_observation(ToyWindows(40), [20] * len(texts), WINDOW)
    return replace(seen, task=texts)


# ------------------------------------------------------------------------------------------------------ text


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "clip"])
def test_any_text_model_reads_the_instruction(folder: Path, family: str) -> None:
    encoder = text(LanguageModelConfig(str(folder / family), length=6))
    tokens, pad = encoder(say("push it", "open the red drawer", "push it"))
    assert tokens.shape == (3, 6, 24)
    assert (~pad).sum(dim=1).tolist() == [2, 4, 2]
    assert torch.equal(tokens[0], tokens[2])
    hidden, _ = encoder.read(["push it"])
    reference = transformers.AutoModelForTextEncoding if family == "t5" else transformers.AutoModel
    model = reference.from_pretrained(folder / family).eval()
    model = model.text_model if family == "clip" else model
    expected = model(input_ids=torch.tensor([[5, 7]])).last_hidden_state
    torch.testing.assert_close(hidden[0, :2], expected[0], atol=1e-5, rtol=1e-5)


def test_a_named_layer_and_a_pool_choose_what_is_read(folder: Path) -> None:
    base = LanguageModelConfig(str(folder / "bert"), length=6)
    inner = text(replace(base, layer="encoder.layer.0"))
    model = transformers.AutoModel.from_pretrained(folder / "bert").eval()
    states = model(input_ids=torch.tensor([[5, 7]]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(inner.read(["push it"])[0][0, :2], states[1][0], atol=1e-5, rtol=1e-5)
    seen = {}
    for pool in ("mean", "first", "last"):
        encoder = text(replace(base, pool=pool))
        tokens, pad = encoder(say("push it"))
        assert tokens.shape == (1, 1, 24)
        assert not pad.any()
        seen[pool] = tokens
    whole = text(base)
    every, _ = whole(say("push it"))
    torch.testing.assert_close(seen["first"][:, 0], every[:, 0])
    torch.testing.assert_close(seen["last"][:, 0], every[:, 1])
    mean = whole.project(whole.read(["push it"])[0][:, :2].mean(dim=1)) + whole.kind
    torch.testing.assert_close(seen["mean"][:, 0], mean)


def test_a_frozen_prefix_is_read_once_and_is_the_same_when_it_is_read_again(folder: Path) -> None:
    encoder = text(LanguageModelConfig(str(folder / "bert"), length=6)).train()
    runs: list[int] = []
    encoder.host.model.register_forward_hook(lambda *args: runs.append(1))
    with torch.inference_mode():
        first, _ = encoder(say("push it", "pull it"))
    cached, _ = encoder(say("pull it", "push it", "push it"))
    assert len(runs) == 2
    encoder.host.memo.clear()
    again, _ = encoder(say("pull it", "push it", "push it"))
    assert len(runs) == 4
    assert torch.equal(cached, again)
    assert torch.equal(first, again[[1, 0]])
    again.sum().backward()  # what was read in inference mode can be trained on
    assert encoder.project[1].weight.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in encoder.host.parameters())
    assert not encoder.host.model.training


def test_a_trainable_model_learns_with_the_design(folder: Path) -> None:
    encoder = text(LanguageModelConfig(str(folder / "bert"), length=6, trainable=True)).train()
    encoder(say("push it", "open the drawer"))[0].square().sum().backward()
    grown = [p.grad.abs().sum() for n, p in encoder.host.named_parameters() if p.grad is not None]
    assert len(grown) > 20
    assert sum(grown) > 0


# ---------------------------------------------------------------------------------------------------- vision


@pytest.mark.parametrize(
    ("family", "every"),
    [("dinov2", 17), ("dinov3", 19), ("siglip", 16), ("clip", 17), ("vjepa2", 16), ("resnet", 16)],
)
def test_any_vision_model_reads_the_views(folder: Path, family: str, every: int) -> None:
    name, observation = str(folder / family), say("push it", "pull it")
    size = 32 if family == "resnet" else 0  # a convolutional network has no size of its own
    for grid, count in ((2, 4), (0, every)):
        encoder = vision(VisionModelConfig(name, grid=grid, size=size))
        tokens, pad = encoder(observation)
        assert tokens.shape == (2, 2 * 2 * count, 24)  # views x steps x tokens
        assert pad.shape == (2, 4 * count)
    pooled, _ = vision(VisionModelConfig(name, pool="mean", size=size))(observation)
    assert pooled.shape == (2, 4, 24)


def test_pictures_are_normalised_as_the_model_says(folder: Path) -> None:
    encoder = vision(VisionModelConfig(str(folder / "dinov2"), grid=0))
    pictures = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    mean, deviation = (torch.tensor(NORMALISATION[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
    model = transformers.AutoModel.from_pretrained(folder / "dinov2").eval()
    expected = model((pictures / 255 - mean) / deviation).last_hidden_state
    torch.testing.assert_close(encoder.model(pictures), expected, atol=1e-5, rtol=1e-5)
    grid = encoder.model._patches(expected)
    torch.testing.assert_close(grid[:, :, 2, 3], expected[:, 1 + 2 * 4 + 3])  # after the class token, in rows


def test_views_carry_their_names_and_what_is_older_than_the_window_has_no_influence(folder: Path) -> None:
    encoder, seen = vision(VisionModelConfig(str(folder / "siglip"), grid=2)), say("push it")
    tokens, _ = encoder(seen)
    turned = replace(seen, images=dict(reversed(seen.images.items())))
    assert torch.equal(encoder(turned)[0], tokens)
    now, _ = encoder(seen.steps([-1]))
    torch.testing.assert_close(now[:, :4], tokens[:, 4:8], atol=1e-5, rtol=1e-5)
    swapped = replace(seen, images={"scene": seen.images["gripper"], "gripper": seen.images["scene"]})
    assert not torch.allclose(encoder(swapped)[0], tokens)


# ------------------------------------------------------------------------------------------------ checkpoints


def design_config(folder: Path, trainable: bool = False) -> DesignConfig:
    encoders: dict[str, EncoderConfig] = {
        "instruction": LanguageModelConfig(str(folder / "bert"), length=6, trainable=trainable),
        "images": VisionModelConfig(str(folder / "dinov2"), grid=2, trainable=trainable),
    }
    return replace(recipe("direct"), encoders=encoders)


@pytest.mark.parametrize("trainable", [False, True])
def test_weights_and_tokenizer_travel_with_the_checkpoint(
    folder: Path, tmp_path: Path, toy: ToyWindows, trainable: bool
) -> None:
    mine = tmp_path / "models"
    shutil.copytree(folder, mine)
    design = Design(design_config(mine, trainable), data_spec())
    if trainable:
        with torch.no_grad():
            for p in design.encoders.parameters():
                p.add_(0.1)
    save_pretrained(design.eval(), tmp_path / "model")
    seen = acting_observation(toy, [30, 60], design.window)
    expected = design.forecast(seen, design.initial_state(2), Budget(), [1, 2])[0].action
    shutil.rmtree(mine)
    again = from_pretrained(tmp_path / "model")
    found = again.forecast(seen, again.initial_state(2), Budget(), [1, 2])[0].action
    assert torch.equal(found, expected)
    save_pretrained(again, tmp_path / "second")  # and once more from what was reloaded
    third = from_pretrained(tmp_path / "second")
    assert torch.equal(third.forecast(seen, third.initial_state(2), Budget(), [1, 2])[0].action, expected)


def test_without_weights_nothing_is_computed(tmp_path: Path) -> None:
    config = LanguageModelConfig(str(text_model(tmp_path / "bert")))
    assert "BertModel" in config.architecture
    assert decode(EncoderConfig, encode_choice(config), "here") == config
    shutil.rmtree(tmp_path / "bert")
    with pytest.raises(ConfigError, match=r"cannot load the model .*bert"):
        text(config)(say("push it"))


def encode_choice(config: EncoderConfig) -> dict[str, object]:
    return {"type": config.get_choice_name(type(config)), **encode(config)}


def test_a_renamed_model_is_read_anew(folder: Path) -> None:
    first = LanguageModelConfig(str(folder / "bert"))
    second = replace(first, model=str(folder / "gpt2"))
    assert "GPT2Model" in second.architecture
    assert replace(first, length=3).architecture == first.architecture


# ----------------------------------------------------------------------------------------------------- errors


def build(config: EncoderConfig) -> Encoder:
    return config.build(data_spec(), WINDOW, 16)


def test_what_cannot_be_loaded_is_refused(folder: Path, data: DataSpec, tmp_path: Path) -> None:
    for config in (LanguageModelConfig, VisionModelConfig):
        with pytest.raises(ConfigError, match=r"cannot load the model '/nowhere/at/all'.*owner/name"):
            config("/nowhere/at/all")
        with pytest.raises(ConfigError, match="name a `model`"):
            build(config())
    with pytest.raises(ConfigError, match=r"no layer 'encoder.layer.9'. Did you mean"):
        build(LanguageModelConfig(str(folder / "bert"), layer="encoder.layer.9"))
    with pytest.raises(ConfigError, match=r"no camera 'scen'"):
        build(VisionModelConfig(str(folder / "dinov2"), cameras=("scen",)))
    bare = tmp_path / "bare"
    shutil.copytree(folder / "dinov2", bare)
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=r"Set `mean` and `deviation`"):
        build(VisionModelConfig(str(bare)))
    build(VisionModelConfig(str(bare), mean=(0.5,) * 3, deviation=(0.5,) * 3))
    bert = {"model_type": "bert", "hidden_size": 16, "num_attention_heads": 2}
    (bare / "config.json").write_text(json.dumps(bert))
    with pytest.raises(ConfigError, match="has no weights for"):
        build(LanguageModelConfig(str(bare)))


def test_without_the_library_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = LanguageModelConfig(str(folder / "bert"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"wamkit\[pretrained\]"):
        build(config)
