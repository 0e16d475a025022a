"""The verbs of the command line as functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wamkit.catalog import entries as list_parts
from wamkit.collect import CollectConfig, collect
from wamkit.config import decode
from wamkit.contract.protocols import DataSpec
from wamkit.contract.specs import CLOCK
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design, from_pretrained
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.design.config import DesignConfig
from wamkit.envs import MetaWorldConfig
from wamkit.envs.ground_truth import RECORDABLE
from wamkit.errors import ConfigError, did_you_mean
from wamkit.evaluation.closed_loop.budgets import Grid
from wamkit.evaluation.closed_loop.journal import discard_journal
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.evaluation.closed_loop.sweep import Sweep
from wamkit.evaluation.closed_loop.sweep import sweep as run_sweep
from wamkit.evaluation.output.results import check_outputs, write_results
from wamkit.evaluation.report.compare import Comparison, label_reports
from wamkit.evaluation.report.compare import compare as compare_reports
from wamkit.evaluation.report.report import Report
from wamkit.imagining import ImagineConfig, imagine
from wamkit.predicting import PredictConfig, correlate_runs, predict
from wamkit.training import TrainConfig, train
from wamkit.zoo import RECIPES, recipe


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


@dataclass(frozen=True)
class SweepConfig:
    """Evaluate a checkpoint at every budget of a grid, on the same episodes.

    Attributes:
        checkpoint: as of :class:`EvaluateConfig`.
        out: folder for ``sweep.json``, ``sweep.html`` and one report per point. Finished points and
            episodes are kept.
        grid: the budgets, such as ``--grid.nfe.action '[1, 2, 4]' --grid.future '[true, false]'``.
        evaluation: what is run at every point. Its controller is the checkpoint's unless given.
        dataset: training data, so that its fingerprint stands in the reports.
        device: torch device of the policy.
    """

    checkpoint: str = "runs/train/model"
    out: Path = Path("runs/sweep")
    grid: Grid = field(default_factory=Grid)
    evaluation: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(films=0, latency_calls=50))
    dataset: Path | None = None
    device: str = "cpu"


def sweep(config: SweepConfig, progress: bool = True) -> Sweep:
    """Accuracy at a budget; writes ``sweep.json``, ``sweep.html`` and the points' reports into ``config.out``."""
    from wamkit.evaluation.output.sweep_page import write_sweep_html  # draws with matplotlib, an extra

    folder = find_checkpoint(config.checkpoint)
    result = run_sweep(
        from_pretrained(folder, config.device),
        config.grid,
        config.evaluation,
        config.out,
        dataset=Dataset(config.dataset).fingerprint() if config.dataset is not None else None,
        checkpoint=checkpoint_digest(folder),
        progress=progress,
    )
    write_sweep_html(result, config.out / "sweep.html")
    return result


def report(runs: Sequence[Path], out: Path) -> Path:
    """Write one page that shows one or several finished evaluations side by side, with what lies beside them."""
    from wamkit.evaluation.output.report_page import write_page  # draws with matplotlib, an extra

    files = [report_file(run) for run in runs]
    write_page([(Report.load(file), file.parent) for file in files], out)
    return out


def report_file(run: Path) -> Path:
    """The report of a run, given by its folder or by the file itself."""
    return run / "report.json" if run.is_dir() else run


def compare(runs: Sequence[Path], out: Path) -> Comparison:
    """Compare finished evaluations with the first one on the episodes that they share.

    Writes ``compare.json`` and ``compare.html`` into ``out``.

    Raises:
        ConfigError: fewer than two runs, one given twice, or one that shares no episode with the first.
        DataError: a run has no readable report.
    """
    from wamkit.evaluation.output.compare_page import write_comparison  # draws with matplotlib, an extra

    reports = label_reports([(run, Report.load(report_file(run))) for run in runs])
    found = compare_reports(reports)
    out.mkdir(parents=True, exist_ok=True)
    found.save(out / "compare.json")
    write_comparison(found, reports, out / "compare.html")
    return found


def unit_stats(width: int) -> dict[str, np.ndarray]:
    """Statistics of data in [-1, 1], for looking at a design before there is data."""
    rows = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0, "q01": -1.0, "q50": 0.0, "q99": 1.0}
    return {name: np.full(width, value) for name, value in rows.items()}


def load_design(name: str, dataset: Path | None = None) -> Design:
    """A design by recipe name, YAML or JSON file, checkpoint folder or hub id.

    Recipes and files are built untrained, for ``dataset`` or else for the embedded benchmark.
    """
    path = Path(name)
    if name in RECIPES:
        config = recipe(name)
    elif path.suffix in (".yaml", ".yml", ".json") and path.is_file():
        config = decode(DesignConfig, yaml.safe_load(path.read_text()), str(path))
    elif path.is_dir() or name.count("/") == 1:
        return from_pretrained(name)
    else:
        raise ConfigError(f"no recipe, file or checkpoint {name!r}. {did_you_mean(name, RECIPES)}")
    if dataset is not None:
        return Design(config, data_spec(Dataset(dataset)))
    env = MetaWorldConfig(record=RECORDABLE)  # a design may foresee any of the simulator's ground truth
    observation, action = env.observation_spec(), env.action_spec()
    stats = {"action": unit_stats(action.width), "observation.state": unit_stats(len(observation.state))}
    extras = {extra: shape for extra, (shape, _) in env.extras_spec().items()}
    return Design(config, DataSpec(observation, action, stats, {**extras, CLOCK: (3,)}))


def inspect(name: str, dataset: Path | None = None) -> dict[str, Any]:
    """What a design is: tuple, factorisation, WAM status, parameters per part, specs. Plain values."""
    design = load_design(name, dataset)
    observation, action = design.observation_spec, design.action_spec
    cameras = {c: [s.height, s.width, s.channels] for c, s in observation.cameras.items()}
    inputs = {"cameras": cameras, "state": list(observation.state), "rate_hz": observation.rate_hz}
    window = design.window
    return {
        **design.describe(),
        "inputs": {**inputs, "observed_ticks": list(window.observation), "past_actions": window.past_actions},
        "outputs": {
            "action": list(action.names),
            "low": list(action.low),
            "high": list(action.high),
            "mode": action.mode,
            "frame": action.frame,
            "rotation": action.rotation,
            "gripper": action.gripper,
        },
    }


def to_json(value: Any) -> str:
    """Readable JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


__all__ = [
    "CollectConfig",
    "EvaluateConfig",
    "EvaluationConfig",
    "ImagineConfig",
    "PredictConfig",
    "SweepConfig",
    "TrainConfig",
    "collect",
    "compare",
    "correlate_runs",
    "evaluate",
    "from_pretrained",
    "imagine",
    "inspect",
    "list_parts",
    "load_design",
    "predict",
    "recipe",
    "report",
    "sweep",
    "train",
]
