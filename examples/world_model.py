"""`make world_model`: does prediction tell control, and may a world model stand in for the simulator?

Trains what `make table` has not trained already, a ladder of early checkpoints and a world model, measures predictions
on held-out demonstrations, lets the ladder act in the world model's imagination, correlates both with success in the
simulator and writes ``docs/results/world_model.json``; ``python docs/generate.py`` makes the tables of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from demo import TASKS, Clock, train_side_by_side
from experience import TAIL_TICKS, Wanted, gather, known_world, picture_world
from rich.console import Console
from table import demonstrations, evaluate_apart, is_trained

from wamkit.api import (
    CollectConfig,
    EvaluateConfig,
    EvaluationConfig,
    PredictConfig,
    TrainConfig,
    collect,
    predict,
    recipe,
)
from wamkit.evaluation.prediction.correlation import CheckpointRecord, correlate
from wamkit.evaluation.prediction.prediction import Prediction
from wamkit.evaluation.prediction.quality import PredictionConfig
from wamkit.evaluation.report.report import Report
from wamkit.storage.provenance import versions
from wamkit.verbs.imagine import ImaginationReport, ImagineConfig, imagine
from wamkit.zoo.couplings import EXECUTE

# All of these imagine both cameras at 8 ticks, so that their predictions share measures.
DESIGNS = (
    "joint",
    "autoregressive",
    "rollout",
    "recurrent",
    "chunk_causal",
    "pixels",
    "equilibrium",
    "masked",
    "mixture",
    "feature_tap",
)
OTHERS = ("direct", "post_head", "masked", "pixels")  # policies of other designs that keep no past
TEACHERS = (50, 100, 200, 300, 600)  # steps of the direct ladder whose rollouts the world model learns from
JUDGES = (150, 400)  # those whose rollouts it is measured on
LEARNT = Wanted(demonstrations=40, disturbed=60, rollouts=10, seed=10)
EXECUTED = Wanted(demonstrations=5, disturbed=5, rollouts=5, seed=20)
EVERY = 50  # steps between the checkpoints that a ladder is taken from
RUNGS = (50, 100, 150, 200, 300, 400, 600)
MEASURES = ("psnr", "ssim")
BATCH = 64  # windows per step of the world model


def options() -> argparse.Namespace:
    """What to run; the defaults are what the page reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/table"), help="where `make table` trained")
    parser.add_argument("--work", type=Path, default=Path("runs/world_model"), help="everything else")
    parser.add_argument("--demonstrations", type=int, default=100, help="per task")
    parser.add_argument("--steps", type=int, default=1500, help="of the designs of `make table`")
    parser.add_argument("--world-steps", type=int, default=5000, help="of the world of known states")
    parser.add_argument("--picture-steps", type=int, default=1000, help="of the world of pictures")
    parser.add_argument("--episodes", type=int, default=20, help="per task, evaluated and held out")
    parser.add_argument("--starts", type=int, default=10, help="per task, of imagined rollouts")
    parser.add_argument("--imagined", type=int, nargs="+", default=[6, 12, 25], help="imagined steps")
    parser.add_argument("--workers", type=int, default=2, help="simulator processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--publish", type=Path, default=Path("docs/results/world_model.json"))
    return parser.parse_args()


def train_missing(trainings: Sequence[TrainConfig]) -> None:
    """Two at a time, what is not there yet."""
    missing = [training for training in trainings if not is_trained(training)]
    for start in range(0, len(missing), 2):
        train_side_by_side(missing[start : start + 2])


def ladder(work: Path, name: str, steps: Sequence[int] = RUNGS) -> dict[str, Path]:
    """Name -> early checkpoint of a design."""
    return {f"{name} {step}": work / name / "checkpoints" / f"step-{step:08d}" for step in steps}


def evaluated(name: str, places: Places, chosen: argparse.Namespace) -> Report:
    """The report of a policy, made where it is missing."""
    folder = places.report(name)
    if not (folder / "report.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        evaluation = EvaluationConfig(
            tasks=TASKS, episodes=chosen.episodes, seed=chosen.seed, slots=16, workers=chosen.workers
        )
        evaluate_apart(
            EvaluateConfig(
                str(places.model(name)), folder, evaluation, dataset=places.data, films_of_failures=0
            )
        )
    report = Report.load(folder / "report.json")
    Console().print(f"{name}: {report.headline()}")
    return report


def predicted(checkpoint: Path, held: Path, out: Path) -> Prediction:
    """The prediction in ``out``, measured where it is missing."""
    if not (out / "prediction.json").exists():
        predict(PredictConfig(str(checkpoint), held, out, PredictionConfig(windows=4)))
    return Prediction.load(out / "prediction.json")


