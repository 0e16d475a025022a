"""Several action streams in one design: binned tokens beside a continuous chunk, and heads that own columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import BinsConfig, ChunkConfig, ColumnsConfig, FastConfig
from wamkit.contract.protocols import TrunkConfig
from wamkit.contract.types import Batch, Budget
from wamkit.design import Design, DesignConfig, Factor, from_pretrained, save_pretrained
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import AutoregressorConfig, DenoiserConfig, RegressorConfig
from wamkit.trunks import MixtureConfig, TransformerConfig
from wamkit.zoo.backbones import language_model

HORIZON = 8
WINDOWS = ToyWindows(60)
ARM, HAND = ("dx", "dy", "dz"), ("grip",)
# The language model writes the tokens; the expert that denoises sends no gradient into it.
FREE = {
    "mixture": MixtureConfig(experts={"words": ("tokens",), "flow": ("action",)}, width=16, depth=2, heads=2),
    "language model": replace(language_model(("tokens",)), width=16),
}
INSULATED = {
    "mixture": replace(FREE["mixture"], insulated=("flow",)),
    "language model": replace(FREE["language model"], learning="insulated"),
}


def both(trunk: TrunkConfig, read: tuple[str, ...] = ()) -> DesignConfig:
    """Binned tokens and a continuous chunk of the same action on one trunk (as pi0.5)."""
    return DesignConfig(
        name="both",
        horizon=HORIZON,
        width=16,
        encoders={"state": StateConfig()},
        action=ChunkConfig(),
        actions={"tokens": BinsConfig(bins=32, ticks_per_token=2)},
        trunks={"main": trunk},
        estimators={"words": AutoregressorConfig(), "flow": DenoiserConfig(steps=2)},
        factors=(Factor(("tokens",), (), "words"), Factor(("action",), read, "flow")),
    )


def heads(*factors: Factor, **changes: object) -> DesignConfig:
    """An arm and a hand, a head each."""
    config = DesignConfig(
        name="heads",
        horizon=HORIZON,
        width=16,
        encoders={"state": StateConfig()},
        action=ColumnsConfig(HAND, BinsConfig(bins=16)),
        actions={"arm": ColumnsConfig(ARM)},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
        estimators={"arm": RegressorConfig(), "hand": AutoregressorConfig()},
        factors=factors or (Factor(("arm",), (), "arm"), Factor(("action",), (), "hand")),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def made(config: DesignConfig) -> Design:
    torch.manual_seed(0)
    return Design(config, data_spec())


def cut(design: Design, *index: int) -> Batch:
    return WINDOWS.windows(np.array(index), design.training_window)


def pull(design: Design, stream: str, into: Sequence[str]) -> float:
    """Largest entry of the gradient of one stream's loss in the parameters whose names begin so."""
    design.zero_grad()
    design.loss(cut(design, 5, 20)).terms[stream].backward()
    found = [
        p.grad for name, p in design.named_parameters() if name.startswith(tuple(into)) and p.requires_grad
    ]
    assert found
    return max((float(gradient.abs().max()) for gradient in found if gradient is not None), default=0.0)


@pytest.mark.parametrize("kind", FREE)
def test_insulated_only_the_tokens_train_the_trunk_that_both_read(kind: str) -> None:
    design = made(both(INSULATED[kind]))
    shared = ["encoders.", "context.", "trunks.main.model.", "trunks.main.experts.context."]
    assert pull(design, "tokens", shared) > 0
    assert pull(design, "action", shared) == 0.0
    assert pull(design, "action", ["estimators.flow.outputs"]) > 0
    assert pull(made(both(FREE[kind])), "action", shared) > 0


def test_what_is_derived_and_what_is_skipped_when_acting() -> None:
    """Tokens that the executed action is not generated from are trained, and cost nothing when acting."""
    for read, formula, spent in (
        ((), "p(a2|c) p(a1|c)", {"action"}),
        (("tokens",), "p(a2|c) p(a1|a2,c)", {"action", "tokens"}),
    ):
        design = made(both(FREE["mixture"], read)).eval()
        facts = design.describe()
        assert (facts["formula"], facts["kind"], facts["tuple"]["coupling"]) == (formula, "VLA", "Direct")
        assert facts["streams"]["tokens"] == [4, 4, 1]
        assert set(design.loss(cut(design, 5)).terms) == {"tokens", "action"}
        seen = acting_observation(WINDOWS, [5, 9], design.window)
        forecast, _ = design.forecast(seen, design.initial_state(2), Budget(), [0, 1])
        assert set(forecast.nfe) == spent
        assert forecast.action.shape == (2, HORIZON, 4)


