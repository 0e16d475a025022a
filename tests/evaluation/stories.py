"""Episodes told tick by tick: contact, how far a thing was moved, how far off the gripper is."""

from __future__ import annotations

from wamkit.envs.facts import Facts
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.failures import (
    DRIFT_M,
    MOVED_M,
    events_of,
)

Story = list[tuple[bool, float, float]]


def record(story: Story, status: str = "timeout", **more: object) -> EpisodeRecord:
    events = events_of([Facts(*line) for line in story], status == "success")
    return EpisodeRecord("push", 0, "push it", status, len(story), 3, events=events, **more)


AWAY, NEAR = (False, 0.0, 0.3), (False, 0.0, 0.3 - 2 * DRIFT_M)


TOUCH, PUSH = (True, 0.5 * MOVED_M, 0.05), (True, 2 * MOVED_M, 0.05)


LEFT, NUDGED = (False, 0.5 * MOVED_M, 0.06), (False, 2 * MOVED_M, 0.06)
