"""What an evaluation leaves on disk: report, variants, films and the page that shows them."""

from __future__ import annotations

from pathlib import Path

from wamkit.envs.perturbations.suite import write_variants
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, variants
from wamkit.evaluation.closed_loop.recording import Recording, record
from wamkit.evaluation.closed_loop.rollout import Rollout
from wamkit.evaluation.output import films
from wamkit.evaluation.output.records import FILE as RECORDS
from wamkit.evaluation.output.records import write_records
from wamkit.evaluation.output.rerun import FOLDER, require_rerun, write_rerun
from wamkit.evaluation.report.report import Report


def check_outputs(failures: int, rerun: bool) -> None:
    """Raise, before anything is run, what :func:`write_results` would raise afterwards.

    Raises:
        ConfigError: a negative number of films.
        MissingExtraError: the Rerun export is asked for and its library is not installed.
    """
    if failures < 0:
        raise ConfigError(f"films_of_failures: {failures} must be at least 0, which films no failed episode.")
    if rerun:
        require_rerun()


def write_results(
    done: Rollout, config: EvaluationConfig, out: Path, failures: int = 4, rerun: bool = False
) -> Report:
    """Write what an evaluation found into ``out``.

    ``report.json``; ``report.variants.parquet`` (one row per episode, see :mod:`wamkit.evaluation.output.records`);
    where something was perturbed ``variants.jsonl`` (the fixed list of variants); ``films/*.mp4`` of failed episodes;
    ``rerun/*.rrd`` of the same and of the filmed ones. Films and exports of an earlier evaluation in ``out`` are
    removed.

    Args:
        done: the evaluation.
        config: what was run.
        out: the folder.
        failures: how many failed episodes are filmed at most.
        rerun: whether to export for the Rerun viewer.

    Raises:
        DataError: a simulator broke, or did not repeat an episode, while it was filmed. The report is written by then.
    """
    out.mkdir(parents=True, exist_ok=True)
    report = done.report
    report.save(out / "report.json")
    write_records(out / RECORDS, report.episodes)
    if report.shifts is not None:
        write_variants(out / "variants.jsonl", variants(config))
    for folder, pattern in ((films.FOLDER, "*.mp4"), (FOLDER, "*.rrd")):
        for old in (out / folder).glob(pattern):
            old.unlink()
    known = {trace.plan.key for trace in done.traces}
    failed = films.choose_failures([e for e in report.episodes if e.key in known], failures)
    wanted = {episode.key for episode in failed}
    chosen = [t for t in done.traces if t.plan.key in wanted or (rerun and t.plan.filmed and t.blocks)]
    observation, action = config.env.observation_spec(), config.env.action_spec()

    ended = {episode.key: (episode.status, episode.ticks) for episode in report.episodes}

    def take(recording: Recording) -> None:
        now, before = (recording.status, len(recording.actions)), ended[recording.plan.key]
        if now != before:
            raise DataError(
                f"episode {recording.plan.key}: {before[0]} after {before[1]} ticks, but {now[0]} after {now[1]} when "
                f"it was simulated again. This simulator does not repeat itself: evaluate without films or exports."
            )
        if recording.plan.key in wanted:
            films.write_film(recording, out / films.FOLDER, action.rate_hz)
        if rerun:
            write_rerun(recording, report.filmstrips, out / FOLDER, observation, action)

    record(config, chosen, take)
    return report
