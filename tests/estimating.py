"""An estimator on a tiny trunk: what the tests of several estimators build, call, train and count with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from wamkit.contract.calls import Call
from wamkit.contract.protocols import Estimator, EstimatorConfig, Trunk
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.trunks import TransformerConfig

WIDTH = 16


def tiny(
    config: EstimatorConfig, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec] = ()
) -> Estimator:
    """The estimator of ``outputs`` with the same weights every time, ready to act."""
    torch.manual_seed(0)
    trunk = TransformerConfig(width=WIDTH, depth=2, heads=2).build()
    return config.build(tuple(outputs), tuple(given), trunk).eval()


def told(trunk: Trunk, rows: int, known: Mapping[str, Tensor] | None = None) -> Call:
    """A call with three context tokens, the same for the same ``rows``."""
    tokens = torch.randn(rows, 3, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return Call(trunk(tokens)[1], dict(known or {}), (), rows)


def alone(trunk: Trunk, rows: int) -> Call:
    """A call with no context at all."""
    return Call(trunk.empty(rows, 1), {}, (), rows)


def drawn(specs: Sequence[StreamSpec], rows: int, seed: int = 5) -> dict[str, Tensor]:
    """Random values of every stream: normal vectors, or ids."""
    g = torch.Generator().manual_seed(seed)
    return {
        s.name: torch.randn(rows, s.steps, s.tokens, s.features, generator=g)
        if s.vocabulary is None
        else torch.randint(s.vocabulary, (rows, s.steps, s.tokens), generator=g)
        for s in specs
    }


def targets(values: Mapping[str, Tensor]) -> dict[str, Target]:
    """Values as targets, none of them padded."""
    return {n: Target(v, torch.zeros(v.shape[:2], dtype=torch.bool)) for n, v in values.items()}


def train(
    model: Estimator, trunk: Trunk, values: Callable[[], Mapping[str, Tensor]], steps: int, rate: float = 4e-3
) -> None:
    """Fit the model to fresh values without context in every step."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        known = targets(values())
        rows = len(next(iter(known.values())).values)
        loss = sum(model.loss(list(known), alone(trunk, rows), known, None).terms.values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    model.eval()


@torch.no_grad()
def sample(model: Estimator, trunk: Trunk, name: str, rows: int) -> Tensor:
    """``rows`` samples of a stream without context."""
    noise = RowNoise([0], copies=rows)
    return model.generate([name], alone(trunk, rows), Budget(), noise).values[name]


def passes(trunk: Trunk) -> list[int]:
    """A counter of the trunk's forward passes from now on."""
    calls = [0]
    trunk.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    return calls
