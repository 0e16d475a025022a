"""Next-scale estimator: exact pyramids, causality by scale, cached decoding, a pass per scale, both modes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from estimating import alone, drawn, passes, sample, targets, tiny, told, train
from wamkit.contract.scales import halved
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators import NextScale, NextScaleConfig
from wamkit.estimators.pyramids import Residuals, pyramid_sizes
from wamkit.estimators.token_head import TokenHead
from wamkit.estimators.tokens import StreamTokens

ACTION = StreamSpec("action", "action", 2, 1, 3)
FUTURE = StreamSpec("future", "future", 3, 4, 2)
BOTH = ["future", "action"]
IDS = StreamSpec("future", "future", 2, 1 + 2 + 6, 1, vocabulary=6, scales=halved(((2, 3),), 3))


def build(outputs: tuple[StreamSpec, ...] = (FUTURE, ACTION), **changes: float) -> NextScale:
    model = tiny(NextScaleConfig(hidden=32, **changes), outputs)  # type: ignore[arg-type]
    assert isinstance(model, NextScale)
    return model


def vectors(steps: int, tokens: int, scales: int) -> Residuals:
    stream = StreamTokens(StreamSpec("x", "future", steps, tokens, 3), 8)
    return Residuals(stream, TokenHead(3, 8, 8, 1), scales=scales, steps=1, temperature=1.0, draws=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_the_residuals_of_a_pyramid_sum_to_the_values(
    steps: int, tokens: int, scales: int, seed: int
) -> None:
    values = torch.randn(2, steps, tokens, 3, generator=torch.Generator().manual_seed(seed))
    pyramid = vectors(steps, tokens, scales)
    parts = pyramid.cut(values)
    assert pyramid.sizes[-1] == (steps, tokens)
    assert pyramid.count <= scales
    assert [part.shape[1] for part in parts] == list(pyramid.lengths)
    torch.testing.assert_close(pyramid.whole(parts), values, atol=1e-5, rtol=0)


def test_sizes_halve_and_the_coarsest_of_even_cells_is_the_mean() -> None:
    assert pyramid_sizes(3, 4, 9) == [(1, 1), (2, 2), (3, 4)]
    assert pyramid_sizes(2, 1, 3) == [(1, 1), (2, 1)]
    assert pyramid_sizes(5, 6, 1) == [(5, 6)]
    values = torch.randn(2, 4, 4, 3)
    torch.testing.assert_close(vectors(4, 4, 3).cut(values)[0], values.mean((1, 2))[:, None])


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_scale_reads_the_scales_before_it_and_itself(changed: int) -> None:
    model = build()
    values = drawn((ACTION, FUTURE), 2)
    known = model.known({name: model.pyramids[name].cut(values[name]) for name in BOTH})
    other = [dict(scale) for scale in known]
    other[changed]["future"] = other[changed]["future"] + 1
    with torch.no_grad():
        before, after = (model.hidden(k, BOTH, told(model.trunk, 2)) for k in (known, other))
    assert [set(scale) for scale in before] == [{"future", "action"}, {"future", "action"}, {"future"}]
    for k in range(3):
        for name in before[k]:
            assert torch.equal(before[k][name], after[k][name]) == (k < changed), (k, name)  # bit for bit


@pytest.mark.parametrize("future", [FUTURE, IDS], ids=["vectors", "ids"])
def test_scale_by_scale_from_the_cache_equals_one_block_causal_pass(future: StreamSpec) -> None:
    model = build((future, ACTION))
    conditions: dict[str, list[Tensor]] = {name: [] for name in model.pyramids}
    parts: dict[str, list[Tensor]] = {name: [] for name in model.pyramids}
    for name, pyramid in model.pyramids.items():

        def draw(
            hidden: Tensor,
            noise: RowNoise,
            real: Tensor | None = None,
            name: str = name,
            inner: object = pyramid.draw,
        ) -> Tensor:
            conditions[name].append(hidden)
            parts[name].append(inner(hidden, noise, real))  # type: ignore[operator]
            return parts[name][-1]

        pyramid.draw = draw  # type: ignore[method-assign]
    with torch.no_grad():
        made = model.generate(BOTH, told(model.trunk, 3), Budget(), RowNoise(range(3)))
    for name in BOTH:
        torch.testing.assert_close(model.pyramids[name].whole(parts[name]), made.values[name])
    known = model.known(parts)
    with torch.no_grad():
        whole = model.hidden(known, BOTH, told(model.trunk, 3))
    for k in range(3):
        for name in whole[k]:
            torch.testing.assert_close(whole[k][name], conditions[name][k], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("future", [FUTURE, IDS], ids=["vectors", "ids"])
def test_evaluations_are_the_scales(future: StreamSpec) -> None:
    model = build((future, ACTION))
    context = told(model.trunk, 2)
    calls = passes(model.trunk)
    with torch.no_grad():
        made = model.generate(BOTH, context, Budget(), RowNoise([0, 1]))
    assert made.nfe == {"future": 3, "action": 2}
    assert calls == [3]


def test_an_exit_leaves_a_coarser_stream() -> None:
    model = build((FUTURE,))
    with torch.no_grad():
        made = model.generate(["future"], told(model.trunk, 2), Budget(exit={"future": 1}), RowNoise([0, 1]))
    assert made.nfe == {"future": 1}
    value = made.values["future"]
    torch.testing.assert_close(value, value.mean((1, 2), keepdim=True).expand_as(value))
    with pytest.raises(
        BudgetError, match="exit for stream 'future' is 4; it must be 1 to its nfe, which is 3"
    ):
        model.check_budget(["future"], Budget(exit={"future": 4}))
    with pytest.raises(
        BudgetError, match="nfe for stream 'future' is 5: next_scale spends one evaluation per scale"
    ):
        model.check_budget(["future"], Budget(nfe={"future": 5}))


def test_a_given_stream_is_read_at_every_scale_and_costs_nothing() -> None:
    model = build()
    values = drawn((ACTION, FUTURE), 2)
    with torch.no_grad():
        made = model.generate(
            ["action"], told(model.trunk, 2, {"future": values["future"]}), Budget(), RowNoise([0, 1])
        )
        other = {"future": values["future"] + 1}
        moved = model.generate(["action"], told(model.trunk, 2, other), Budget(), RowNoise([0, 1]))
    assert made.nfe == {"action": 2}
    assert set(made.values) == {"action"}
    assert not torch.allclose(made.values["action"], moved.values["action"])


@pytest.mark.learns
def test_both_modes_of_a_whole_are_recovered_and_never_mixed() -> None:
    """All tokens of a row have one sign, and a ramp of the same sign that only finer scales can show."""
    ramp = torch.tensor([0.7, 0.9, 1.1, 1.3])[:, None]
    model = build((StreamSpec("future", "future", 1, 4, 1),), steps=16)
    train(model, model.trunk, lambda: {"future": (torch.randint(2, (64, 1, 1, 1)) * 2 - 1) * ramp}, 350)
    made = sample(model, model.trunk, "future", 1000)
    signs = made[:, 0, :, 0].sign()
    assert (signs == signs[:, :1]).all(dim=1).float().mean() > 0.95
    assert abs((signs[:, 0] > 0).float().mean().item() - 0.5) < 0.1
    torch.testing.assert_close(made.abs().mean(dim=0)[0], ramp, atol=0.1, rtol=0)


def test_padded_steps_do_not_count() -> None:
    model = build((FUTURE,), scales=1)
    terms = []
    for shift in (0.0, 9.0):
        values = drawn((ACTION, FUTURE), 2)["future"]
        values[:, 2] += shift
        pad = torch.tensor([[False, False, True]]).expand(2, -1)
        torch.manual_seed(3)
        terms.append(
            model.loss(["future"], told(model.trunk, 2), {"future": Target(values, pad)}, None).terms[
                "future"
            ]
        )
    assert torch.equal(terms[0], terms[1])


def test_refusals_name_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"NextScaleConfig\.scales: must be at least 1 .*got 0"):
        NextScaleConfig(scales=0)
    with pytest.raises(ConfigError, match="set its `trunk`"):
        NextScaleConfig().build((ACTION,), (), None)


# ------------------------------------------------------------------------------------------------ scales of ids


def id_logits(model: NextScale, ids: Tensor) -> list[Tensor]:
    """Teacher-forced logits of every scale, (B, n_k, vocabulary)."""
    pyramid = model.pyramids["future"]
    hidden = model.hidden(model.known({"future": pyramid.cut(ids)}), ["future"], told(model.trunk, len(ids)))
    return [pyramid.stream.outward(found["future"]) for found in hidden]


@pytest.mark.parametrize("token", range(IDS.tokens))
@torch.no_grad()
def test_an_id_changes_the_logits_of_finer_scales_and_no_others(token: int) -> None:
    """Not those of its own scale either: all tokens of a scale are made at once. Bit for bit."""
    model = build((IDS,))
    ids = drawn((IDS,), 2)["future"]
    other = ids.clone()
    other[:, 1, token] = (ids[:, 1, token] + 1) % 6
    scale = 0 if token < 1 else 1 if token < 3 else 2
    before, after = id_logits(model, ids), id_logits(model, other)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [k <= scale for k in range(3)]


def test_no_gradient_flows_from_a_scale_to_its_own_ids_or_finer_ones() -> None:
    model = build((IDS,))
    pyramid = model.pyramids["future"]
    known = model.known({"future": pyramid.cut(drawn((IDS,), 2)["future"])})
    for k in range(3):
        told_of = [{"future": scale["future"].detach().requires_grad_()} for scale in known]
        found = model.hidden(told_of, ["future"], told(model.trunk, 2))[k]["future"]
        gradients = torch.autograd.grad(found.square().mul(found).sum(), [s["future"] for s in told_of])
        # What is known at scale j is made of the ids of the scales before j.
        assert [bool(g.any()) for g in gradients] == [j <= k for j in range(3)]


def test_ids_coarse_to_fine_follow_a_joint_distribution() -> None:
    """The coarse id is a coin that is not fair; the fine ones are a pattern of their own for each of its sides."""
    spec = StreamSpec("future", "future", 1, 1 + 4, 1, vocabulary=4, scales=(((1, 1),), ((2, 2),)))
    model = build((spec,))

    def values() -> dict[str, Tensor]:
        coarse = (torch.arange(64)[:, None] % 4 == 0).long()  # a quarter of the rows
        fine = coarse * 2 + torch.tensor([0, 1, 0, 1])
        return {"future": torch.cat((coarse, fine), dim=1)[:, None]}

    train(model, model.trunk, values, 150, rate=1e-2)
    made = sample(model, model.trunk, "future", 2000)[:, 0]
    assert abs((made[:, 0] == 1).float().mean().item() - 0.25) < 0.04  # four standard errors
    expected = made[:, :1] * 2 + torch.tensor([0, 1, 0, 1])
    assert (made[:, 1:] == expected).all(dim=1).float().mean() > 0.97
    assert set(made[:, 0].tolist()) == {0, 1}


def test_an_exit_leaves_ids_that_add_nothing() -> None:
    model = build((IDS,))
    with torch.no_grad():
        whole = model.generate(["future"], told(model.trunk, 2), Budget(), RowNoise([0, 1]))
        made = model.generate(["future"], told(model.trunk, 2), Budget(exit={"future": 2}), RowNoise([0, 1]))
    assert (whole.nfe, made.nfe) == ({"future": 3}, {"future": 2})
    assert torch.equal(made.values["future"][..., :3], whole.values["future"][..., :3])
    assert not made.values["future"][..., 3:].any()
    assert whole.values["future"][..., 3:].any()


def test_the_loss_of_ids_is_chance_at_first_and_leaves_padded_steps_out() -> None:
    model = build((IDS,))
    for parameter in model.pyramids["future"].stream.outward.parameters():
        torch.nn.init.zeros_(parameter)
    known = targets(drawn((IDS,), 3))
    chance = model.loss(["future"], told(model.trunk, 3), known, None).terms["future"].item()
    assert chance == pytest.approx(torch.tensor(6.0).log().item(), rel=1e-5)
    model = build((replace(IDS, tokens=6, scales=()),))  # one scale, so that nobody reads the changed ids
    terms = []
    for shift in (0, 1):
        ids = drawn((IDS,), 2)["future"][..., :6]
        ids[:, 1] = (ids[:, 1] + shift) % 6
        pad = torch.tensor([[False, True]]).expand(2, -1)
        found = model.loss(["future"], told(model.trunk, 2), {"future": Target(ids, pad)}, None)
        terms.append(found.terms["future"])
    assert torch.equal(terms[0], terms[1])


def test_ids_without_scales_are_drawn_in_one_pass() -> None:
    model = build((replace(IDS, tokens=5, scales=()),))
    with torch.no_grad():
        made = model.generate(["future"], alone(model.trunk, 2), Budget(), RowNoise([0, 1]))
    assert made.nfe == {"future": 1}
    assert made.values["future"].shape == (2, 2, 5)


def test_scales_that_are_not_those_of_the_tokens_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"stream 'x': scales .* hold 5 ids, but a step has 4 tokens"):
        StreamSpec("x", "future", 1, 4, 1, vocabulary=3, scales=(((1, 1),), ((2, 2),)))
    with pytest.raises(ConfigError, match="4 tokens of continuous values"):
        StreamSpec("x", "future", 1, 4, 1, scales=(((2, 2),),))
