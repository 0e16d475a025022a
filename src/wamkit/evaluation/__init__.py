"""Closed-loop evaluation: roll out, count honestly, report. The page is in
:mod:`wamkit.evaluation.output.report_page`."""

from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, evaluate_policy, pure_simulation
from wamkit.evaluation.report.report import Report

__all__ = ["EvaluationConfig", "Policy", "Report", "evaluate_policy", "pure_simulation"]
