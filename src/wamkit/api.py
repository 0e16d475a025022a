"""Names for programs: every verb of the command line as a function, with its config."""

from wamkit.contract.types import Budget
from wamkit.design import Design, DesignConfig, FutureConfig, from_pretrained, save_pretrained
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.training import TrainConfig, train
from wamkit.verbs.catalog import list_parts
from wamkit.verbs.ceiling import CeilingConfig, ceiling
from wamkit.verbs.collect import CollectConfig, collect
from wamkit.verbs.evaluate import EvaluateConfig, evaluate, evaluate_with_ray, merge_runs
from wamkit.verbs.imagine import ImagineConfig, imagine
from wamkit.verbs.inspect import inspect
from wamkit.verbs.load import load
from wamkit.verbs.predict import PredictConfig, correlate_runs, predict
from wamkit.verbs.report import compare, report
from wamkit.verbs.sweep import SweepConfig, sweep
from wamkit.zoo import recipe

__all__ = [
    "Budget",
    "CeilingConfig",
    "CollectConfig",
    "Design",
    "DesignConfig",
    "EvaluateConfig",
    "EvaluationConfig",
    "FutureConfig",
    "ImagineConfig",
    "PredictConfig",
    "SweepConfig",
    "TrainConfig",
    "ceiling",
    "collect",
    "compare",
    "correlate_runs",
    "evaluate",
    "evaluate_with_ray",
    "from_pretrained",
    "imagine",
    "inspect",
    "list_parts",
    "load",
    "merge_runs",
    "predict",
    "recipe",
    "report",
    "save_pretrained",
    "sweep",
    "train",
]
