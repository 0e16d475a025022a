"""Next-token estimator: lossless serialisation, causality, cached decoding, early stop, separate losses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wamkit.contract.calls import Call
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators import Autoregressor, AutoregressorConfig
from wamkit.trunks import TransformerConfig

ACTION = StreamSpec("action", "action", 4, 2, 1, vocabulary=5, ticks_per_step=2)
FUTURE = StreamSpec("future", "future", 2, 3, 1, vocabulary=7)
BOTH = ["action", "future"]


def build(
    outputs: tuple[StreamSpec, ...] = (ACTION, FUTURE), segments: int = 2, temperature: float = 0.0
) -> Autoregressor:
    torch.manual_seed(0)
    trunk = TransformerConfig(width=16, depth=2, heads=2).build()
    model = AutoregressorConfig(segments=segments, temperature=temperature).build(outputs, (), trunk)
    for stream in model.outputs.values():  # far apart, so that the most likely token is not a tie
        torch.nn.init.normal_(stream.outward.weight)  # type: ignore[union-attr, arg-type]
    return model.eval()


def call(model: Autoregressor, rows: int, given: dict[str, Tensor] | None = None) -> Call:
    tokens = torch.randn(rows, 3, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return Call(model.trunk(tokens)[1], given or {}, (), rows)


def random_ids(specs: tuple[StreamSpec, ...], rows: int, seed: int = 0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {s.name: torch.randint(s.vocabulary or 1, (rows, s.steps, s.tokens), generator=g) for s in specs}


def generate(
    model: Autoregressor,
    outputs: list[str],
    budget: Budget | None = None,
    given: dict[str, Tensor] | None = None,
    rows: int = 2,
) -> tuple[dict[str, Tensor], dict[str, int]]:
    with torch.no_grad():
        noise = RowNoise(range(rows))
        made = model.generate(outputs, call(model, rows, given), budget or Budget(), noise)
    return made.values, made.nfe


# ------------------------------------------------------------------------------------------------ interleave


@settings(max_examples=30, deadline=None)
@given(
    segments=st.integers(1, 3),
    pieces=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    tokens=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    rows=st.integers(1, 3),
)
def test_serialise_parse_is_lossless(segments: int, pieces: list[int], tokens: list[int], rows: int) -> None:
    specs = tuple(
        StreamSpec(f"x{i}", "future", segments * size, tokens[i], 1, vocabulary=50)
        for i, size in enumerate(pieces)
    )
    model = build(specs, segments)
    names, values = [s.name for s in specs], random_ids(specs, rows)
    sequence = model.serialize(values, names)
    assert sequence.shape == (rows, sum(s.length for s in specs))
    parsed = model.parse(sequence, names)
    assert all(torch.equal(parsed[name], values[name]) for name in names)


def test_segments_interleave_the_streams_in_the_declared_order() -> None:
    model = build()
    order = [(p.stream, p.start, p.stop) for p in model.order(BOTH)]
    assert order == [("action", 0, 2), ("future", 0, 1), ("action", 2, 4), ("future", 1, 2)]
    values = {
        "action": torch.arange(8).view(1, 4, 2),
        "future": 100 + torch.arange(6).view(1, 2, 3),
    }
    expected = [0, 1, 2, 3, 100, 101, 102, 4, 5, 6, 7, 103, 104, 105]
    assert model.serialize(values, BOTH).tolist() == [expected]


def test_another_order_than_the_declared_one_is_refused() -> None:
    model = build()
    sequence = model.serialize(
        {"action": torch.zeros(1, 4, 2).long(), "future": torch.ones(1, 2, 3).long()}, BOTH
    )
    for names in (BOTH[::-1], ["action", "action"], ["action", "reward"]):
        with pytest.raises(ConfigError, match=r"factor declares \['action'.*Keep the factor's order"):
            model.parse(sequence, names)


# ------------------------------------------------------------------------------------------------- causality


@pytest.mark.parametrize("j", range(14))
def test_changing_element_j_never_changes_logits_up_to_it(j: int) -> None:
    model = build()
    values = random_ids((ACTION, FUTURE), 2)
    sequence = model.serialize(values, BOTH)
    sequence[:, j] = (sequence[:, j] + 1) % 5
    with torch.no_grad():
        c = call(model, 2)
        before = [x.flatten(0, -2) for x in model.logits(values, BOTH, c)]
        after = [x.flatten(0, -2) for x in model.logits(model.parse(sequence, BOTH), BOTH, c)]
    sizes = [4, 3, 4, 3]
    start = 0
    for size, x, y in zip(sizes, before, after, strict=True):
        same = (x == y).all(dim=-1).view(2, size).all(dim=0).tolist()  # bit for bit
        assert same == [start + i <= j for i in range(size)]
        start += size


def test_cached_decoding_equals_the_uncached_argmax() -> None:
    model = build()
    values, _ = generate(model, BOTH, rows=4)
    with torch.no_grad():
        pieces = model.logits(values, BOTH, call(model, 4))
    best = torch.cat([logits.argmax(dim=-1) for logits in pieces], dim=1)
    assert torch.equal(best, model.serialize(values, BOTH))
    assert best.unique().numel() > 2  # not one token for ever


# --------------------------------------------------------------------------------------------------- budgets


def test_evaluations_are_the_tokens() -> None:
    model = build()
    calls = [0]
    context = call(model, 2)
    model.trunk.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    with torch.no_grad():
        made = model.generate(BOTH, context, Budget(), RowNoise([0, 1]))
    assert made.nfe == {"action": ACTION.length, "future": FUTURE.length}
    assert calls == [ACTION.length + FUTURE.length]


def test_early_stop_gives_the_same_leading_actions() -> None:
    model = build()
    whole, _ = generate(model, ["action"])
    short, spent = generate(model, ["action"], Budget(horizon=4))
    assert short["action"].shape == (2, 2, 2)
    assert torch.equal(short["action"], whole["action"][:, :2])
    assert spent == {"action": 4}  # the first segment and nothing after it


def test_a_future_that_comes_first_is_decoded_and_one_that_comes_last_is_not() -> None:
    first = build((FUTURE, ACTION), segments=1)
    _, spent = generate(first, ["action"])
    assert spent == {"future": FUTURE.length, "action": ACTION.length}
    assert not first.skippable(["action", "future"], "future", Budget())
    last = build((ACTION, FUTURE), segments=1)
    _, spent = generate(last, ["action"])
    assert spent == {"action": ACTION.length}
    assert last.skippable(["action", "future"], "future", Budget())


def test_forced_tokens_cost_nothing_and_are_read() -> None:
    model = build()
    free, _ = generate(model, ["future"])
    known = random_ids((ACTION,), 2)
    forced, spent = generate(model, ["future"], given=known)
    assert spent == {"future": FUTURE.length}
    assert set(forced) == {"future"}
    with torch.no_grad():
        pieces = model.logits({**known, **forced}, BOTH, call(model, 2))
    best = torch.cat((pieces[1], pieces[3]), dim=1).argmax(dim=-1)
    assert torch.equal(best, forced["future"].flatten(1))
    assert not torch.equal(forced["future"], free["future"])


def test_forcing_its_own_choice_changes_nothing() -> None:
    model = build()
    free, _ = generate(model, BOTH)
    again, _ = generate(model, ["future"], given={"action": free["action"]})
    assert torch.equal(again["future"], free["future"])


def test_function_evaluations_cannot_be_budgeted() -> None:
    with pytest.raises(BudgetError, match="one evaluation per token"):
        build().check_budget(BOTH, Budget(nfe={"action": 1}))


# ---------------------------------------------------------------------------------------------------- losses


def targets(values: dict[str, Tensor]) -> dict[str, Target]:
    return {n: Target(v, torch.zeros(v.shape[:2], dtype=torch.bool)) for n, v in values.items()}


def test_losses_are_reported_per_stream_and_start_at_chance() -> None:
    model = build()
    for stream in model.outputs.values():
        torch.nn.init.zeros_(stream.outward.weight)  # type: ignore[union-attr, arg-type]
        torch.nn.init.zeros_(stream.outward.bias)  # type: ignore[union-attr, arg-type]
    terms = model.loss(BOTH, call(model, 3), targets(random_ids((ACTION, FUTURE), 3)), None).terms
    assert terms["action"].item() == pytest.approx(torch.tensor(5.0).log().item(), rel=1e-5)
    assert terms["future"].item() == pytest.approx(torch.tensor(7.0).log().item(), rel=1e-5)


def test_padded_steps_do_not_count() -> None:
    model = build()
    values = random_ids((ACTION, FUTURE), 2)
    known = targets(values)
    known["future"].pad[:, 1] = True
    changed = {**values, "future": values["future"].clone()}
    changed["future"][:, 1] = (changed["future"][:, 1] + 1) % 7  # the last piece: nothing reads it
    other = targets(changed)
    other["future"].pad[:, 1] = True
    a = model.loss(BOTH, call(model, 2), known, None).terms
    b = model.loss(BOTH, call(model, 2), other, None).terms
    assert torch.equal(a["future"], b["future"])
    assert torch.equal(a["action"], b["action"])


def test_learns_a_deterministic_sequence() -> None:
    torch.manual_seed(0)
    model = build()
    start = torch.randint(5, (64, 1, 1))
    action = (start + torch.arange(8).view(1, 4, 2)) % 5
    future = (action[:, 1::2, 1:] + torch.arange(3)) % 7  # each image follows from the action before it
    known = targets({"action": action, "future": future})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        terms = model.loss(BOTH, call(model, 64), known, None).terms
        optimizer.zero_grad()
        (terms["action"] + terms["future"]).backward()
        optimizer.step()
    assert terms["future"].item() < 0.02
    given = random_ids((ACTION,), 5)
    given["action"] = (torch.arange(5).view(5, 1, 1) + torch.arange(8).view(1, 4, 2)) % 5
    made, _ = generate(model, ["future"], given=given, rows=5)
    assert torch.equal(made["future"], (given["action"][:, 1::2, 1:] + torch.arange(3)) % 7)


def test_sampling_follows_the_temperature() -> None:
    """The first token's frequencies are the softmax of its logits over the temperature."""
    rows = 4000
    model = build((StreamSpec("action", "action", 1, 1, 1, vocabulary=4),), 1, temperature=2.0)
    with torch.no_grad():
        context = Call(model.trunk.empty(rows, 1), {}, (), rows)
        ids = model.generate(["action"], context, Budget(), RowNoise(range(rows))).values["action"].flatten()
        logits = model.logits({"action": ids.view(-1, 1, 1)}, ["action"], context)[0][0, 0]
    expected = (logits / 2.0).softmax(dim=-1)
    found = torch.bincount(ids, minlength=4) / rows
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)  # about 4 standard errors


# ---------------------------------------------------------------------------------------------------- errors


def test_refusals_name_the_way_out() -> None:
    trunk = TransformerConfig(width=16, depth=1, heads=2).build()
    smooth = StreamSpec("action", "action", 4, 1, 2)
    with pytest.raises(ConfigError, match=r"'action' carries continuous values.*needs token ids"):
        AutoregressorConfig().build((smooth,), (), trunk)
    with pytest.raises(ConfigError, match="segments 3 does not divide the 4 steps of stream 'action'"):
        AutoregressorConfig(segments=3).build((ACTION,), (), trunk)
    with pytest.raises(ConfigError, match="set its `trunk`"):
        AutoregressorConfig().build((ACTION,), (), None)
    with pytest.raises(ConfigError, match="one factor generates action and another reads it"):
        AutoregressorConfig().build((ACTION, FUTURE), (ACTION,), trunk)
