"""Closed-loop evaluation as a verb: here, as tasks of a Ray cluster, or merged from shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from wamkit.config import decode
from wamkit.data import Dataset
from wamkit.design import from_pretrained
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.evaluation.closed_loop.cluster import evaluate_on_cluster
from wamkit.evaluation.closed_loop.journal import discard_journal
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, variants
from wamkit.evaluation.closed_loop.rollout import Rollout, rollout
from wamkit.evaluation.closed_loop.shards import merge
from wamkit.evaluation.output.results import check_outputs, write_results
from wamkit.evaluation.report.report import Report
from wamkit.verbs.report import report_file


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a checkpoint and write its report.

    Attributes:
        checkpoint: folder with ``config.json``, ``model.safetensors`` and ``transforms.json``, or a hub id.
        out: folder for ``report.json``, ``report.html`` and what stands beside them, see
            :func:`wamkit.evaluation.output.results.write_results`. An evaluation that was killed goes on from the
            journal there.
        evaluation: what to run. Its controller is the checkpoint's unless given.
        dataset: training data, so that its fingerprint stands in the report.
        device: torch device of the policy.
        films_of_failures: how many failed episodes are filmed at most, dealt over the perturbations.
        rerun: whether the filmed episodes are also exported for the Rerun viewer.
    """

    checkpoint: str = "runs/train/model"
    out: Path = Path("runs/evaluate")
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    dataset: Path | None = None
    device: str = "cpu"
    films_of_failures: int = 4
    rerun: bool = False


def evaluate(config: EvaluateConfig, progress: bool = True) -> Report:
    """Run a checkpoint closed loop; writes ``report.json``, ``report.html`` and more into ``config.out``."""
    from wamkit.evaluation.output.report_page import write_page  # draws with matplotlib, an extra

    check_outputs(config.films_of_failures, config.rerun)
    folder = find_checkpoint(config.checkpoint)
    design = from_pretrained(folder, config.device)
    journal = config.out / "journal.jsonl"
    done = rollout(
        design,
        config.evaluation,
        dataset=Dataset(config.dataset).fingerprint() if config.dataset is not None else None,
        checkpoint=checkpoint_digest(folder),
        journal=journal,
        progress=progress,
    )
    result = write_results(done, config.evaluation, config.out, config.films_of_failures, config.rerun)
    write_page([(result, config.out)], config.out / "report.html")
    discard_journal(journal)
    return result


def evaluate_with_ray(config: EvaluateConfig, address: str, shards: int) -> Report:
    """:func:`evaluate` as ``shards`` tasks of the Ray cluster at ``address``, merged.

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
