"""Verb ``ceiling``: success of the scripted demonstrator."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from wamkit.evaluation.closed_loop.ceiling import Ceiling
from wamkit.evaluation.closed_loop.ceiling import measure_ceiling as run_ceiling
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shifts


@dataclass(frozen=True)
class CeilingConfig:
    """Settings of a run of the scripted demonstrator.

    Attributes:
        out: path of the JSON file to write.
        evaluation: evaluation whose episodes to play; settings of the policy, films and latency are ignored.
    """

    out: Path = Path("ceiling.json")
    evaluation: EvaluationConfig = field(
        default_factory=lambda: EvaluationConfig(shifts=Shifts(per_dimension=40), timeout_s=300.0)
    )


def ceiling(config: CeilingConfig, progress: bool = True) -> Ceiling:
    """Measure the scripted demonstrator's success per dimension, kind and strength, and write ``config.out``."""
    result = run_ceiling(config.evaluation, progress)
    result.save(config.out)
    return result
