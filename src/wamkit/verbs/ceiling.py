"""Verb ``ceiling``: success of the scripted demonstrator."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from wamkit.config.values import Config
from wamkit.errors import DataError
from wamkit.evaluation.closed_loop.ceiling import Ceiling
from wamkit.evaluation.closed_loop.ceiling import measure_ceiling as run_ceiling
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shifts
from wamkit.storage import read_json
from wamkit.storage.output import Result, output
from wamkit.verbs.inputs import inputs_of


@dataclass(frozen=True)
class CeilingConfig(Config):
    """Settings of a run of the scripted demonstrator.

    Attributes:
        out: path of the JSON file to write.
        evaluation: evaluation whose episodes to play; settings of the policy, films and latency are ignored.
        overwrite: true to replace the ceiling at ``out``.
    """

    out: Path = Path("ceiling.json")
    evaluation: EvaluationConfig = field(
        default_factory=lambda: EvaluationConfig(shifts=Shifts(per_dimension=40), timeout_s=300.0)
    )
    overwrite: bool = False


def ceiling(config: CeilingConfig, progress: bool = True) -> Ceiling:
    """Measure the scripted demonstrator's success per dimension, kind and strength, and write ``config.out``."""
    place = Result(config.out, "ceiling", whole_folder=False, ours=is_ceiling)
    with output(place, inputs_of(config), config.overwrite):
        result = run_ceiling(config.evaluation, progress)
        result.save(config.out)
    return result


def is_ceiling(file: Path) -> bool:
    """Return true if a file is a ceiling, of this version or another one."""
    try:
        form = read_json(file, "")["format"]
    except (DataError, KeyError):
        return False
    return isinstance(form, str) and form.startswith("wamkit-ceiling-")
