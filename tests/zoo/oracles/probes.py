"""Probes that several oracles share: random values of a stream, parts that are disturbed, streams that are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from cases import Case
from torch import Tensor, nn

from wamkit.contract.protocols import Estimator
from wamkit.contract.types import Observation
from wamkit.design import Design


def drawn(design: Design, name: str, draw: int, rows: int = 1) -> Tensor:
    """Random values of a stream, of the size that makes a difference."""
    spec, generator = design.streams[name], torch.Generator().manual_seed(draw)
    shape = (rows, spec.steps, spec.tokens)
    if spec.vocabulary is not None:
        return torch.randint(spec.vocabulary, shape, generator=generator)
    return 3 * torch.randn(*shape, spec.features, generator=generator)


def told(case: Case, design: Design, observation: Observation, names: Iterable[str]) -> dict[str, Tensor]:
    """Values of ``names`` and of everything that they are generated from, as the design samples them.

    What the caller has to give is drawn.
    """
    names = set(names)
    every = names | design.graph.ancestors(names)
    given = {name: drawn(design, name, 99) for name in design.config.given if name in every}
    wanted = sorted(every - set(given))
    return {**given, **(design.sample(observation, wanted, seeds=[1], given=given).values if wanted else {})}


def stages(estimator: Estimator) -> list[Estimator]:
    """Estimators that one is made of, such as its stages, or itself alone."""
    return [m for m in estimator.modules() if isinstance(m, Estimator) and m is not estimator] or [estimator]


def disturb(parameters: Iterable[nn.Parameter], size: float = 0.5) -> int:
    """Add noise to parameters in place; returns how many there were."""
    generator, count = torch.Generator().manual_seed(7), 0
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
            count += 1
    return count


def own_parameters(design: Design, estimator: str, apart_from: Iterable[str]) -> list[nn.Parameter]:
    """Parameters of an estimator (its trunk included) that none of the other estimators named uses."""
    shared = {id(p) for name in apart_from for p in design.estimators[name].parameters()}
    return [p for p in design.estimators[estimator].parameters() if id(p) not in shared]


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """True when the streams of both are equal bit by bit."""
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)
