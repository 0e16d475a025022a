"""Files of a finished evaluation: report, episodes, variants, films, exports, and the page that shows them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from wamkit.envs.perturbations.suite import write_variants
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, variants
from wamkit.evaluation.closed_loop.recording import Recording, record
from wamkit.evaluation.closed_loop.rollout import Rollout
from wamkit.evaluation.output.films import FILMS_FOLDER, choose_failures, write_film
from wamkit.evaluation.output.pages import require_plots, write_report_page
from wamkit.evaluation.output.records import RECORDS_FILE, write_records
from wamkit.evaluation.output.rerun import RERUN_FOLDER, require_rerun, write_rerun
from wamkit.evaluation.report.report import Report, pictures_path

VARIANTS_FILE = "variants.jsonl"


def check_outputs(failures: int, rerun: bool) -> None:
    """Check, before an evaluation runs, that :func:`write_results` will be able to write its files.

    Raises:
        ConfigError: the number of films is negative.
        MissingExtraError: matplotlib is not installed, or the Rerun library, where its export is requested.
    """
    if failures < 0:
        raise ConfigError(f"films_of_failures: {failures} must be at least 0, which films no failed episode.")
    require_plots()
    if rerun:
        require_rerun()


def write_results(
    done: Rollout, config: EvaluationConfig, out: Path, failures: int = 4, rerun: bool = False
) -> Report:
    """Write the results of an evaluation into ``out``.

    The files are ``report.json``; ``report.variants.parquet``, one row per episode
    (:mod:`wamkit.evaluation.output.records`); ``variants.jsonl``, the list of variants, if episodes were perturbed;
    ``films/*.mp4`` of failed episodes; ``rerun/*.rrd`` of the same episodes and of those with filmstrips; and
    ``report.html``. What an earlier evaluation in ``out`` left of these is removed.

    Args:
        done: finished evaluation.
        config: config of the evaluation.
        out: output folder.
        failures: largest number of failed episodes that are filmed.
        rerun: true to export filmed episodes for the Rerun viewer.

    Raises:
        DataError: a simulator broke or did not repeat an episode while it was filmed. The report is already written
            then, its page is not.
    """
    out.mkdir(parents=True, exist_ok=True)
    report = done.report
    report.save(out / "report.json")
    write_records(out / RECORDS_FILE, report.episodes)
    if report.shifts is not None:
        write_variants(out / VARIANTS_FILE, variants(config))
    else:
        (out / VARIANTS_FILE).unlink(missing_ok=True)
    if not report.filmstrips:
        pictures_path(out / "report.json").unlink(missing_ok=True)
    for folder, pattern in ((FILMS_FOLDER, "*.mp4"), (RERUN_FOLDER, "*.rrd")):
        for stale in (out / folder).glob(pattern):
            stale.unlink()
    traced = {trace.plan.key for trace in done.traces}
    failed = choose_failures([e for e in report.episodes if e.key in traced], failures)
    filmed_keys = {episode.key for episode in failed}
    chosen = [t for t in done.traces if t.plan.key in filmed_keys or (rerun and t.plan.filmed and t.blocks)]
    observation = config.env.observation_spec()
    # Films and exports hold one frame per tick of the policy.
    action = dataclasses.replace(config.env.action_spec(), rate_hz=report.control_hz)

    ended = {episode.key: (episode.status, episode.ticks) for episode in report.episodes}

    def export(recording: Recording) -> None:
        now, before = (recording.status, len(recording.actions)), ended[recording.plan.key]
        if now != before:
            raise DataError(
                f"episode {recording.plan.key}: {before[0]} after {before[1]} ticks, but {now[0]} after {now[1]} when "
                f"it was simulated again. This simulator does not repeat itself: evaluate without films or exports."
            )
        if recording.plan.key in filmed_keys:
            write_film(recording, out / FILMS_FOLDER, action.rate_hz)
        if rerun:
            write_rerun(recording, report.filmstrips, out / RERUN_FOLDER, observation, action)

    record(config, chosen, export)
    write_report_page([(report, out)], out / "report.html")
    return report
