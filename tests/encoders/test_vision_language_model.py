"""Pictures and instruction in one prefix: both decide, both are read once, the instruction chooses the object."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support import ToyWindows, acting_observation, data_spec
from tiny_models import transformers, vision_language_model, vision_model
from wamkit.contract.protocols import EncoderConfig
from wamkit.contract.types import Batch, Budget, Observation, WindowSpec
from wamkit.design import Design, DesignConfig
from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.encoders import (
    ImagesConfig,
    InstructionConfig,
    VisionLanguageModelConfig,
    VisionLanguageModelEncoder,
)
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.substrates import PixelLatentConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo.cells import Cell

WINDOW = WindowSpec(observation=(-2, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vision_language_model(tmp_path_factory.mktemp("vlm"))


def build(config: VisionLanguageModelConfig, window: WindowSpec = WINDOW) -> VisionLanguageModelEncoder:
    torch.manual_seed(0)
    return config.build(data_spec(), window, 24).eval()


def say(*texts: str, window: WindowSpec = WINDOW) -> Observation:
    seen = acting_observation(ToyWindows(40), [20] * len(texts), window)
    return replace(seen, task=texts)


def test_one_prefix_holds_every_view_and_the_instruction(folder: Path) -> None:
    encoder = build(VisionLanguageModelConfig(str(folder)))
    tokens, pad = encoder(say("push it", "open the red drawer"))
    pictures = 2 * 2 * 4  # views x steps x patches
    assert tokens.shape == (2, pictures + 1 + 4, 24)  # and a start token and the longest instruction
    assert (~pad).sum(dim=1).tolist() == [pictures + 3, pictures + 5]


@pytest.mark.parametrize(("family", "picture"), [("llava", 4), ("idefics3", 4)])
def test_other_families_read_text_and_pictures_too(tmp_path: Path, family: str, picture: int) -> None:
    config = VisionLanguageModelConfig(str(vision_language_model(tmp_path, family)), trainable=True)
    encoder = build(config)
    tokens, pad = encoder(say("push it", "open the red drawer"))
    assert (~pad).sum(dim=1).tolist() == [2 * 2 * picture + 2, 2 * 2 * picture + 4]
    assert not torch.allclose(tokens[0, -1], tokens[1, -1])
    tokens.square().sum().backward()
    grown = [n for n, p in encoder.host.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    for half in ("vision", "language" if family == "llava" else "text"):
        assert any(half in name for name in grown)


def test_the_prefix_is_what_the_model_itself_makes(folder: Path) -> None:
    scene = VisionLanguageModelConfig(str(folder), cameras=("scene",))
    now = say("push the red block", window=WindowSpec())
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    inputs = processor(
        text=["<image>push the red block"], images=[now.images["scene"][0]], return_tensors="pt"
    )
    inputs.pop("labels", None)
    output = model(**inputs, output_hidden_states=True)
    inner = "language_model.layers.0"
    for config, expected in (
        (scene, output.last_hidden_state),
        (replace(scene, layer=inner), output.hidden_states[1]),
    ):
        encoder = build(config, WindowSpec())
        hidden = encoder.host(**encoder.inputs(now))
        torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=1e-5)
        tokens, _ = encoder(now)
        for pool, wanted in (("last", hidden[:, -1]), ("mean", hidden.mean(dim=1))):
            pooled, pad = build(replace(config, pool=pool), WindowSpec())(now)  # type: ignore[arg-type]
            assert pooled.shape == (1, 1, 24)
            assert not pad.any()
            torch.testing.assert_close(pooled[:, 0], encoder.project(wanted) + encoder.kind)
        assert tokens.shape[1] == hidden.shape[1]


def test_both_the_picture_and_the_words_decide(folder: Path) -> None:
    encoder, seen = build(VisionLanguageModelConfig(str(folder), pool="last")), say("push it")
    tokens, _ = encoder(seen)
    assert not torch.allclose(encoder(replace(seen, task=("pull it",)))[0], tokens, atol=1e-4)
    dark = {name: torch.zeros_like(image) for name, image in seen.images.items()}
    assert not torch.allclose(encoder(replace(seen, images=dark))[0], tokens, atol=1e-4)
    crowd, _ = encoder(say("push it", "open the red drawer"))
    torch.testing.assert_close(crowd[:1], tokens, atol=1e-5, rtol=1e-4)  # neighbours do not decide


# ---------------------------------------------------------------------------------------------- whole designs


def policy(encoders: dict[str, EncoderConfig]) -> DesignConfig:
    """An action regressor on this context."""
    trunk = TransformerConfig(width=32, depth=2, heads=2)
    cell = Cell(PixelLatentConfig(), "direct", RegressorConfig(), trunk=trunk, encoders=encoders)
    return replace(cell.design(), width=32)


def test_a_cached_prefix_gives_identical_actions_and_is_computed_once(folder: Path, toy: ToyWindows) -> None:
    design = Design(policy({"prefix": VisionLanguageModelConfig(str(folder))}), data_spec()).eval()
    prefix = design.encoders["prefix"]
    assert isinstance(prefix, VisionLanguageModelEncoder)
    runs: list[int] = []
    prefix.host.model.register_forward_hook(lambda *args: runs.append(1))
    seen = acting_observation(toy, [30, 60], design.window)
    context = design.encode_context(seen)
    cached = [design.sample(seen, ["action"], seeds=[1, 2], context=context) for _ in range(3)]
    assert len(runs) == 1
    again = design.sample(seen, ["action"], seeds=[1, 2])
    assert len(runs) == 2
    assert all(torch.equal(c.values["action"], again.values["action"]) for c in cached)


def test_the_processor_travels_with_the_checkpoint(folder: Path, tmp_path: Path, toy: ToyWindows) -> None:
    mine = tmp_path / "vlm"
    shutil.copytree(folder, mine)
    design = Design(policy({"prefix": VisionLanguageModelConfig(str(mine))}), data_spec()).eval()
    save_pretrained(design, tmp_path / "model")
    seen = acting_observation(toy, [30, 60], design.window)
    expected = design.forecast(seen, design.initial_state(2), Budget(), [1, 2])[0].action
    shutil.rmtree(mine)
    again = from_pretrained(tmp_path / "model")
    assert torch.equal(again.forecast(seen, again.initial_state(2), Budget(), [1, 2])[0].action, expected)


RED, BLUE = (220, 30, 30), (30, 30, 220)


def two_objects(sides: list[int], colours: list[str], seed: int = 0) -> Observation:
    """Red on this side (1 right, -1 left), blue on the other, at any height; pick the one of this colour."""
    g = torch.Generator().manual_seed(seed)
    pictures = torch.full((len(sides), 1, 3, 32, 32), 60, dtype=torch.uint8)
    for i, side in enumerate(sides):
        for colour, at in ((RED, side), (BLUE, -side)):
            row, column = int(torch.randint(2, 22, (), generator=g)), 16 + 8 * at - 4
            pictures[i, 0, :, row : row + 8, column : column + 8] = torch.tensor(colour)[:, None, None]
    return Observation(
        images={"scene": pictures, "gripper": torch.zeros_like(pictures)},
        state=torch.zeros(len(sides), 1, 4),
        task=tuple(f"pick the {colour} block" for colour in colours),
        pad=torch.zeros(len(sides), 1, dtype=torch.bool),
    )


def demonstrations(seed: int, horizon: int) -> Batch:
    """Move to the side of the object that is named."""
    g = torch.Generator().manual_seed(seed)
    sides = [1 - 2 * int(x) for x in torch.randint(2, (32,), generator=g)]
    # Unequal shares: with equal ones nothing is to be gained from either the picture or the words alone.
    colours = [("red", "blue")[int(x > 0.7)] for x in torch.rand(32, generator=g)]
    aim = [side if colour == "red" else -side for side, colour in zip(sides, colours, strict=True)]
    action = torch.zeros(32, horizon, 4)
    action[..., 0] = 0.7 * torch.tensor(aim)[:, None]
    pad = torch.zeros(32, horizon, dtype=torch.bool)
    return Batch(two_objects(sides, colours, seed), action, pad)


@pytest.mark.learns
@pytest.mark.parametrize(
    ("joint", "rate", "steps"),
    [(False, 2e-3, 160), (True, 1e-3, 270)],
    ids=["images+instruction", "vision_language_model"],
)
def test_swapping_the_instruction_flips_the_object_that_is_chosen(
    folder: Path, joint: bool, rate: float, steps: int
) -> None:
    apart: dict[str, EncoderConfig] = {
        "images": ImagesConfig(channels=(16, 16), features=8, shift=0),
        "instruction": InstructionConfig(hidden=16),
    }
    one: dict[str, EncoderConfig] = {
        "prefix": VisionLanguageModelConfig(str(folder), cameras=("scene",), trainable=True)
    }
    torch.manual_seed(0)
    design = Design(policy(one if joint else apart), data_spec()).train()
    optimizer = torch.optim.AdamW(design.parameters(), lr=rate)
    for step in range(steps):
        loss = design.loss(demonstrations(step, design.config.horizon)).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(design.parameters(), 1.0)
        optimizer.step()
    design.eval()
    sides = [1, -1] * 16
    moves = {}
    for colour in ("red", "blue"):
        seen = two_objects(sides, [colour] * 32, seed=10_000)
        moves[colour] = design.forecast(seen, design.initial_state(32), Budget(), range(32))[0].action[..., 0]
    side = torch.tensor(sides)[:, None]
    assert ((moves["red"] - 0.7 * side).abs() < 0.35).all()
    assert ((moves["blue"] + 0.7 * side).abs() < 0.35).all()  # the same pictures, the other object


def test_what_cannot_be_loaded_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot load the model '/nowhere/at/all'"):
        VisionLanguageModelConfig("/nowhere/at/all")
    with pytest.raises(ConfigError, match=r"no camera 'scen'"):
        build(VisionLanguageModelConfig(str(folder), cameras=("scen",)))
    with pytest.raises(ConfigError, match=r"must hold both"):
        build(VisionLanguageModelConfig(str(folder), prompt="{task}"))
    alone = vision_model(tmp_path / "dino")
    with pytest.raises(ConfigError, match=r"does not read text and pictures together"):
        build(VisionLanguageModelConfig(str(alone)))
