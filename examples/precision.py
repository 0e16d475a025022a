"""Where a policy loses precision, in millimetres: its encoders, its actions, or what its errors add up to.

``python examples/precision.py --checkpoint runs/train/model --dataset runs/data --tasks peg-insert-side-v3``

For every MetaWorld task: probes of the encoders' tokens on unseen demonstrations, open-loop errors, the gap to the
scripted expert in closed loop, episodes in which the expert does part of the work, and failures. Demonstrations with
ground truth are recorded anew, with the seeds of ``--dataset``, which gives the same frames.

``docs/results/precision.json`` keeps every stage of every task; what is there is left as it is, so that several
sittings finish the record, of which ``python docs/generate.py`` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from demo import Clock
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from table import publish_rows, published

from wamkit.api import Budget, CollectConfig, EvaluationConfig, PredictConfig, collect, from_pretrained
from wamkit.config import decode
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.envs import EnvConfig, MetaWorldConfig
from wamkit.envs.metaworld import DISPLACEMENT_M
from wamkit.errors import DataError
from wamkit.evaluation.closed_loop.tutored import Takeover, TutoredEpisode, tutor
from wamkit.evaluation.prediction.context import TUNED, context_features, tuned_features
from wamkit.evaluation.prediction.precision import (
    Readings,
    at_closed_loop,
    at_open_loop,
    at_probes,
    gaps_of,
    nearest,
    outcomes,
    phases_of_frames,
    points_that_vary,
    quantiles,
)
from wamkit.evaluation.prediction.replay import predict_actions, recorded_actions, recorded_chunks
from wamkit.storage.provenance import versions
from wamkit.verbs.acting import policy_in
from wamkit.verbs.predict import opened
from wamkit.views import ViewConfig

RECORD = ("landmarks", "facts")
MADE_OF = "info.inputs.json"  # what a collection writes beside its dataset
FRAMES = 8  # of a strip
EVERY = slice(None, None, 2)  # frames of demonstrations that are read
ALONE = "policy alone"
ALL = ("reach", "contact", "transport")
# Who does what: arm -> part of the actions that is the expert's.
ARMS: Mapping[str, Takeover] = {
    ALONE: Takeover(),
    "expert until the first contact": Takeover(("reach",)),
    "expert from the first contact on": Takeover(("contact", "transport")),
    "expert moves, policy grips": Takeover(ALL, (0, 1, 2)),
    "policy moves, expert grips": Takeover(ALL, (3,)),
    "expert alone": Takeover(ALL),
}


def options() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True, help="what the checkpoint was trained on")
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    parser.add_argument("--demonstrations", type=int, default=100, help="per task, to fit probes on")
    parser.add_argument("--held-out", type=int, default=15, help="demonstrations per task to judge on")
    parser.add_argument("--held-out-seed", type=int, default=50, help="seed of their collection")
    parser.add_argument("--tuning", type=int, default=1000, help="steps of encoders trained for positions")
    parser.add_argument("--episodes", type=int, default=10, help="per task and arm, in closed loop")
    parser.add_argument("--seed", type=int, default=0, help="of the evaluation and the probes")
    parser.add_argument("--publish", type=Path, default=Path("docs/results/precision.json"))
    parser.add_argument("--pictures", type=Path, default=Path("docs/img"), help="folder of the filmstrips")
    return parser.parse_args()


def collection(dataset: Path) -> CollectConfig:
    """How a dataset was collected; raises :class:`DataError` for one that `wamkit collect` did not write."""
    file = dataset / "meta" / MADE_OF
    if not file.is_file():
        raise DataError(f"{file} is missing: only a dataset of `wamkit collect` can be recorded again")
    inputs = json.loads(file.read_text())["inputs"]
    plain = {name: value for name, value in inputs.items() if name != "versions"}
    plain["env"] = {**plain["env"], "task": plain["tasks"][0]}
    return decode(CollectConfig, {**plain, "out": str(dataset)}, str(file))


def recorded(made: CollectConfig, name: str, chosen: argparse.Namespace, **changes: Any) -> Path:
    """Demonstrations with ground truth, collected once as ``made`` was, but for ``changes``."""
    out: Path = chosen.out / name
    if not out.exists():
        tasks = tuple(chosen.tasks)
        collect(replace(made, out=out, tasks=tasks, record=RECORD, workers=1, overwrite=False, **changes))
    return out


def frames_of(
    dataset: Dataset, env: EnvConfig, task: str, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames (N,) of the first ``most`` episodes of ``task``, and their episodes; raises where there is none."""
    phrases = set(replace(env, task=task).phrases())
    mine = [k for k, episode in enumerate(dataset.episodes) if phrases & set(episode.tasks)][:most]
    if not mine:
        raise DataError(f"{dataset.root} does not show {task}; remove it, or choose another --out")
    frames = [np.arange(dataset.episodes[k].start, dataset.episodes[k].stop) for k in mine]
    return np.concatenate(frames), np.repeat(mine, [len(part) for part in frames])


