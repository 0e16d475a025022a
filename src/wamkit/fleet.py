"""Verbs for evaluations in parts: on a Ray cluster, merged from shards, and the demonstrator's ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from wamkit.api import EvaluateConfig, report_file
from wamkit.config import decode
from wamkit.data import Dataset
from wamkit.design import from_pretrained
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.evaluation.closed_loop.ceiling import Ceiling
from wamkit.evaluation.closed_loop.ceiling import ceiling as run_ceiling
from wamkit.evaluation.closed_loop.cluster import evaluate_on_cluster
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shifts, variants
from wamkit.evaluation.closed_loop.rollout import Rollout
from wamkit.evaluation.closed_loop.shards import merge
from wamkit.evaluation.output.results import write_results
from wamkit.evaluation.report.report import Report


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


def evaluate_with_ray(config: EvaluateConfig, address: str, shards: int) -> Report:
    """:func:`wamkit.api.evaluate` as ``shards`` tasks of the Ray cluster at ``address``, merged.

    A local checkpoint, the goals and ``config.out`` must lie where every node sees them. No failed episode is filmed.
    """
    folder = find_checkpoint(config.checkpoint)
    everywhere = str(folder.absolute()) if Path(config.checkpoint).exists() else config.checkpoint
    report = evaluate_on_cluster(
        partial(from_pretrained, everywhere, config.device),
        config.evaluation,
        address,
        shards,
        config.out / "shards",
        dataset=Dataset(config.dataset).fingerprint() if config.dataset is not None else None,
        checkpoint=checkpoint_digest(folder),
    )
    return _write(report, config.evaluation, config.out)


def merge_runs(runs: Sequence[Path], out: Path) -> Report:
    """One report from the folders or report files of all shards; writes into ``out`` what an evaluation does.

    Raises:
        ConfigError: they are not of one evaluation; the message names what differs.
        DataError: a report cannot be read, an episode is missing or counted twice.
    """
    reports = [Report.load(report_file(run)) for run in runs]
    place = str(report_file(runs[0]))
    config = decode(EvaluationConfig, {**reports[0].config, "shard": None}, f"{place}, config")
    return _write(merge(reports, [variant.id for variant in variants(config)]), config, out)


def _write(report: Report, config: EvaluationConfig, out: Path) -> Report:
    from wamkit.evaluation.output.report_page import write_page  # draws with matplotlib, an extra

    write_results(Rollout(report, ()), config, out, failures=0)
    write_page([(report, out)], out / "report.html")
    return report
