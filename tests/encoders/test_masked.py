"""Encoders that hide blocks in training, predictors that count them, and instructions as sets of phrases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support import ToyWindows, acting_observation, data_spec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import (
    GoalImageConfig,
    ImagesConfig,
    InstructionConfig,
    MaskedConfig,
    MaskedEncoder,
    StateConfig,
)
from wamkit.encoders.instruction import phrases_of
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.substrates import EmaFeatureConfig
from wamkit.trunks import TransformerConfig

WINDOWS = ToyWindows(80)
GRID = ImagesConfig(patch=2, channels=(8,), pool="grid", shift=0)


def encoder(**fields: object) -> MaskedEncoder:
    torch.manual_seed(0)
    config = MaskedConfig(**{"inner": GRID, **fields})  # type: ignore[arg-type]
    return config.build(data_spec(), WindowSpec(observation=(-4, 0)), 16)


def seen(*frames: int) -> Observation:
    return acting_observation(WINDOWS, list(frames), WindowSpec(observation=(-4, 0)))


def test_tubes_are_hidden_in_training_and_nothing_is_when_acting() -> None:
    net = encoder(blocks=1)
    tokens, pad = net.train()(seen(20, 30))
    grids = pad.unflatten(1, (-1, 16))  # views and steps
    assert torch.equal(grids, grids[:, :1].expand_as(grids)), "another region in another frame"
    assert torch.equal(grids[:, 0].sum(dim=1), torch.tensor([4, 4]))  # two of four rows, two of four columns
    plain, shown = net.eval()(seen(20, 30))
    assert tokens.shape == plain.shape
    assert not shown.any()


def test_a_curriculum_grows_the_blocks() -> None:
    net = encoder(blocks=1, curriculum=4).train()
    sizes = [int(net(seen(20))[1][0, :16].sum()) for _ in range(6)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 4)


def test_never_all_and_never_nothing_is_hidden() -> None:
    net = encoder(blocks=4, share=1.0)
    hidden = net.draw(64, torch.device("cpu")).flatten(1)
    assert bool(hidden.any(dim=1).all())
    assert not bool(hidden.all(dim=1).any())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="reads the goal"):
        encoder(inner=GoalImageConfig())
    with pytest.raises(ConfigError, match="nothing to hide"):
        encoder(rows=1, columns=1)
    with pytest.raises(ConfigError, match="no grids of 3 x 5"):
        encoder(rows=3, columns=5).train()(seen(20))


def predictor(encoders: dict[str, object]) -> Design:
    torch.manual_seed(0)
    config = DesignConfig(
        name="masked",
        horizon=8,
        width=16,
        encoders=encoders,  # type: ignore[arg-type]
        substrates={"own": EmaFeatureConfig("seen")},
        futures={"future": FutureConfig("own", (1,))},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
        estimators={"world": RegressorConfig(where="hidden")},
        factors=(Factor(("future",), (), "world"),),
    )
    return Design(config, data_spec())


def test_hidden_tokens_are_those_of_one_encoder() -> None:
    masked = MaskedConfig(inner=GRID)
    batch = WINDOWS.windows([10, 20], predictor({"seen": masked}).training_window)  # type: ignore[arg-type]
    assert predictor({"seen": masked}).train().loss(batch).total > 0
    with pytest.raises(ConfigError, match="the context has 33 tokens and stream 'future' 32"):
        predictor({"seen": masked, "state": StateConfig()}).train().loss(batch)


def test_phrases_are_a_set() -> None:
    assert phrases_of("Pick up the cup, and put it on the shelf.") == [
        "pick up the cup",
        "put it",
        "the shelf",
    ]
    assert phrases_of("") == [""]
    torch.manual_seed(0)
    net = InstructionConfig(phrases=3).build(data_spec(), WindowSpec(), 16)
    one, *others = (
        replace(seen(20), task=(text,))
        for text in ("lift it, open it", "open it and lift it", "lift it, shut it")
    )
    tokens, pad = net(one)
    assert tokens.shape == (1, 3, 16)
    assert pad.tolist() == [[False, False, True]]
    swapped, other = (net(some)[0] for some in others)
    assert torch.equal(tokens[:, [1, 0]], swapped[:, :2])
    assert torch.equal(tokens[:, 0], other[:, 0])
    assert not torch.equal(tokens[:, 1], other[:, 1])
