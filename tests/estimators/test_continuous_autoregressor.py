"""Continuous next-token estimator: causality, cached decoding, a per-token flow that keeps both modes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from estimating import drawn, passes, sample, targets, tiny, told, train
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators import ContinuousAutoregressor, ContinuousAutoregressorConfig
from wamkit.trunks import TransformerConfig

ACTION = StreamSpec("action", "action", 4, 1, 2, ticks_per_step=2)
FUTURE = StreamSpec("future", "future", 2, 3, 5)
BOTH = ["action", "future"]
LENGTH = ACTION.length + FUTURE.length


def build(
    outputs: tuple[StreamSpec, ...] = (ACTION, FUTURE), segments: int = 2, **changes: float
) -> ContinuousAutoregressor:
    config = ContinuousAutoregressorConfig(segments=segments, hidden=32, **changes)  # type: ignore[arg-type]
    model = tiny(config, outputs)
    assert isinstance(model, ContinuousAutoregressor)
    return model


def place(j: int) -> tuple[str, int, int]:
    """Stream, step and token of element j of the order a a | s s s | a a | s s s."""
    half, i = divmod(j, LENGTH // 2)
    return ("action", 2 * half + i, 0) if i < 2 else ("future", half, i - 2)


@pytest.mark.parametrize("j", range(LENGTH))
def test_changing_element_j_never_changes_outputs_up_to_it(j: int) -> None:
    model = build()
    values = drawn((ACTION, FUTURE), 2)
    changed = {name: value.clone() for name, value in values.items()}
    stream, step, token = place(j)
    changed[stream][:, step, token] += 1
    with torch.no_grad():
        before, after = (model.hidden(v, BOTH, told(model.trunk, 2)) for v in (values, changed))
    same = (before == after).all(dim=-1).all(dim=0).tolist()  # bit for bit
    assert same == [i <= j for i in range(LENGTH)]


def test_cached_decoding_equals_the_uncached_flow() -> None:
    """Element by element from the cache, and all at once from the generated values under the same noise."""
    model = build()
    with torch.no_grad():
        made = model.generate(BOTH, told(model.trunk, 3), Budget(), RowNoise(range(3))).values
        hidden = model.hidden(made, BOTH, told(model.trunk, 3))
        noise = RowNoise(range(3))
        for j in range(LENGTH):
            stream, step, token = place(j)
            again = model.draw(stream, hidden[:, j], noise)
            torch.testing.assert_close(again, made[stream][:, step, token], atol=1e-5, rtol=1e-5)
    assert made["future"].std() > 0.1  # not a constant


def test_the_trunk_runs_once_per_token_and_stops_at_the_horizon() -> None:
    model = build()
    context = told(model.trunk, 2)
    calls = passes(model.trunk)
    with torch.no_grad():
        whole = model.generate(BOTH, context, Budget(), RowNoise([0, 1]))
        assert calls == [LENGTH]
        short = model.generate(["action"], context, Budget(horizon=4), RowNoise([0, 1]))
    assert whole.nfe == {"action": ACTION.length, "future": FUTURE.length}
    assert short.nfe == {"action": 2}
    assert torch.equal(short.values["action"], whole.values["action"][:, :2])


def test_forced_vectors_cost_nothing_and_are_read() -> None:
    model = build()
    known = drawn((ACTION, FUTURE), 2)["action"]
    with torch.no_grad():
        free = model.generate(BOTH, told(model.trunk, 2), Budget(), RowNoise([0, 1]))
        forced = model.generate(
            ["future"], told(model.trunk, 2, {"action": known}), Budget(), RowNoise([0, 1])
        )
        own = {"action": free.values["action"]}
        again = model.generate(["future"], told(model.trunk, 2, own), Budget(), RowNoise([0, 1]))
    assert forced.nfe == {"future": FUTURE.length}
    assert not torch.allclose(forced.values["future"], free.values["future"])
    assert again.values["future"].isfinite().all()


def bimodal() -> dict[str, Tensor]:
    """Two tokens at +1 or -1 each by a coin of its own; the third is the product of both."""
    signs = torch.randint(2, (128, 2)).float() * 2 - 1
    return {"action": torch.cat((signs, signs.prod(dim=1, keepdim=True)), dim=1)[:, :, None, None]}


@pytest.mark.learns
def test_both_modes_of_every_token_are_recovered_and_later_tokens_follow_earlier_ones() -> None:
    model = build((StreamSpec("action", "action", 3, 1, 1),), segments=1, steps=16)
    train(model, model.trunk, bimodal, 500)
    made = sample(model, model.trunk, "action", 1000)
    chain = made[:, :, 0, 0]
    assert ((chain.abs() - 1).abs() < 0.3).float().mean() > 0.9  # near a mode, not their mean
    share = (chain[:, :2] > 0).float().mean(dim=0)
    assert ((share - 0.5).abs() < 0.1).all()
    assert (chain[:, 2].sign() == chain[:, :2].sign().prod(dim=1)).float().mean() > 0.9


def test_padded_steps_do_not_count() -> None:
    model = build()
    terms = []
    for shift in (0.0, 9.0):
        values = drawn((ACTION, FUTURE), 2)
        values["future"][:, 1] += shift  # the last piece: nothing reads it
        known = targets(values)
        known["future"].pad[:, 1] = True
        torch.manual_seed(3)
        terms.append(model.loss(BOTH, told(model.trunk, 2), known, None).terms)
    assert torch.equal(terms[0]["action"], terms[1]["action"])
    assert torch.equal(terms[0]["future"], terms[1]["future"])


def test_refusals_name_the_way_out() -> None:
    trunk = TransformerConfig(width=16, depth=1, heads=2).build()
    ids = StreamSpec("action", "action", 4, 2, 1, vocabulary=5)
    with pytest.raises(ConfigError, match=r"'action' carries 5 token ids.*needs continuous values"):
        ContinuousAutoregressorConfig().build((ids,), (), trunk)
    with pytest.raises(ConfigError, match="segments 3 does not divide the 4 steps of stream 'action'"):
        ContinuousAutoregressorConfig(segments=3).build((ACTION,), (), trunk)
    with pytest.raises(
        ConfigError, match=r"ContinuousAutoregressorConfig\.draws: must be at least 1 .*got 0"
    ):
        ContinuousAutoregressorConfig(draws=0)
    with pytest.raises(BudgetError, match="one evaluation per token"):
        build().check_budget(BOTH, Budget(nfe={"action": 1}))
