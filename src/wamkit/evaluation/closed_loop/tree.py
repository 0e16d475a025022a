"""Rows of carried states, nested values of tensors (B, ...): one taken out, and which may be joined again."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor

from wamkit.contract.types import map_tensors
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


def signature(tree: Any) -> Hashable:
    """Return a key that is equal for values :func:`wamkit.contract.rows.join_rows` may join.

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
