"""Multi-token prediction: n heads are trained on n distances, and decoding runs the leading one alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wamkit.contract.calls import Call
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators import Autoregressor, AutoregressorConfig
from wamkit.trunks import TransformerConfig

ACTION = StreamSpec("action", "action", 4, 2, 1, vocabulary=5, ticks_per_step=2)
FUTURE = StreamSpec("future", "future", 2, 3, 1, vocabulary=7)
BOTH = ["action", "future"]
TOTAL = 14


def build(lookahead: int) -> Autoregressor:
    torch.manual_seed(0)
    trunk = TransformerConfig(width=16, depth=2, heads=2).build()
    model = AutoregressorConfig(segments=2, lookahead=lookahead).build((ACTION, FUTURE), (), trunk)
    for stream in model.outputs.values():  # far apart, so that the most likely token is not a tie
        torch.nn.init.normal_(stream.outward.weight)  # type: ignore[union-attr, arg-type]
    return model


def call(model: Autoregressor, rows: int) -> Call:
    tokens = torch.randn(rows, 3, 16, generator=torch.Generator().manual_seed(1))
    return Call(model.trunk(tokens)[1], {}, (), rows)


def data(rows: int = 3) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(2)
    return {s.name: torch.randint(5, (rows, s.steps, s.tokens), generator=g) for s in (ACTION, FUTURE)}


def loss(model: Autoregressor, values: dict[str, Tensor]) -> dict[str, Tensor]:
    rows = len(values["action"])
    targets = {n: Target(v, torch.zeros(v.shape[:2], dtype=torch.bool)) for n, v in values.items()}
    return model.loss(BOTH, call(model, rows), targets, None).terms


def test_the_loss_is_the_mean_over_heads_of_what_each_foresees() -> None:
    model, values = build(3), data()
    sequence = model.serialize(values, BOTH)
    slots = [(p.stream, i) for p, n in zip(model.order(BOTH), (4, 3, 4, 3), strict=True) for i in range(n)]
    hidden = model.hidden(values, BOTH, call(model, 3))
    expected: dict[str, list[Tensor]] = {name: [] for name in BOTH}
    for at in range(TOTAL):
        for distance in range(min(3, at + 1)):
            seen = hidden[:, at - distance]
            seen = seen if distance == 0 else seen + model.ahead[distance - 1](seen)
            name = slots[at][0]
            logits = model.outputs[name].outward(seen)  # type: ignore[operator, union-attr]
            expected[name].append(F.cross_entropy(logits, sequence[:, at]))
    found = loss(model, values)
    for name in BOTH:
        torch.testing.assert_close(found[name], torch.stack(expected[name]).mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_all_heads_are_trained(heads: int) -> None:
    model = build(heads)
    sum(loss(model, data()).values()).backward()  # type: ignore[union-attr]
    assert len(model.ahead) == heads - 1
    for head in model.ahead:
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())


def test_only_the_leading_head_is_executed() -> None:
    model, plain = build(4).eval(), build(1).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("ahead")})
    ran = []
    for head in model.ahead:
        head.register_forward_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        many = model.generate(BOTH, call(model, 2), Budget(), RowNoise([0, 1]))
        one = plain.generate(BOTH, call(plain, 2), Budget(), RowNoise([0, 1]))
    assert not ran
    assert many.nfe == one.nfe
    assert all(torch.equal(many.values[name], one.values[name]) for name in BOTH)


@pytest.mark.parametrize("j", [0, 5, 13])
def test_no_head_sees_the_elements_that_it_foresees(j: int) -> None:
    model, values = build(3).eval(), data()
    sequence = model.serialize(values, BOTH)
    sequence[:, j] = (sequence[:, j] + 1) % 5
    edited = model.parse(sequence, BOTH)
    with torch.no_grad():
        c = call(model, 3)
        before, after = model.hidden(values, BOTH, c), model.hidden(edited, BOTH, c)
        for distance in range(3):
            pairs = zip(
                model.foresee(before, BOTH, distance), model.foresee(after, BOTH, distance), strict=True
            )
            same = torch.cat([(x == y).all(dim=-1).all(dim=0) for x, y in pairs])
            assert same.tolist() == [i - distance <= j for i in range(TOTAL)]  # bit for bit


def test_every_head_learns_its_distance() -> None:
    model, rows = build(3), 16
    step = torch.randint(5, (rows, 1), generator=torch.Generator().manual_seed(3))
    sequence = (step + torch.arange(TOTAL)) % 5  # the first element tells all others
    values = model.parse(sequence, BOTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        sum(loss(model, values).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    with torch.no_grad():
        hidden = model.hidden(values, BOTH, call(model, rows))
        for distance in range(3):
            best = torch.cat([x.argmax(dim=-1) for x in model.foresee(hidden, BOTH, distance)], dim=1)
            right = (best == sequence)[:, 1 + distance :].float().mean()
            assert right > 0.95, (distance, right)


@pytest.mark.parametrize(
    ("heads", "told"),
    [
        (0, r"AutoregressorConfig\.lookahead: must be at least 1 .*got 0"),
        (15, "lookahead 15 must be at most 14"),
    ],
)
def test_a_lookahead_beyond_the_window_is_refused(heads: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(heads)