@dataclass(frozen=True)
class Demonstrations:
    """Demonstrations of one task, and their ground truth from a recording of the same episodes.

    Attributes:
        dataset: dataset of several tasks, as a design sees it.
        index: (N,), frames of the task.
        owners: (N,), their episodes.
        truth: name -> ground truth (N, ...), of :data:`RECORD`.
    """

    dataset: Dataset
    index: NDArray[np.int64]
    owners: NDArray[np.int64]
    truth: Mapping[str, NDArray[np.float32]]

    @staticmethod
    def of(dataset: Dataset, told: Dataset, env: EnvConfig, task: str, most: int) -> Demonstrations:
        """Those of ``task``; raises :class:`DataError` where the recordings differ."""
        index, owners = frames_of(dataset, env, task, most)
        same, _ = frames_of(told, env, task, most)
        ours, theirs = dataset.recorded_state[index], told.recorded_state[same]
        if not np.array_equal(ours, theirs):
            raise DataError(
                f"{told.root} does not repeat {dataset.root}: it was recorded by another version, or the design sees "
                f"it at another rate"
            )
        return Demonstrations(dataset, index, owners, {name: told.extras[name][same] for name in RECORD})


def seen_by(design: Design, root: Path, checkpoint: Path) -> Dataset:
    """Demonstrations as the design sees them."""
    plain, _ = opened(design, PredictConfig(checkpoint=str(checkpoint), dataset=root), acted=True)
    return plain.with_extras(design.extras)


@dataclass(frozen=True)
class Study:
    """What is measured, on what."""

    chosen: argparse.Namespace
    env: MetaWorldConfig
    design: Design
    shown: Mapping[str, Demonstrations]
    unseen: Mapping[str, Demonstrations]

    @property
    def mm(self) -> float:
        """Millimetres that an action of 1 commands in one tick."""
        return 1000 * DISPLACEMENT_M * self.env.action_repeat


def probed(study: Study, task: str) -> dict[str, Any]:
    """What probes read from the context, fitted on demonstrations that were shown and judged on unseen ones."""
    sets = []
    for found in (study.shown[task], study.unseen[task]):
        features = context_features(study.design, found.dataset, found.index[EVERY])
        kept = (found.truth[name][EVERY] for name in RECORD)
        sets.append(Readings(features, *kept, found.owners[EVERY]))
    return at_probes(sets[0], sets[1])


def ceiling(study: Study, task: str) -> dict[str, Any]:
    """What the encoders of pictures tell of positions once they are trained for nothing else."""
    shown, unseen = study.shown[task], study.unseen[task]
    values = points_that_vary(shown.truth["landmarks"][EVERY])
    tuned = tuned_features(
        study.design,
        (shown.dataset, shown.index[EVERY], np.concatenate(list(values.values()), axis=1)),
        (unseen.dataset, unseen.index[EVERY]),
        study.chosen.tuning,
        study.chosen.seed,
    )
    sets = [
        Readings({TUNED: features}, *(d.truth[name][EVERY] for name in RECORD), d.owners[EVERY])
        for features, d in zip(tuned, (shown, unseen), strict=True)
    ]
    return at_probes(sets[0], sets[1])


