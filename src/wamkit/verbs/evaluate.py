"""Verb ``evaluate``: closed-loop evaluation, run here or on a Ray cluster, or merged from shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from wamkit.config import decode, encode
from wamkit.config.ranges import Whole, Word
from wamkit.config.values import Config
from wamkit.data import Dataset
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.evaluation.closed_loop.cluster import evaluate_on_cluster
from wamkit.evaluation.closed_loop.journal import discard_journal
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, variants
from wamkit.evaluation.closed_loop.rollout import Rollout, rollout
from wamkit.evaluation.closed_loop.shards import merge, shards_of
from wamkit.evaluation.output.results import check_outputs, write_results
from wamkit.evaluation.report.report import Report
from wamkit.storage.output import Result, output
from wamkit.verbs.acting import policy_in
from wamkit.verbs.inputs import checkpoint_mark, dataset_mark, file_marks, inputs_of
from wamkit.verbs.report import REPORT_FILE, report_file
from wamkit.views import ViewConfig

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class EvaluateConfig(Config):
    """Evaluate a checkpoint and write its report.

    Attributes:
        checkpoint: checkpoint to evaluate, a folder with ``config.json``, ``model.safetensors`` and
            ``transforms.json``, or a hub id.
        out: output folder for ``report.json``, ``report.html`` and the files beside them. An interrupted evaluation
            resumes from the journal in this folder.
        evaluation: settings of the evaluation. The controller is the checkpoint's unless given.
        dataset: dataset that the checkpoint was trained on, to record its fingerprint in the report.
        robot: name of the robot that is driven, of a checkpoint that was trained on several; null to find it by the
            environment's specs.
        view: how the environment is seen as the robot that the checkpoint was trained for, where its cameras, sizes,
            columns or rates differ; as it is by default.
        device: torch device of the policy, such as cpu or cuda:0.
        films_of_failures: largest number of failed episodes to film, taken from the perturbation dimensions in turn.
        rerun: true to export filmed episodes for the Rerun viewer.
        overwrite: true to replace a finished report at ``out``, or to discard another evaluation's journal there.
    """

    checkpoint: Word = "runs/train/model"
    out: Path = Path("runs/evaluate")
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    dataset: Path | None = None
    robot: Word | None = None
    view: ViewConfig = field(default_factory=ViewConfig)
    device: Word = "cpu"
    films_of_failures: Whole = 4
    rerun: bool = False
    overwrite: bool = False


def report_result(out: Path, verb: str = "evaluate") -> Result:
    """The report that ``verb`` writes into ``out``, and the journal of an unfinished evaluation beside it."""
    journal = out / JOURNAL
    begun, discard = journal.exists, partial(discard_journal, journal)
    return Result(out / REPORT_FILE, verb, begun=begun, discard=discard, tidy=discard)


def inputs_of_evaluation(config: EvaluateConfig, folder: Path) -> dict[str, Any]:
    """Everything that determines a report of the checkpoint in ``folder``."""
    evaluation = {**encode(config.evaluation), "goals": dataset_mark(config.evaluation.goals)}
    return inputs_of(
        config,
        checkpoint=checkpoint_mark(folder),
        dataset=dataset_mark(config.dataset),
        evaluation=evaluation,
    )


def evaluate(config: EvaluateConfig, progress: bool = True) -> Report:
    """Run a checkpoint in closed loop and write ``report.json``, ``report.html`` and more into ``config.out``."""
    check_outputs(config.films_of_failures, config.rerun)
    folder = find_checkpoint(config.checkpoint)
    policy = policy_in(config.evaluation, folder, config.device, config.view, config.robot)
    policy.check_acts()
    with output(report_result(config.out), inputs_of_evaluation(config, folder), config.overwrite):
        done = rollout(
            policy,
            config.evaluation,
            dataset=Dataset(config.dataset).fingerprint() if config.dataset is not None else None,
            checkpoint=checkpoint_digest(folder),
            journal=config.out / JOURNAL,
            progress=progress,
        )
        return write_results(done, config.evaluation, config.out, config.films_of_failures, config.rerun)


def evaluate_with_ray(config: EvaluateConfig, address: str, shards: int) -> Report:
    """Run :func:`evaluate` as ``shards`` tasks of the Ray cluster at ``address`` and merge their reports.

    A local checkpoint, the goals and ``config.out`` must be visible to every node under the same path. No failed
    episode is filmed.
    """
    check_outputs(failures=0, rerun=False)
    folder = find_checkpoint(config.checkpoint)
    policy_in(config.evaluation, folder, "cpu", config.view, config.robot).check_acts()
    everywhere = str(folder.absolute()) if Path(config.checkpoint).exists() else config.checkpoint
    with output(report_result(config.out), inputs_of_evaluation(config, folder), config.overwrite):
        report = evaluate_on_cluster(
            partial(policy_in, config.evaluation, everywhere, config.device, config.view, config.robot),
            config.evaluation,
            address,
            shards,
            config.out / "shards",
            dataset=Dataset(config.dataset).fingerprint() if config.dataset is not None else None,
            checkpoint=checkpoint_digest(folder),
        )
        return write_results(Rollout(report, ()), config.evaluation, config.out, failures=0)


def merge_runs(runs: Sequence[Path], out: Path, overwrite: bool = False) -> Report:
    """Merge the reports of all shards of an evaluation and write into ``out`` the files that an evaluation writes.

    Args:
        runs: report folders or files of all shards.
        out: output folder.
        overwrite: true to replace a finished report at ``out``.

    Raises:
        ConfigError: the shards are not of one evaluation; the message names the difference.
        DataError: a report cannot be read, or an episode is missing or counted twice.
    """
    files = [report_file(run) for run in runs]
    reports = [Report.load(file) for file in files]
    config = decode(EvaluationConfig, {**reports[0].config, "shard": None}, f"{files[0]}, config")
    merged = merge(reports, [variant.id for variant in variants(config)])
    inputs = {"runs": file_marks(dict(zip(shards_of(reports), files, strict=True)))}
    with output(report_result(out, "merge"), inputs, overwrite):
        return write_results(Rollout(merged, ()), config, out, failures=0)
