"""Demonstrated action chunks, for representations that are fitted to them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from wamkit.contract.data import Windows
from wamkit.contract.types import WindowSpec
from wamkit.errors import DataError


def demonstrated_chunks(windows: Windows, horizon: int, count: int, seed: int) -> list[Tensor]:
    """Draw at most ``count`` windows and return their actions in parts, (M, horizon, A) each.

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
        chunks = batch.action[~batch.action_pad.all(dim=1)]
        if len(chunks):
            parts.append(chunks)
    if not parts:
        raise DataError(
            f"none of the {len(index)} windows that the action is fitted to was recorded with actions. Add episodes "
            f"with actions, or choose an action that is not fitted, such as 'chunk'."
        )
    return parts