def record_of(name: str, report: Report, found: Prediction) -> CheckpointRecord:
    """Pictures at 8 ticks, and how far the model is from what its own codec could show."""
    values, lower = {}, set()
    for row in found.rows:
        if row.measure in MEASURES and row.stream == "future" and row.step == EXECUTE:
            assert row.model.mean is not None
            assert row.drift.mean is not None
            key = f"{row.measure}, {row.reading} camera"
            values[key] = row.model.mean
            values[f"{key}, drift"] = row.drift.mean
            lower.add(f"{key}, drift")
    rate = report.mean_over_tasks.rate
    assert rate is not None
    return CheckpointRecord(name, rate, values, frozenset(lower))


def block(records: Sequence[CheckpointRecord], reports: Mapping[str, Report]) -> dict[str, object]:
    """Checkpoints and the correlations over them."""
    return {
        "checkpoints": {
            r.name: {
                "successes": reports[r.name].overall.successes,
                "n": reports[r.name].overall.n,
                "errors": reports[r.name].overall.statuses["error"],
                "success": r.success,
                "measures": r.measures,
            }
            for r in records
        },
        "correlations": [dataclasses.asdict(c) for c in correlate(records)],
    }


@dataclasses.dataclass(frozen=True)
class Places:
    """Where everything lies.

    Attributes:
        data: demonstrations of `make table`.
        held: demonstrations that no training saw.
        rungs: name -> early checkpoint of the joint design.
        table: name -> run of `make table`.
        work: folder of everything else.
    """

    data: Path
    held: Path
    rungs: dict[str, Path]
    table: dict[str, Path]
    work: Path

    def model(self, name: str) -> Path:
        """The checkpoint of a policy."""
        return self.rungs[name] if name in self.rungs else self.table[name] / "model"

    def report(self, name: str) -> Path:
        """The folder of its evaluation."""
        return self.beside("evaluated", name) if name in self.rungs else self.table[name]

    def beside(self, kind: str, name: str) -> Path:
        """A folder for what is found of a policy."""
        return self.work / kind / name.replace(" ", "-")


def prepare(chosen: argparse.Namespace) -> Places:
    """Demonstrations and trained policies, made where they are missing."""
    out, work = chosen.out, chosen.work
    data = demonstrations(out, chosen.demonstrations, chosen.seed, Clock())
    table = {name: out / name for name in dict.fromkeys((*DESIGNS, *OTHERS))}
    trainings = [
        TrainConfig(data, path, recipe(name), steps=chosen.steps, seed=chosen.seed)
        for name, path in table.items()
    ]
    trainings += [
        TrainConfig(
            data, work / name, recipe(name), steps=RUNGS[-1], seed=chosen.seed, checkpoint_every=EVERY
        )
        for name in ("joint", "direct")
    ]
    train_missing(trainings)
    held = work / "heldout"
    if not held.exists():
        collect(
            CollectConfig(
                held, TASKS, chosen.episodes, seed=chosen.seed + 1, tail_ticks=6, workers=chosen.workers
            )
        )
    return Places(data, held, ladder(work, "joint"), table, work)


def measured(
    world: TrainConfig, folders: Mapping[str, Path], out: Path, chosen: argparse.Namespace, **more: Any
) -> ImaginationReport:
    """What a world model imagines, alone or of the policies among ``more``."""
    return imagine(
        ImagineConfig(
            world=str(world.out / "model"),
            starts=folders["starts"],
            demonstrations=folders["solved"],
            failures=folders["experience"],
            executed=folders["executed"],
            out=out,
            tasks=TASKS,
            per_task=chosen.starts,
            steps=tuple(chosen.imagined),
            tail=TAIL_TICKS,
            gap=2,
            seed=chosen.seed,
            overwrite=True,
            **more,
        )
    )


def imagined(
    places: Places, chosen: argparse.Namespace
) -> tuple[ImaginationReport, ImaginationReport, TrainConfig]:
    """What the world of known states imagines of the policies, how far one of pictures comes, and the former's run."""
    ladders = ladder(places.work, "direct", (*TEACHERS, *JUDGES))
    teachers, judges = (
        {name: path for name, path in ladders.items() if int(name.split()[1]) in steps}
        for steps in (TEACHERS, JUDGES)
    )
    folders = {
        name: gather(places.work / name, TASKS, wanted, policies, chosen.workers)
        for name, wanted, policies in (
            ("experience", LEARNT, teachers),
            ("executed", EXECUTED, judges),
            ("solved", Wanted(30, 0, 0, 30), {}),
            ("starts", Wanted(chosen.starts, 0, 0, 31), {}),
        )
    }
    data, work = folders["experience"], places.work
    world = TrainConfig(
        data,
        work / "world",
        known_world(),
        steps=chosen.world_steps,
        batch_size=BATCH,
        seed=chosen.seed,
    )
    pictures = TrainConfig(
        data, work / "pictures", picture_world(), steps=chosen.picture_steps, seed=chosen.seed
    )
    train_missing([world])
    train_missing([pictures])
    names = [*places.rungs, "joint", *OTHERS]
    found = measured(
        world,
        folders,
        work,
        chosen,
        policies={name: str(places.model(name)) for name in names},
        reports={name: places.report(name) for name in names},
        stream="objects",
        fixed=("object_base",),
    )
    return found, measured(pictures, folders, work / "pictures", chosen), world


