"""Closed-loop evaluation: roll out, count honestly, report. The page is in
:mod:`wamkit.evaluation.output.report_page`."""

from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, Rollout, pure_simulation, rollout
from wamkit.evaluation.report.report import Report

__all__ = ["EvaluationConfig", "Policy", "Report", "Rollout", "pure_simulation", "rollout"]
