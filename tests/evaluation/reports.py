"""A small, complete report for tests."""

import numpy as np

from wamkit.config import config_hash
from wamkit.evaluation.prediction.estimates import Estimate
from wamkit.evaluation.prediction.prediction import Distance, Prediction, PredictionRow
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.filmstrip import make_strip
from wamkit.evaluation.report.report import Deadline, Horizon, Latency, Report
from wamkit.evaluation.report.scores import score
from wamkit.evaluation.report.shifts import shift_table
from wamkit.evaluation.report.statistics import summarise


def small_report(name: str = "joint", successes: int = 3, errors: int = 0, strips: bool = False) -> Report:
    """Two tasks, five episodes each: ``successes`` of the first succeed, ``errors`` of the second break."""
    records = [
        EpisodeRecord("push", s, "push it", "success" if s < successes else "timeout", 20, 3)
        for s in range(5)
    ]
    for s in range(5):
        broke = s < errors
        status = "error" if broke else ("failure" if s == 4 else "success")
        trace = "Traceback: boom <b>" if broke else None
        records.append(EpisodeRecord("open", s, "open <it> & go", status, 10, 2, 0.25, trace))
    tasks, overall, mean = score(records)
    samples = tuple(5.0 + 0.1 * i for i in range(20))
    config = {"episodes": 5, "tasks": ["push", "open"]}
    return Report(
        name=name,
        design={
            "tuple": {
                "substrate": "pixel",
                "coupling": "joint",
                "backbone": "diffusion",
                "deployment": "chunked",
            },
            "formula": "p(s,a|c)",
            "is_wam": True,
        },
        tasks=tasks,
        overall=overall,
        mean_over_tasks=mean,
        shifts=shift_table(records),
        latency_ms=Latency(n=20, batch=1, p50=5.95, p95=6.8, max=6.9, first=40.0),
        latency_samples_ms=samples,
        stage_ms={"encode": summarise([1.0, 2.0]), "action": summarise([3.0, 4.0])},
        batched_call_ms=summarise([10.0, 12.0, 14.0]),
        mean_batch=4.0,
        nfe={"action": 10.0, "future": 2.5},
        calls_per_episode=summarise([e.calls for e in records if e.status != "error"]),
        horizon=Horizon(predict=16, execute=8),
        deadline=Deadline(control_hz=10.0, allowed_ms=800.0, n=20, misses=0, met=True),
        control_hz=10.0,
        peak_mem_mb={"process": 512.0},
        budget={"nfe": {"action": 10}, "future": None},
        prompt_mode="canonical",
        versions={"python": "3.11.0"},
        device={"policy": "cpu", "cpu": "a processor"},
        threads=1,
        seeds={"push": tuple(range(5)), "open": tuple(range(5))},
        wall_s=12.5,
        rollout_s=10.25,
        config=config,
        config_hash=config_hash(config),
        dataset=None,
        notes=(),
        episodes=tuple(records),
        filmstrips=small_strips() if strips else (),
    )


def small_strips() -> tuple:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    pairs = [(8, frames[1], frames[2]), (16, frames[3], frames[3])]
    return tuple(make_strip(task, 1, "scene", 8, True, frames[0], pairs) for task in ("push", "open"))


def small_prediction(**changes: object) -> Prediction:
    """PSNR at two horizons with 3 dB of drift at the further one, an error that one episode knows, a distance."""

    def about(mean: float, half: float | None = 0.5, n: int = 12) -> Estimate:
        ends = (None, None) if half is None else (mean - half, mean + half)
        return Estimate(n, 4 if half is not None else 1, mean, *ends)

    psnr = [
        PredictionRow("future", "scene", "psnr", "dB", "higher", 100.0, step, "ticks", 1, about(model), about(20.0),
            about(30.0),
            about(model - 20.0), about(30.0 - model))
        for step, model in ((8, 28.0), (16, 27.0))
    ]  # fmt: skip
    lone = about(0.25, None, 3)
    error = PredictionRow(
        "tracks <b>", "points", "end-point error", "px", "lower", 0.0, 1, "milestone", 2, *[lone] * 5
    )
    return Prediction(
        name="joint",
        design={},
        actions="own",
        rows=(*psnr, error),
        distances=(Distance("frechet[looks]", "future", 8, 12, 8, 1.5, 2.5, 0.125, "few samples"),),
        windows=12,
        episodes=4,
        budget={},
        seed=0,
        dataset="demonstrations",
        versions={},
        device={},
        wall_s=1.0,
        notes=("8 of 12 windows",),
        **changes,
    )
