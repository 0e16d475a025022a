"""Verb ``evaluate``: closed-loop evaluation, run here or on a Ray cluster, or merged from shards."""

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
        checkpoint: checkpoint to evaluate, a folder with ``config.json``, ``model.safetensors`` and
            ``transforms.json``, or a hub id.
        out: output folder for ``report.json``, ``report.html`` and the files beside them. An interrupted evaluation
            resumes from the journal in this folder.
        evaluation: settings of the evaluation. The controller is the checkpoint's unless given.
        dataset: dataset that the checkpoint was trained on, to record its fingerprint in the report.
        device: torch device of the policy, such as cpu or cuda:0.
        films_of_failures: largest number of failed episodes to film, taken from the perturbation dimensions in turn.
        rerun: true to export filmed episodes for the Rerun viewer.
    """

    checkpoint: str = "runs/train/model"
    out: Path = Path("runs/evaluate")
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    dataset: Path | None = None
    device: str = "cpu"
    films_of_failures: int = 4
    rerun: bool = False


def evaluate(config: EvaluateConfig, progress: bool = True) -> Report:
    """Run a checkpoint in closed loop and write ``report.json``, ``report.html`` and more into ``config.out``."""
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
    discard_journal(journal)
    return result


def evaluate_with_ray(config: EvaluateConfig, address: str, shards: int) -> Report:
    """Run :func:`evaluate` as ``shards`` tasks of the Ray cluster at ``address`` and merge their reports.

    A local checkpoint, the goals and ``config.out`` must be visible to every node under the same path. No failed
    episode is filmed.
    """
    check_outputs(failures=0, rerun=False)
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
    return write_results(Rollout(report, ()), config.evaluation, config.out, failures=0)


def merge_runs(runs: Sequence[Path], out: Path) -> Report:
    """Merge the reports of all shards of an evaluation and write into ``out`` the files that an evaluation writes.

    Args:
        runs: report folders or files of all shards.
        out: output folder.

    Raises:
        ConfigError: the shards are not of one evaluation; the message names the difference.
        DataError: a report cannot be read, or an episode is missing or counted twice.
    """
    reports = [Report.load(report_file(run)) for run in runs]
    place = str(report_file(runs[0]))
    config = decode(EvaluationConfig, {**reports[0].config, "shard": None}, f"{place}, config")
    merged = merge(reports, [variant.id for variant in variants(config)])
    return write_results(Rollout(merged, ()), config, out, failures=0)
