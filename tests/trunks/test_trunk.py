"""Trunk and cache: cached equals uncached, masks and padding have exactly no influence, time is relative."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.errors import ConfigError
from wamkit.trunks import Transformer, TransformerConfig

READ = torch.linspace(-1, 2, 16) ** 3  # reads a hidden token; a plain sum is constant after the layer norm


def trunk(time_range: int = 0) -> Transformer:
    torch.manual_seed(0)
    model = TransformerConfig(width=16, depth=2, heads=2, time_range=time_range).build().eval()
    if model.time_bias is not None:
        torch.nn.init.normal_(model.time_bias)
    return model


def prefix_mask(prefix: int, total: int) -> Tensor:
    """The prefix reads itself; the rest reads everything."""
    mask = torch.ones(total, total, dtype=torch.bool)
    mask[:prefix, prefix:] = False
    return mask


@settings(max_examples=20, deadline=None)
@given(prefix=st.integers(1, 6), rest=st.integers(1, 6), seed=st.integers(0, 999))
def test_cached_prefix_equals_one_pass(prefix: int, rest: int, seed: int) -> None:
    model = trunk()
    tokens = torch.randn(2, prefix + rest, 16, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        whole, _ = model(tokens, attend=prefix_mask(prefix, prefix + rest))
        first, cache = model(tokens[:, :prefix])
        second, _ = model(tokens[:, prefix:], cache=cache)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole, atol=1e-5, rtol=1e-5)


def test_decoding_one_by_one_equals_a_causal_pass() -> None:
    model = trunk(time_range=3)
    tokens, times = torch.randn(2, 7, 16), torch.arange(7).expand(2, -1)
    cache, hidden = model.empty(2, 0), []
    with torch.no_grad():
        whole, _ = model(tokens, attend=torch.ones(7, 7, dtype=torch.bool).tril(), times=times)
        for i in range(7):
            out, fresh = model(tokens[:, i : i + 1], cache=cache, times=times[:, i : i + 1])
            cache = cache.append(fresh)
            hidden.append(out)
    torch.testing.assert_close(torch.cat(hidden, dim=1), whole, atol=1e-5, rtol=1e-5)


def test_padded_tokens_have_exactly_no_influence() -> None:
    model = trunk()
    tokens = torch.randn(2, 5, 16, requires_grad=True)
    pad = torch.tensor([[False, False, True, False, True], [True, False, False, False, False]])
    hidden, _ = model(tokens, pad=pad)
    (gradient,) = torch.autograd.grad((hidden[~pad] @ READ).sum(), tokens)
    assert gradient[pad].abs().max() == 0
    assert (gradient[~pad].abs().amax(dim=-1) > 0).all()
    alone, _ = model(tokens[:1, [0, 1, 3]])
    torch.testing.assert_close(hidden[0, [0, 1, 3]], alone[0], atol=1e-5, rtol=1e-5)


def test_padded_cache_has_exactly_no_influence() -> None:
    model = trunk()
    context = torch.randn(1, 4, 16, requires_grad=True)
    pad = torch.tensor([[False, True, False, True]])
    _, cache = model(context, pad=pad)
    hidden, _ = model(torch.randn(1, 3, 16), cache=cache)
    (gradient,) = torch.autograd.grad((hidden @ READ).sum(), context)
    assert gradient[pad].abs().max() == 0
    assert (gradient[~pad].abs().amax(dim=-1) > 0).all()


def test_an_empty_cache_changes_nothing_and_a_fully_padded_row_stays_finite() -> None:
    model = trunk()
    tokens = torch.randn(2, 3, 16)
    with torch.no_grad():
        plain, _ = model(tokens)
        beside, _ = model(tokens, cache=model.empty(2, 5))
        padded, _ = model(tokens, cache=model.empty(2, 5), pad=torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(beside, plain, atol=1e-6, rtol=1e-6)
    assert padded.isfinite().all()


@settings(max_examples=20, deadline=None)
@given(bits=st.lists(st.booleans(), min_size=25, max_size=25))
def test_a_token_depends_exactly_on_what_it_may_attend_to(bits: list[bool]) -> None:
    model = TransformerConfig(width=16, depth=1, heads=2).build()  # one layer: no influence by way of others
    mask = torch.tensor(bits).view(5, 5) | torch.eye(5, dtype=torch.bool)
    tokens = torch.randn(1, 5, 16, requires_grad=True)
    hidden, _ = model(tokens, attend=mask)
    for i in range(5):
        (gradient,) = torch.autograd.grad(hidden[0, i] @ READ, tokens, retain_graph=True)
        assert torch.equal(gradient[0].abs().amax(dim=-1) > 0, mask[i])


def test_a_mask_per_row_is_honoured() -> None:
    model = trunk()
    tokens = torch.randn(2, 3, 16)
    causal, full = torch.ones(3, 3, dtype=torch.bool).tril(), torch.ones(3, 3, dtype=torch.bool)
    with torch.no_grad():
        both, _ = model(tokens, attend=torch.stack((causal, full)))
        first, _ = model(tokens[:1], attend=causal)
        second, _ = model(tokens[1:])
    torch.testing.assert_close(both, torch.cat((first, second)), atol=1e-6, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(shift=st.integers(1, 1000), clock=st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_time_bias_is_translation_invariant(shift: int, clock: list[int]) -> None:
    model = trunk(time_range=4)
    tokens, times = torch.randn(1, 4, 16), torch.tensor([clock])
    context = model(torch.randn(1, 2, 16))[1]  # outside time: gets no bias at any shift
    with torch.no_grad():
        now, _ = model(tokens, cache=context, times=times)
        later, _ = model(tokens, cache=context, times=times + shift)
    assert torch.equal(now, later)


def test_time_bias_tells_the_order_and_stops_at_its_range() -> None:
    model = trunk(time_range=2)
    tokens = torch.randn(1, 2, 16)

    def run(first: int, second: int) -> Tensor:
        with torch.no_grad():
            return model(tokens, times=torch.tensor([[first, second]]))[0]

    assert not torch.allclose(run(0, 1), run(1, 0))
    assert torch.equal(run(0, 2), run(0, 7))
    assert not torch.allclose(run(0, 1), run(0, 2))


def test_width_must_be_a_multiple_of_heads() -> None:
    with pytest.raises(ConfigError, match="width 10 is not a multiple of heads 4"):
        TransformerConfig(width=10, heads=4).build()


# ----------------------------------------------------------------------------------------------------- cache


def random_cache(rows: int, length: int, seed: int) -> Cache:
    g = torch.Generator().manual_seed(seed)

    def values() -> tuple[Tensor, ...]:
        return tuple(torch.randn(rows, 2, length, 4, generator=g) for _ in range(2))

    pad = torch.rand(rows, length, generator=g) < 0.5
    return Cache(values(), values(), pad, torch.randint(0, 9, (rows, length), generator=g))


def same(a: Cache, b: Cache) -> bool:
    pairs = zip((*a.keys, *a.values, a.pad, a.times), (*b.keys, *b.values, b.pad, b.times), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


lengths = st.integers(0, 5)


@settings(max_examples=30, deadline=None)
@given(a=lengths, b=lengths, c=lengths)
def test_append_is_associative_and_last_takes_it_back(a: int, b: int, c: int) -> None:
    x, y, z = (random_cache(2, n, seed) for seed, n in enumerate((a, b, c)))
    assert same(x.append(y).append(z), x.append(y.append(z)))
    assert same(x.append(y).last(b), y)  # b = 0 keeps nothing
    assert x.append(y).length == a + b


@settings(max_examples=30, deadline=None)
@given(length=lengths, count=st.integers(0, 8))
def test_last_is_bounded_by_what_there_is(length: int, count: int) -> None:
    cache = random_cache(1, length, 0)
    kept = cache.last(count)
    assert kept.length == min(length, count)
    assert torch.equal(kept.times, cache.times[:, length - kept.length :])


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 3), length=lengths, copies=st.integers(1, 3))
def test_repeat_puts_copies_side_by_side(rows: int, length: int, copies: int) -> None:
    cache = random_cache(rows, length, 0)
    many = cache.repeat(copies)
    for i in range(copies):
        stride = Cache(
            tuple(k[i::copies] for k in many.keys),
            tuple(v[i::copies] for v in many.values),
            many.pad[i::copies],
            many.times[i::copies],
        )
        assert same(stride, cache)