def open_loop(study: Study, task: str) -> dict[str, Any]:
    """Errors of the executed part of chunks on unseen demonstrations."""
    unseen = study.unseen[task]
    design, data, index = study.design, unseen.dataset, unseen.index[EVERY]
    parts, seed = np.array_split(index, -(-len(index) // 64)), study.chosen.seed
    predicted = np.concatenate([predict_actions(design, data, part, Budget(), seed) for part in parts])
    actions, pad = recorded_chunks(design, data, index)
    used = design.controller.horizon(design.config.horizon).execute or design.config.horizon
    mean = recorded_actions(data)[unseen.index].mean(axis=0)
    phases = phases_of_frames(unseen.truth["facts"], unseen.owners)[EVERY]
    return at_open_loop(predicted[:, :used], actions[:, :used], pad[:, :used, 0], mean, phases, study.mm)


def driven(study: Study, task: str, takeover: Takeover) -> list[TutoredEpisode]:
    """Episodes in which the expert does a part of the work."""
    chosen = study.chosen
    config = EvaluationConfig(
        tasks=(task,), episodes=chosen.episodes, seed=chosen.seed, env=study.env, slots=2, films=0
    )
    return tutor(policy_in(config, chosen.checkpoint, "cpu", ViewConfig()), config, takeover)


def alone(study: Study, task: str, episodes: Sequence[TutoredEpisode]) -> dict[str, Any]:
    """Gaps to the expert, and a strip of the first failed episode."""
    shown, unseen = (found[task].truth["landmarks"] for found in (study.shown, study.unseen))
    failed = [episode for episode in episodes if not episode.solved]
    if failed:
        strip(failed[0], study.chosen.pictures / f"{study.chosen.publish.stem}-{task}.png")
    return {
        "by outcome": at_closed_loop(gaps_of(episodes, shown, study.mm)),
        "unseen demonstrations": quantiles(nearest(unseen, shown)),
        "film": {"seed": failed[0].seed, "ticks": len(failed[0].actions)} if failed else None,
    }


def strip(episode: TutoredEpisode, file: Path) -> None:
    """Write a few frames of an episode side by side, one row per camera."""
    ticks = sorted(episode.images)
    shown = [ticks[i] for i in np.unique(np.linspace(0, len(ticks) - 1, FRAMES).round().astype(int))]
    cameras = list(episode.images[0])
    rows = [np.concatenate([episode.images[t][camera] for t in shown], axis=1) for camera in cameras]
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).save(file, optimize=True)


def measure(study: Study, task: str, stage: str, row: dict[str, Any]) -> None:
    """Add a stage to the row of a task."""
    if stage in STAGES:
        row[stage] = STAGES[stage](study, task)
        return
    episodes = driven(study, task, ARMS[stage])
    row.setdefault("arms", {})[stage] = outcomes(episodes)
    if stage == ALONE:
        row["closed_loop"] = alone(study, task, episodes)


STAGES: Mapping[str, Callable[[Study, str], dict[str, Any]]] = {
    "open_loop": open_loop,
    "probes": probed,
    "ceiling": ceiling,
}


def head_of(chosen: argparse.Namespace, design: Design) -> dict[str, Any]:
    """What all rows of the record share."""
    return {
        "command": "python examples/precision.py",
        "setting": f"probes fitted on {chosen.demonstrations} demonstrations per task and judged on "
        f"{chosen.held_out} others, encoders trained for positions for {chosen.tuning} steps, "
        f"{chosen.episodes} unseen episodes per task and arm, evaluation seed {chosen.seed}",
        "machine": f"{os.cpu_count()} cores, one torch thread",
        "design": {"name": design.name, "formula": design.factorisation()},
        "checkpoint": checkpoint_digest(find_checkpoint(chosen.checkpoint)),
    }


def main() -> None:
    """Measure what the record lacks, the cheapest stages of all tasks first, and write it after each."""
    chosen, clock = options(), Clock()
    made, design = collection(chosen.dataset), from_pretrained(chosen.checkpoint)
    head = head_of(chosen, design)
    rows = published(chosen.publish, head, "tasks")
    with clock.phase("collect"):
        # The frames of training are there; what is told of them is recorded again, without pictures.
        told = recorded(made, "shown", chosen, cameras=())
        unseen = recorded(made, "unseen", chosen, episodes=chosen.held_out, seed=chosen.held_out_seed)
    assert isinstance(made.env, MetaWorldConfig)
    sources = ((chosen.dataset, told, chosen.demonstrations), (unseen, unseen, chosen.held_out))
    shown, judged = (
        {task: Demonstrations.of(seen, truth, made.env, task, most) for task in chosen.tasks}
        for seen, truth, most in (
            (seen_by(design, root, chosen.checkpoint), Dataset(again, extras=RECORD), most)
            for root, again, most in sources
        )
    )
    study = Study(chosen, made.env, design, shown, judged)
    helped = [] if design.window.past_actions else list(ARMS)  # it would not know what was executed
    for stage in (ALONE, *STAGES, *helped):
        for task in chosen.tasks:
            row = rows.setdefault(task, {"commit": versions().get("commit", "unknown")})
            if stage not in row and stage not in row.get("arms", {}):
                with clock.phase(f"{task}: {stage}"):
                    measure(study, task, stage, row)
                publish_rows(chosen.publish, head, "tasks", rows)
    Console().print(", ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.seconds.items()))


if __name__ == "__main__":
    main()
