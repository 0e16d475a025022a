"""Milestones of a recorded task: the frames at which one part of it ends and the next begins (`ps.keyframes`).

The rule is that of keyframe discovery (James and Davison 2022): the gripper is commanded to open or close, the arm
comes to rest, or the episode ends. It reads only recorded actions, so it applies to any dataset.
"""

from __future__ import annotations

import numpy as np

from wamkit.contract.specs import ActionSpec

REST = 0.05  # fraction of the episode's top speed up to which the arm counts as resting
GAP = 4  # least distance between two milestones, ticks


def milestones(action: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Find the milestones of one episode.

    Args:
        action: recorded actions (T, A), T at least 1.
        spec: action spec.

    Returns:
        frames in ascending order, including the last frame.
    """
    last = len(action) - 1
    low, high = np.array(spec.low), np.array(spec.high)
    candidate = np.zeros(len(action), dtype=bool)
    grip, arm = spec.gripper_at, list(spec.arm)
    if grip is not None:
        closing = action[:, grip] > (low[grip] + high[grip]) / 2
        candidate[1:] |= closing[1:] != closing[:-1]
    move = action[:, arm] / np.maximum(high - low, 1e-9)[arm]
    if spec.mode == "absolute":
        move = np.diff(move, axis=0, prepend=move[:1])
    speed = np.linalg.norm(move, axis=1)
    resting = speed <= REST * speed.max(initial=0.0)
    candidate[1:] |= resting[1:] & ~resting[:-1]
    kept: list[int] = []
    for frame in np.flatnonzero(candidate).tolist():
        if frame - (kept[-1] if kept else 0) >= GAP and last - frame >= GAP:
            kept.append(frame)
    return np.array([*kept, last])
