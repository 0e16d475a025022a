"""Policies of checkpoints in the environments of an evaluation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from wamkit.design import Design
from wamkit.design.robot import RobotPolicy, load_policy, seen_through
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.views import View, ViewConfig


def policy_in(
    evaluation: EvaluationConfig,
    checkpoint: str | Path,
    device: str,
    view: ViewConfig,
    robot: str | None = None,
) -> Design | RobotPolicy:
    """Load a policy for the environments of an evaluation.

    Args:
        evaluation: the evaluation; the robot of its first task is that of all.
        checkpoint: checkpoint folder or hub id.
        device: torch device of the policy.
        view: how the environments are seen as the robot that the checkpoint was trained for.
        robot: name of that robot; None to find it by what is seen.
    """
    task = evaluation.tasks[0]
    env = dataclasses.replace(evaluation.env, task=task)
    shown = View(view, env.observation_spec(), env.action_spec())
    policy = load_policy(checkpoint, device, robot, (shown.observation_spec, shown.action_spec))
    if view == ViewConfig():
        return policy
    return seen_through(policy, view, env.observation_spec(), env.action_spec(), f"environment {task!r}")
