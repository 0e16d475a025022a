"""`make quality`: what helps on hard tasks, one change at a time, at equal processor time.

Every row of :data:`CHANGES` is the design of ``--recipe`` with one choice changed, trained for the processor time of
the unchanged one and run on the same unseen episodes. Demonstrations are collected once per way of collecting them.
What is there is kept, and ``python docs/generate.py`` makes the table of ``docs/results/quality.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from demo import Clock
from equal_time import equal_time
from study import Run, collected, machine, study, tasks_of

from wamkit.api import CollectConfig, EvaluationConfig, TrainConfig, recipe
from wamkit.config import parse

IMAGES = "--design.encoders.images."


@dataclass(frozen=True)
class Change:
    """Options that differ from the defaults.

    Attributes:
        training: options of the training, a command line.
        demonstrations: options of the collection.
        evaluation: options of the evaluation.
        longer: factor on the processor time of the training.
    """

    training: str = ""
    demonstrations: str = ""
    evaluation: str = ""
    longer: float = 1.0


CHANGES = {
    "default": Change(),
    "read-out: keypoints": Change(f"{IMAGES}pool keypoints {IMAGES}stride 1"),
    "read-out: grid of tokens": Change(f"{IMAGES}pool grid"),
    "no normalisation of the map": Change(f"{IMAGES}norm none"),
    "as before: keypoints, nothing normalised, shift": Change(
        f"{IMAGES}pool keypoints {IMAGES}stride 1 {IMAGES}norm none {IMAGES}channels [32,48,48] {IMAGES}shift 2"
    ),
    "pictures of 96 pixels": Change("--design.view.most 96", "--image_size 96", "--env.image_size 96"),
    "shift by 2 pixels": Change(f"{IMAGES}shift 2"),
    "8 tokens per camera": Change(f"{IMAGES}tokens 8"),
    "twice the channels": Change(f"{IMAGES}channels [64,128,128] {IMAGES}features 64"),
    "two observed steps": Change("--design.observation [-4,0]"),
    "state masked in 3 of 10 windows": Change("--design.encoders.state.dropout 0.3"),
    "trunk of width 256": Change("--design.trunks.main.width 256 --design.width 256"),
    "chunk of 32": Change("--design.horizon 32"),
    "4 of 16 executed": Change(evaluation="--controller.type chunked --controller.execute 4"),
    "16 of 16 executed": Change(evaluation="--controller.type open_chunked --controller.execute 16"),
    "actions by range": Change("--design.action.normalization min_max"),
    "no noise in demonstrations": Change(demonstrations="--noise.probability 0"),
    "three times as long": Change(longer=3.0),
}


def options() -> argparse.Namespace:
    """What to run; the defaults are what the table reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=["hard"], help="hard, mt10, mt50, or names of tasks")
    parser.add_argument("--recipe", default="direct")
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=list(CHANGES))
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--demonstrations", type=int, default=50, help="per task")
    parser.add_argument("--steps", type=int, default=4000, help="of the unchanged design")
    parser.add_argument("--episodes", type=int, default=25, help="per task")
    parser.add_argument("--seeds", type=int, default=3, help="trainings per change")
    parser.add_argument(
        "--seed", type=int, default=0, help="of demonstrations and evaluation; first training"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further runs after this long")
    parser.add_argument("--publish", type=Path, default=Path("docs/results/quality.json"))
    return parser.parse_args()


def folder(name: str) -> str:
    """Name of a change as that of a folder."""
    return "".join(c if c.isalnum() else "-" for c in name)


def training(chosen: argparse.Namespace, name: str, data: Path, seed: int) -> TrainConfig:
    """Training of a change, with the steps of the unchanged design."""
    plain = TrainConfig(
        dataset=data,
        out=chosen.out / folder(name) / str(seed),
        design=dataclasses.replace(recipe(chosen.recipe), name=name),
        steps=chosen.steps,
        seed=chosen.seed + seed,
    )
    return parse(TrainConfig, CHANGES[name].training.split(), plain)


def runs_of(chosen: argparse.Namespace, tasks: tuple[str, ...], clock: Clock) -> list[Run]:
    """Every change with every seed, seeds in the outer loop, so that a table is filled evenly."""
    plain = CollectConfig(chosen.out, tasks, episodes=chosen.demonstrations, seed=chosen.seed, tail_ticks=6)
    found, data, names = [], {}, list(dict.fromkeys(("default", *chosen.changes)))
    for name in names:
        how = CHANGES[name].demonstrations
        out = chosen.out / f"data{folder(how)}"
        data[name] = collected(parse(CollectConfig, how.split(), dataclasses.replace(plain, out=out)), clock)
    base = EvaluationConfig(tasks=tasks, episodes=chosen.episodes, seed=chosen.seed, slots=16)
    firsts = [training(chosen, name, data[name], 0) for name in names]
    costs = equal_time(firsts, "default", chosen.out / "equal_time.json")
    for seed in range(chosen.seeds):
        for name in chosen.changes:
            config = training(chosen, name, data[name], seed)
            steps = max(1, round(costs[name].steps * CHANGES[name].longer))
            evaluation = parse(EvaluationConfig, CHANGES[name].evaluation.split(), base)
            found.append(Run(f"{name}/{seed}", dataclasses.replace(config, steps=steps), evaluation))
    return found


def main() -> None:
    """Collect, measure what a step costs, train and judge the runs without a row, two at a time."""
    chosen, clock = options(), Clock()
    tasks = tasks_of(chosen.tasks)
    head = {
        "command": "make quality",
        "setting": f"`{chosen.recipe}`, {chosen.demonstrations} demonstrations per task, the processor time of "
        f"{chosen.steps} steps of the default, {chosen.episodes} unseen episodes per task, evaluation seed "
        f"{chosen.seed}",
        "machine": machine(),
        "tasks": list(tasks),
        "changes": {name: encode_change(change) for name, change in CHANGES.items()},
    }
    study(runs_of(chosen, tasks, clock), chosen.publish, head, chosen.minutes, clock)


def encode_change(change: Change) -> dict[str, object]:
    """Options of a change that are set."""
    return {key: value for key, value in dataclasses.asdict(change).items() if value not in ("", 1.0)}


if __name__ == "__main__":
    main()
