"""Demonstrated action chunks, for representations that are fitted to them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.data import Windows
from wamkit.contract.types import WindowSpec
from wamkit.errors import DataError

# Actions (M, H, A), and the columns that the robot of each has, (M, A) bool, or None where it has all.
Chunks = tuple[Tensor, Tensor | None]


def columns_of(action: Tensor, columns: Tensor | None) -> Tensor:
    """Columns (M, A) bool that the robots of actions (M, H, A) have."""
    if columns is not None:
        return columns
    return torch.ones(len(action), action.shape[2], dtype=torch.bool, device=action.device)


def demonstrated_chunks(windows: Windows, horizon: int, count: int, seed: int) -> list[Chunks]:
    """Draw at most ``count`` windows and return their actions in parts, 0 in columns that the robot does not have.

    Clips that were recorded without actions are left out.

    Raises:
        DataError: no window of the draw has actions.
    """
    rng = np.random.default_rng(seed)
    index = np.sort(rng.permutation(windows.num_frames)[:count])
    window = WindowSpec(horizon=horizon)
    parts = []
    for part in np.array_split(index, len(index) // 64 + 1):
        batch = windows.windows(part, window)
        acted, columns = ~batch.action_pad.all(dim=1), batch.observation.action_columns
        chunks, columns = batch.action[acted], None if columns is None else columns[acted]
        if len(chunks):
            known = chunks if columns is None else chunks.masked_fill(~columns[:, None], 0)
            parts.append((known, columns))
    if not parts:
        raise DataError(
            f"none of the {len(index)} windows that the action is fitted to was recorded with actions. Add episodes "
            f"with actions, or choose an action that is not fitted, such as 'chunk'."
        )
    return parts