def test_both_streams_are_the_same_action() -> None:
    design = made(both(INSULATED["mixture"]))
    batch, fine = cut(design, 5, 20), 2 / 32
    targets = design.targets(batch)
    tokens = design.actions["tokens"].decode(targets["tokens"].values)  # type: ignore[operator]
    chunk = design.action.decode(targets["action"].values)  # type: ignore[operator]
    torch.testing.assert_close(chunk, batch.action)
    held = batch.action.unflatten(1, (4, 2)).mean(dim=2).repeat_interleave(2, dim=1)
    torch.testing.assert_close(tokens, held, atol=fine, rtol=0)


def test_heads_own_columns_and_the_executed_action_is_made_of_all() -> None:
    design = made(heads()).eval()
    assert design.graph.executed == ("action", "arm")
    assert {name: spec.features * spec.tokens for name, spec in design.streams.items()} == {
        "action": 1,
        "arm": 3,
    }
    batch = cut(design, 5, 20)
    values = {name: target.values for name, target in design.targets(batch).items()}
    whole = design.action_streams.decode(values)
    torch.testing.assert_close(whole[..., :3], batch.action[..., :3])
    torch.testing.assert_close(whole[..., 3], batch.action[..., 3], atol=2 / 16, rtol=0)
    seen = acting_observation(WINDOWS, [5, 9], design.window)
    forecast, _ = design.forecast(seen, design.initial_state(2), Budget(), [0, 1])
    assert set(forecast.nfe) == {"action", "arm"}
    assert forecast.action.shape == (2, HORIZON, 4)
    for stream, column in (("arm", 3), ("action", 0)):  # no head learns from the other's columns
        changed = batch.action.clone()
        changed[..., column] += 0.3
        assert torch.equal(
            design.loss(batch).terms[stream], design.loss(replace(batch, action=changed)).terms[stream]
        )


@pytest.mark.parametrize("config", [both(INSULATED["mixture"]), heads()], ids=["both", "heads"])
def test_saved_and_loaded_it_acts_the_same(config: DesignConfig, tmp_path: Path) -> None:
    if "tokens" in config.actions:
        config = replace(config, actions={"tokens": FastConfig(vocabulary=256)})
    design = made(config)
    design.fit(WINDOWS, 0)
    if "tokens" in config.actions:  # fitted as the only stream would be
        assert (design.actions["tokens"].merges >= 0).any()  # type: ignore[operator]
    save_pretrained(design.eval(), tmp_path)
    again = from_pretrained(tmp_path)
    seen = acting_observation(WINDOWS, [5, 9], design.window)
    first, second = (
        d.forecast(seen, d.initial_state(2), Budget(), [0, 1])[0].action for d in (design, again)
    )
    assert torch.equal(first, second)
    assert set(design.parts()) >= {"action", *(f"actions.{name}" for name in config.actions)}


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no factor generates: arm"):
        made(heads(Factor(("action",), (), "hand"), estimators={"hand": AutoregressorConfig()}))
    with pytest.raises(ConfigError, match=r"no stream owns the entries \['dx', 'dz'\]"):
        made(heads(actions={"arm": ColumnsConfig(("dy",))}))
    with pytest.raises(ConfigError, match=r"'arm' and \['action'\] both own \['grip'\]"):
        made(heads(actions={"arm": ColumnsConfig((*ARM, *HAND))}))
    with pytest.raises(ConfigError, match=r"no entry 'dw'. Known: dx"):
        made(heads(actions={"arm": ColumnsConfig(("dx", "dw"))}))
    with pytest.raises(ConfigError, match="two streams are called 'action'"):
        made(heads(actions={"action": ChunkConfig()}))
    read = (Factor(("action",), ("arm",), "hand"),)
    with pytest.raises(ConfigError, match=r"given: \['arm'\] own entries of the executed action"):
        made(heads(*read, given=("arm",), estimators={"hand": AutoregressorConfig()}))
