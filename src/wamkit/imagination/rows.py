"""Rows of observations: taken by index, and those of several observations put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wamkit.contract.types import Observation, map_tensors


def take_rows(observation: Observation, index: Tensor) -> Observation:
    """Rows ``index`` (R,) of an observation, its instruction and its goal too."""
    goal = None if observation.goal is None else take_rows(observation.goal, index)
    rows = map_tensors(replace(observation, goal=None), lambda t: t[index.to(t.device)])
    return replace(rows, goal=goal, task=tuple(observation.task[i] for i in index.tolist()))


def put_together(observations: Sequence[Observation]) -> Observation:
    """Rows of observations of one design, one after the other."""
    first = observations[0]

    def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def optional(parts: Sequence[Tensor | None]) -> Tensor | None:
        given = [part for part in parts if part is not None]
        return torch.cat(given) if given else None

    goals = [o.goal for o in observations if o.goal is not None]
    return replace(
        first,
        images=joined([o.images for o in observations]),
        state=torch.cat([o.state for o in observations]),
        task=tuple(task for o in observations for task in o.task),
        pad=torch.cat([o.pad for o in observations]),
        extras=joined([o.extras for o in observations]),
        past_action=optional([o.past_action for o in observations]),
        past_action_pad=optional([o.past_action_pad for o in observations]),
        missing=joined([o.missing for o in observations]),
        goal=put_together(goals) if goals else None,
    )
