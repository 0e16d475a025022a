"""Closed-loop evaluation: roll out, count honestly, report. The page is in :mod:`wamkit.evaluation.html`."""

from wamkit.evaluation.policy import Policy
from wamkit.evaluation.report import Report
from wamkit.evaluation.rollout import EvaluationConfig, evaluate, pure_simulation

__all__ = ["EvaluationConfig", "Policy", "Report", "evaluate", "pure_simulation"]
