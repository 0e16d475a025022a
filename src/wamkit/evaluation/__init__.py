"""Evaluation: closed-loop rollouts, prediction quality, reports and pages."""

from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, Rollout, pure_simulation, rollout
from wamkit.evaluation.report.report import Report

__all__ = ["EvaluationConfig", "Policy", "Report", "Rollout", "pure_simulation", "rollout"]
