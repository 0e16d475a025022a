"""Joining and splitting the batch rows of carried states: nested values of tensors (B, ...).

Home-made because a registry of tree libraries (``torch.utils._pytree``, optree) needs every dataclass registered,
and :func:`signature` also has to compare the leaves that are not tensors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wamkit.contract.types import Observation, map_tensors
from wamkit.errors import ConfigError


def take_row(tree: Any, row: int, rows: int) -> Any:
    """Return row ``row`` of a value whose tensors all have ``rows`` rows, with a leading dimension of 1.

    Raises:
        ConfigError: a tensor has another leading dimension.
    """

    def cut(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0 or tensor.shape[0] != rows:
            raise ConfigError(
                f"a tensor of shape {tuple(tensor.shape)} is carried for {rows} rows: every carried "
                f"tensor needs the batch as its leading dimension"
            )
        return tensor[row : row + 1]

    return map_tensors(tree, cut)


def join_rows(trees: Sequence[Any]) -> Any:
    """Concatenate values of one structure along the leading dimension of every tensor.

    Leaves that are not tensors must be equal in all values (see :func:`signature`); the first value's are kept.
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
    rows: Observation = join_rows([dataclasses.replace(part, task=(), goal=None) for part in parts])
    words = tuple(words for part in parts for words in part.task)
    return dataclasses.replace(rows, task=words, goal=join_observations(goals) if goals else None)


def signature(tree: Any) -> Hashable:
    """Return a key that is equal for values :func:`join_rows` may join.

    It covers the structure, the shapes without the batch dimension and all leaves that are not tensors. A cache that
    has grown to another length in one episode has a different signature from that of another episode.
    """
    if isinstance(tree, Tensor):
        return "tensor", tuple(tree.shape[1:]), str(tree.dtype)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = tuple(signature(getattr(tree, f.name)) for f in dataclasses.fields(tree))
        return type(tree).__qualname__, fields
    if isinstance(tree, Mapping):
        return "mapping", tuple((key, signature(value)) for key, value in tree.items())
    if isinstance(tree, tuple | list):
        return type(tree).__name__, tuple(signature(item) for item in tree)
    return repr(tree)