def main() -> None:
    """Train what is missing, measure, imagine, correlate, publish."""
    chosen = options()
    places = prepare(chosen)
    reports = {name: evaluated(name, places, chosen) for name in (*places.rungs, *places.table)}
    records = {
        name: record_of(
            name,
            reports[name],
            predicted(places.model(name), places.held, places.beside("predicted", name)),
        )
        for name in (*places.rungs, *DESIGNS)
    }
    found, pictures, world = imagined(places, chosen)
    publish(chosen, reports, records, list(places.rungs), found, pictures, world)


def coefficients(found: ImaginationReport) -> list[dict[str, object]]:
    """Correlation of imagined score with success, for both ways of acting and every horizon."""
    return [
        {
            "actor": judgement.actor,
            "ticks": judgement.proxy.scores[0].horizon_ticks,
            "starts": len(judgement.proxy.scores[0].scores),
            **dataclasses.asdict(judgement.proxy.correlation),
        }
        for judgement in found.judgements
    ]


def scored(found: ImaginationReport, reports: Mapping[str, Report]) -> dict[str, dict[str, object]]:
    """Per policy: success in the simulator and the score, its own and under other rows' actions, by ticks."""
    rows: dict[str, dict[str, object]] = {}
    for judgement in found.judgements:
        for score in judgement.proxy.scores:
            overall = reports[score.policy].overall
            row = rows.setdefault(
                score.policy,
                {
                    "successes": overall.successes,
                    "n": overall.n,
                    "errors": overall.statuses["error"],
                    "success": judgement.proxy.success[score.policy],
                },
            )
            row[f"{judgement.actor}@{score.horizon_ticks}"] = dataclasses.asdict(score.score)
    return rows


def strayed(found: ImaginationReport) -> dict[str, object]:
    """The scorer on real frames and the world model under actions that were taken."""
    return {
        "probe": {task: dataclasses.asdict(row) for task, row in found.probe.items()},
        "one_step": dataclasses.asdict(found.one_step),
        "drift": [dataclasses.asdict(row) for row in found.drift],
        "tellings": [dataclasses.asdict(row) for row in found.tellings],
    }


def publish(
    chosen: argparse.Namespace,
    reports: Mapping[str, Report],
    records: Mapping[str, CheckpointRecord],
    rungs: Sequence[str],
    found: ImaginationReport,
    pictures: ImaginationReport,
    world: TrainConfig,
) -> None:
    """Write the record that the page's tables are generated from."""
    some = next(iter(reports.values()))
    record = {
        "command": "make world_model",
        "commits": sorted({report.versions.get("commit", "unknown") for report in reports.values()}),
        "setting": (
            f"{chosen.demonstrations} demonstrations per task, {chosen.steps} steps of {world.batch_size} windows "
            f"(`joint N`: step N of a run of {RUNGS[-1]}), seed {chosen.seed}; {chosen.episodes} episodes per task "
            f"in the simulator; predictions on {chosen.episodes} demonstrations per task that no training saw"
        ),
        "world_setting": (
            f"{world.steps} steps of {world.batch_size} windows; per task {LEARNT.demonstrations} demonstrations "
            f"without noise, {LEARNT.disturbed} under strong noise and {LEARNT.rollouts} rollouts of each of "
            f"`direct` at {list(TEACHERS)} steps, failures too, all with the executed actions; measured on "
            f"{EXECUTED.demonstrations}, {EXECUTED.disturbed} and {EXECUTED.rollouts} of the same kinds, `direct` at "
            f"{list(JUDGES)} steps, none of them seen in training"
        ),
        "machine": f"{os.cpu_count()} cores of {some.device.get('cpu', 'unknown')}, one torch thread per process",
        "prediction": {
            "ladder": block([records[name] for name in (*rungs, "joint")], reports),
            "designs": block([records[name] for name in DESIGNS], reports),
        },
        "imagination": {
            "commit": versions().get("commit", "unknown"),
            "world": found.world,
            "policies": scored(found, reports),
            "correlations": coefficients(found),
            "start": found.start,
            **strayed(found),
            "pictures": {"world": pictures.world, "steps": chosen.picture_steps, **strayed(pictures)},
            "steps_per_s": float(np.mean([s.steps_per_s for j in found.judgements for s in j.proxy.scores])),
            "wall_s": found.wall_s,
        },
    }
    chosen.publish.parent.mkdir(parents=True, exist_ok=True)
    chosen.publish.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
