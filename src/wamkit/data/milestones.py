"""Where a recorded task passes from one part to the next (`ps.keyframes`).

The rule is that of keyframe discovery (James and Davison 2022): the gripper is told to open or close, the arm comes to
rest, the episode ends. It reads the recorded actions alone, so that it holds for any dataset.
"""

from __future__ import annotations

import numpy as np

from wamkit.contract.specs import ActionSpec

REST = 0.05  # of the episode's greatest speed, below which the arm stands
GAP = 4  # ticks that two milestones are apart at least


def milestones(action: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Milestones of one episode.

    Args:
        action: (T, A), T at least 1.
        spec: says which entries move and how the gripper is told; the gripper is the last entry.

    Returns:
        frames in ascending order; the last frame is always one.
    """
    last = len(action) - 1
    low, high = np.array(spec.low), np.array(spec.high)
    found = np.zeros(len(action), dtype=bool)
    arm = spec.width - (spec.gripper != "none")
    if spec.gripper != "none":
        closing = action[:, -1] > (low[-1] + high[-1]) / 2
        found[1:] |= closing[1:] != closing[:-1]
    move = action[:, :arm] / np.maximum(high - low, 1e-9)[:arm]
    if spec.mode == "absolute":
        move = np.diff(move, axis=0, prepend=move[:1])
    speed = np.linalg.norm(move, axis=1)
    stands = speed <= REST * speed.max(initial=0.0)
    found[1:] |= stands[1:] & ~stands[:-1]
    kept: list[int] = []
    for frame in np.flatnonzero(found).tolist():
        if frame - (kept[-1] if kept else 0) >= GAP and last - frame >= GAP:
            kept.append(frame)
    return np.array([*kept, last])
