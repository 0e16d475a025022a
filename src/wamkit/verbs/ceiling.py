"""What the scripted demonstrator reaches, as a verb."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from wamkit.evaluation.closed_loop.ceiling import Ceiling
from wamkit.evaluation.closed_loop.ceiling import measure_ceiling as run_ceiling
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shifts


@dataclass(frozen=True)
class CeilingConfig:
    """Let the scripted demonstrator play the episodes of an evaluation.

    Attributes:
        out: the JSON file.
        evaluation: whose episodes; only its tasks, seed, environment, shifts, workers and time limit count.
    """

    out: Path = Path("ceiling.json")
    evaluation: EvaluationConfig = field(
        default_factory=lambda: EvaluationConfig(shifts=Shifts(per_dimension=40), timeout_s=300.0)
    )


def ceiling(config: CeilingConfig, progress: bool = True) -> Ceiling:
    """Success of the scripted demonstrator per dimension, kind and strength; writes ``config.out``."""
    found = run_ceiling(config.evaluation, progress)
    found.save(config.out)
    return found
