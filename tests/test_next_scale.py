"""Next-scale estimator: exact pyramids, causality by scale, cached decoding, a pass per scale, both modes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wamkit.calls import Call
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators import NextScale, NextScaleConfig
from wamkit.estimators.next_scale import decompose, pyramid_sizes, resize
from wamkit.streams import RowNoise, StreamSpec, Target
from wamkit.trunks import TransformerConfig
from wamkit.types import Budget

ACTION = StreamSpec("action", "action", 2, 1, 3)
FUTURE = StreamSpec("future", "future", 3, 4, 2)
BOTH = ["future", "action"]


def build(outputs: tuple[StreamSpec, ...] = (FUTURE, ACTION), **changes: float) -> NextScale:
    torch.manual_seed(0)
    trunk = TransformerConfig(width=16, depth=2, heads=2).build()
    config = NextScaleConfig(hidden=32, **changes)  # type: ignore[arg-type]
    return config.build(outputs, (), trunk).eval()


def call(model: NextScale, rows: int, known: dict[str, Tensor] | None = None) -> Call:
    tokens = torch.randn(rows, 3, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return Call(model.trunk(tokens)[1], known or {}, (), rows)


def random_values(rows: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    return {s.name: torch.randn(rows, s.steps, s.tokens, s.features, generator=g) for s in (ACTION, FUTURE)}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_the_residuals_of_a_pyramid_sum_to_the_values(
    steps: int, tokens: int, scales: int, seed: int
) -> None:
    values = torch.randn(2, steps, tokens, 3, generator=torch.Generator().manual_seed(seed))
    sizes = pyramid_sizes(steps, tokens, scales)
    residuals, known = decompose(values, sizes)
    assert sizes[-1] == (steps, tokens)
    assert len(sizes) <= scales
    assert [tuple(r.shape[1:3]) for r in residuals] == sizes
    total = sum((resize(r, sizes[-1]) for r in residuals), torch.zeros_like(values))
    torch.testing.assert_close(total, values, atol=1e-5, rtol=0)
    assert torch.equal(known[0], torch.zeros_like(values))


def test_sizes_halve_and_the_coarsest_of_even_cells_is_the_mean() -> None:
    assert pyramid_sizes(3, 4, 9) == [(1, 1), (2, 2), (3, 4)]
    assert pyramid_sizes(2, 1, 3) == [(1, 1), (2, 1)]
    assert pyramid_sizes(5, 6, 1) == [(5, 6)]
    values = torch.randn(2, 4, 4, 3)
    torch.testing.assert_close(
        decompose(values, pyramid_sizes(4, 4, 3))[0][0], values.mean((1, 2), keepdim=True)
    )


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_scale_reads_the_scales_before_it_and_itself(changed: int) -> None:
    model = build()
    values = random_values(2)
    sums = {name: decompose(values[name], model.sizes[name])[1] for name in BOTH}
    known = [{name: sums[name][k] for name in BOTH if k < len(sums[name])} for k in range(3)]
    other = [dict(scale) for scale in known]
    other[changed]["future"] = other[changed]["future"] + 1
    with torch.no_grad():
        before, after = (model.hidden(k, BOTH, call(model, 2)) for k in (known, other))
    assert [set(scale) for scale in before] == [{"future", "action"}, {"future", "action"}, {"future"}]
    for k in range(3):
        for name in before[k]:
            assert torch.equal(before[k][name], after[k][name]) == (k < changed), (k, name)  # bit for bit


def test_scale_by_scale_from_the_cache_equals_one_block_causal_pass() -> None:
    model = build()
    conditions: dict[str, list[Tensor]] = {name: [] for name in BOTH}
    residuals: dict[str, list[Tensor]] = {name: [] for name in BOTH}
    for name in BOTH:
        head = model._head(name)

        def draw(c: Tensor, *rest: object, name: str = name, inner: object = head.draw) -> Tensor:
            conditions[name].append(c)
            residuals[name].append(inner(c, *rest))  # type: ignore[operator]
            return residuals[name][-1]

        head.draw = draw  # type: ignore[method-assign, assignment]
    with torch.no_grad():
        made = model.generate(BOTH, call(model, 3), Budget(), RowNoise(range(3)))
    sums: dict[str, list[Tensor]] = {}
    for name in BOTH:
        sums[name] = [torch.zeros_like(made.values[name])]
        for residual, size in zip(residuals[name], model.sizes[name], strict=True):
            sums[name].append(sums[name][-1] + resize(residual.unflatten(1, size), model.sizes[name][-1]))
        torch.testing.assert_close(sums[name][-1], made.values[name])
    known = [{n: sums[n][k] for n in BOTH if k < len(model.sizes[n])} for k in range(3)]
    with torch.no_grad():
        whole = model.hidden(known, BOTH, call(model, 3))
    for k in range(3):
        for name in whole[k]:
            torch.testing.assert_close(whole[k][name], conditions[name][k], atol=1e-5, rtol=1e-5)


def test_evaluations_are_the_scales() -> None:
    model = build()
    calls = [0]
    context = call(model, 2)
    model.trunk.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    with torch.no_grad():
        made = model.generate(BOTH, context, Budget(), RowNoise([0, 1]))
    assert made.nfe == {"future": 3, "action": 2}
    assert calls == [3]


def test_an_exit_leaves_a_coarser_stream() -> None:
    model = build((FUTURE,))
    with torch.no_grad():
        made = model.generate(["future"], call(model, 2), Budget(exit={"future": 1}), RowNoise([0, 1]))
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
    values = random_values(2)
    with torch.no_grad():
        made = model.generate(
            ["action"], call(model, 2, {"future": values["future"]}), Budget(), RowNoise([0, 1])
        )
        other = {"future": values["future"] + 1}
        moved = model.generate(["action"], call(model, 2, other), Budget(), RowNoise([0, 1]))
    assert made.nfe == {"action": 2}
    assert set(made.values) == {"action"}
    assert not torch.allclose(made.values["action"], moved.values["action"])


def test_both_modes_of_a_whole_are_recovered_and_never_mixed() -> None:
    """All tokens of a row have one sign, and a ramp of the same sign that only finer scales can show."""
    spec = StreamSpec("future", "future", 1, 4, 1)
    ramp = torch.tensor([0.7, 0.9, 1.1, 1.3])[:, None]
    model = build((spec,), steps=16).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _ in range(350):
        sign = torch.randint(2, (64, 1, 1, 1)).float() * 2 - 1
        target = {"future": Target(sign * ramp, torch.zeros(64, 1, dtype=torch.bool))}
        loss = model.loss(["future"], Call(model.trunk.empty(64, 1), {}, (), 64), target, None).terms[
            "future"
        ]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rows = 1000
    with torch.no_grad():
        empty = Call(model.trunk.empty(rows, 1), {}, (), rows)
        made = model.eval().generate(["future"], empty, Budget(), RowNoise([0], copies=rows)).values["future"]
    signs = made[:, 0, :, 0].sign()
    assert (signs == signs[:, :1]).all(dim=1).float().mean() > 0.95
    assert abs((signs[:, 0] > 0).float().mean().item() - 0.5) < 0.1
    torch.testing.assert_close(made.abs().mean(dim=0)[0], ramp, atol=0.1, rtol=0)


def test_padded_steps_do_not_count() -> None:
    model = build((FUTURE,), scales=1)
    terms = []
    for shift in (0.0, 9.0):
        values = random_values(2)["future"]
        values[:, 2] += shift
        pad = torch.tensor([[False, False, True]]).expand(2, -1)
        torch.manual_seed(3)
        terms.append(
            model.loss(["future"], call(model, 2), {"future": Target(values, pad)}, None).terms["future"]
        )
    assert torch.equal(terms[0], terms[1])


def test_refusals_name_the_way_out() -> None:
    trunk = TransformerConfig(width=16, depth=1, heads=2).build()
    ids = StreamSpec("action", "action", 4, 2, 1, vocabulary=5)
    with pytest.raises(ConfigError, match=r"'action' carries 5 token ids.*needs continuous values"):
        NextScaleConfig().build((ids,), (), trunk)
    with pytest.raises(ConfigError, match="scales 0 must be at least 1"):
        NextScaleConfig(scales=0).build((ACTION,), (), trunk)
    with pytest.raises(ConfigError, match="set its `trunk`"):
        NextScaleConfig().build((ACTION,), (), None)
