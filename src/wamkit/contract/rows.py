"""Rows of batches: joined, and taken by index.

Home-made because a registry of tree libraries (``torch.utils._pytree``, optree) needs every dataclass registered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wamkit.contract.types import Batch, Observation, map_tensors


def join_rows(trees: Sequence[Any]) -> Any:
    """Concatenate values of one structure along the leading dimension of every tensor.

    Leaves that are not tensors must be equal in all values (see
    :func:`wamkit.evaluation.closed_loop.tree.signature`); the first value's are kept.
    """
    first = trees[0]
    if isinstance(first, Tensor):
        return torch.cat(list(trees), dim=0)
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        fields = [f.name for f in dataclasses.fields(first)]
        return dataclasses.replace(first, **{n: join_rows([getattr(t, n) for t in trees]) for n in fields})
    if isinstance(first, Mapping):
        return {key: join_rows([t[key] for t in trees]) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(join_rows(list(items)) for items in zip(*trees, strict=True))
    return first


def join_observations(parts: Sequence[Observation]) -> Observation:
    """Concatenate the batch rows of observations with the same cameras and extras; all have a goal or none has."""
    goals = [part.goal for part in parts if part.goal is not None]
    parts = with_columns(parts)
    rows: Observation = join_rows([dataclasses.replace(part, task=(), goal=None) for part in parts])
    words = tuple(words for part in parts for words in part.task)
    return dataclasses.replace(rows, task=words, goal=join_observations(goals) if goals else None)


def with_columns(parts: Sequence[Observation]) -> Sequence[Observation]:
    """Say of every part which columns its robot has, where that is said of one of them."""
    for name in ("state_columns", "action_columns"):
        known = next((getattr(part, name) for part in parts if getattr(part, name) is not None), None)
        if known is not None:
            everything = [known.new_ones(part.batch_size, known.shape[1]) for part in parts]
            parts = [
                part if getattr(part, name) is not None else dataclasses.replace(part, **{name: own})
                for part, own in zip(parts, everything, strict=True)
            ]
    return parts


def take_rows(observation: Observation, index: Tensor) -> Observation:
    """Rows ``index`` (R,) of an observation, its instruction and its goal too; a row named twice stands twice."""
    goal = None if observation.goal is None else take_rows(observation.goal, index)
    rows = map_tensors(dataclasses.replace(observation, goal=None), lambda t: t[index.to(t.device)])
    return dataclasses.replace(rows, goal=goal, task=tuple(observation.task[i] for i in index.tolist()))


def views_of(batch: Batch) -> dict[str, Observation]:
    """Observations of a batch by the name of their field: present, future, goal and milestones."""
    names = ("observation", "future", "goal", "milestones")
    found = {name: getattr(batch, name) for name in names}
    return {name: view for name, view in found.items() if view is not None}


def with_views(batch: Batch, views: Mapping[str, Observation]) -> Batch:
    """A batch with other observations, by the name of their field."""
    changed: dict[str, Any] = dict(views)
    return dataclasses.replace(batch, **changed)


def join_batches(parts: Sequence[Batch], order: Tensor) -> Batch:
    """Join batches of equal windows row by row and take the rows ``order`` (B,) of what comes out."""
    views = [views_of(part) for part in parts]
    seen = {name: take_rows(join_observations([v[name] for v in views]), order) for name in views[0]}
    # Instructions are no leaves that rows can be joined by, so observations are joined apart.
    nothing: dict[str, Any] = dict.fromkeys(seen)
    rows: Batch = join_rows([dataclasses.replace(part, **nothing) for part in parts])
    rows = map_tensors(rows, lambda t: t[order.to(t.device)])
    return with_views(rows, seen)
