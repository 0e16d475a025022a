"""Rows of one call that are generated in different ways: what to choose by, and generation choice by choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from wamkit.contract.calls import Call, Generated
from wamkit.contract.protocols import Trunk
from wamkit.contract.streams import RowNoise
from wamkit.contract.types import map_tensors


def summary_width(trunk: Trunk) -> int:
    """Features of :func:`context_summary` in a trunk: the values of one token in all heads."""
    return trunk.empty(1, 1).values[-1].numel()


def context_summary(call: Call) -> Tensor:
    """Mean of the context's values in the last layer, (B, features), without a gradient."""
    values, keep = call.context.values[-1].detach(), ~call.context.pad
    kept = (values * keep[:, None, :, None]).sum(dim=2) / keep.sum(dim=1).clamp(min=1)[:, None, None]
    return kept.flatten(1)


def generate_by_choice(
    choice: Tensor, call: Call, noise: RowNoise, generate: Callable[[int, Call, RowNoise], Generated]
) -> tuple[dict[str, Tensor], dict[int, Generated]]:
    """Generate the rows of every choice together.

    Args:
        choice: choice of every row, (B,) integers.
        call: conditions of all rows.
        noise: noise of all rows; a row's sample depends on its own generator only.
        generate: sampler of the rows of one choice: choice, conditions and noise of these rows -> sample.

    Returns:
        Values of all rows in their order, and choice -> the sample of its rows.
    """
    if noise.copies > 1:
        noise = noise.fork()  # a generator per row, so that rows can be separated
    order: list[Tensor] = []
    parts: dict[int, Generated] = {}
    for chosen in choice.unique().tolist():
        index = (choice == chosen).nonzero()[:, 0]
        own = RowNoise((), noise.device)
        own.generators = [noise.generators[i] for i in index.tolist()]
        rows = replace(map_tensors(call, lambda t, index=index: t[index]), rows=len(index))
        parts[chosen] = generate(chosen, rows, own)
        order.append(index)
    back = torch.cat(order).argsort()
    names = next(iter(parts.values())).values
    return {name: torch.cat([part.values[name] for part in parts.values()])[back] for name in names}, parts
