"""Where a policy loses precision, in millimetres: its encoders, its actions, or what its errors add up to.

``python examples/precision.py --checkpoint runs/train/model --dataset runs/data --tasks peg-insert-side-v3``

For every MetaWorld task: probes of the encoders' tokens on unseen demonstrations, open-loop errors, the gap to the
scripted expert in closed loop, episodes in which the expert does part of the work, and failures. Demonstrations with
ground truth are recorded anew, with the seeds of ``--dataset``, which gives the same frames. The record is
``docs/results/precision.json``, of which ``python docs/generate.py`` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from demo import Clock
from numpy.typing import NDArray
from PIL import Image
from precision_tables import (
    Readings,
    at_closed_loop,
    at_open_loop,
    at_probes,
    gaps_of,
    nearest,
    outcomes,
    phases_of_frames,
    quantiles,
)
from rich.console import Console

from wamkit.api import Budget, CollectConfig, EvaluationConfig, PredictConfig, collect, from_pretrained
from wamkit.config import decode
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.envs import EnvConfig, MetaWorldConfig
from wamkit.envs.metaworld import DISPLACEMENT_M
from wamkit.errors import DataError
from wamkit.evaluation.closed_loop.tutored import Takeover, TutoredEpisode, tutor
from wamkit.evaluation.prediction.context import context_features
from wamkit.evaluation.prediction.replay import predict_actions, recorded_actions, recorded_chunks
from wamkit.storage.provenance import versions
from wamkit.verbs.acting import policy_in
from wamkit.verbs.predict import opened
from wamkit.views import ViewConfig

RECORD = ("landmarks", "facts")
MADE_OF = "info.inputs.json"  # what a collection writes beside its dataset
FRAMES = 8  # of a strip
ALL = ("reach", "contact", "transport")
# Who does what: arm -> part of the actions that is the expert's.
ARMS: Mapping[str, Takeover] = {
    "policy alone": Takeover(),
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


def recorded(made: CollectConfig, name: str, chosen: argparse.Namespace, episodes: int, seed: int) -> Path:
    """Demonstrations with ground truth, collected once as ``made`` was, with another number and seed."""
    out: Path = chosen.out / name
    if not out.exists():
        tasks = tuple(chosen.tasks)
        collect(replace(made, out=out, tasks=tasks, episodes=episodes, seed=seed, record=RECORD, workers=1))
    return out


@dataclass(frozen=True)
class Demonstrations:
    """Demonstrations of one task within a dataset.

    Attributes:
        dataset: dataset of several tasks, with :data:`RECORD`.
        index: (N,), frames of the task.
        owners: (N,), their episodes.
    """

    dataset: Dataset
    index: NDArray[np.int64]
    owners: NDArray[np.int64]

    @staticmethod
    def of(dataset: Dataset, env: EnvConfig, task: str) -> Demonstrations:
        """Those of ``task``; raises :class:`DataError` where there is none."""
        phrases = set(replace(env, task=task).phrases())
        mine = [k for k, episode in enumerate(dataset.episodes) if phrases & set(episode.tasks)]
        if not mine:
            raise DataError(f"{dataset.root} does not show {task}; remove it, or choose another --out")
        frames = [np.arange(dataset.episodes[k].start, dataset.episodes[k].stop) for k in mine]
        owners = np.repeat(mine, [len(part) for part in frames])
        return Demonstrations(dataset, np.concatenate(frames), owners)

    def extra(self, name: str) -> NDArray[np.float32]:
        """Recorded ground truth (N, ...) of the frames."""
        return self.dataset.extras[name][self.index]


def require_same_frames(again: Demonstrations, trained: Dataset) -> None:
    """Raise :class:`DataError` unless the first demonstration of a task was recorded again as it was."""
    first = again.dataset.episodes[again.owners[0]]
    states = again.dataset.state[first.start : first.stop]
    same = [e for e in trained.episodes if len(e) == len(first) and e.tasks == first.tasks]
    if not any(np.array_equal(trained.state[e.start : e.stop], states) for e in same):
        raise DataError(f"{again.dataset.root} does not repeat {trained.root}: recorded by another version?")


def seen_by(design: Design, root: Path, checkpoint: Path) -> Dataset:
    """Demonstrations with ground truth, as the design sees them."""
    plain, _ = opened(design, PredictConfig(checkpoint=str(checkpoint), dataset=root), acted=True)
    return plain.with_extras((*design.extras, *RECORD))


def probed(design: Design, shown: Demonstrations, unseen: Demonstrations) -> dict[str, Any]:
    """What probes read from the context, fitted on ``shown`` and judged on ``unseen``."""
    sets = [
        Readings(context_features(design, d.dataset, d.index), *(d.extra(name) for name in RECORD), d.owners)
        for d in (shown, unseen)
    ]
    return at_probes(sets[0], sets[1])


def open_loop(design: Design, unseen: Demonstrations, mm: float, seed: int) -> dict[str, Any]:
    """Errors of the executed part of chunks on unseen demonstrations."""
    data, every = unseen.dataset, slice(None, None, 2)
    index = unseen.index[every]
    parts = np.array_split(index, -(-len(index) // 64))
    predicted = np.concatenate([predict_actions(design, data, part, Budget(), seed) for part in parts])
    actions, pad = recorded_chunks(design, data, index)
    used = design.controller.horizon(design.config.horizon).execute or design.config.horizon
    mean = recorded_actions(data)[unseen.index].mean(axis=0)
    phases = phases_of_frames(unseen.extra("facts"), unseen.owners)[every]
    return at_open_loop(predicted[:, :used], actions[:, :used], pad[:, :used, 0], mean, phases, mm)


def driven(
    chosen: argparse.Namespace, made: CollectConfig, task: str, clock: Clock
) -> dict[str, list[TutoredEpisode]]:
    """Episodes of every arm."""
    config = EvaluationConfig(
        tasks=(task,), episodes=chosen.episodes, seed=chosen.seed, env=made.env, slots=4, films=0
    )
    policy = policy_in(config, chosen.checkpoint, "cpu", ViewConfig())
    found = {}
    for arm, takeover in ARMS.items():
        if takeover.phases and policy.window.past_actions:
            continue  # it would not know what was executed
        with clock.phase(f"{task}: {arm}"):
            found[arm] = tutor(policy, config, takeover)
    return found


def strip(episode: TutoredEpisode, file: Path) -> None:
    """Write a few frames of an episode side by side, one row per camera."""
    ticks = sorted(episode.images)
    shown = [ticks[i] for i in np.unique(np.linspace(0, len(ticks) - 1, FRAMES).round().astype(int))]
    cameras = list(episode.images[0])
    rows = [np.concatenate([episode.images[t][camera] for t in shown], axis=1) for camera in cameras]
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).save(file, optimize=True)


def measured(
    chosen: argparse.Namespace,
    made: CollectConfig,
    design: Design,
    data: tuple[Dataset, Dataset],
    task: str,
    clock: Clock,
) -> dict[str, Any]:
    """Row of one task."""
    assert isinstance(made.env, MetaWorldConfig)
    mm = 1000 * DISPLACEMENT_M * made.env.action_repeat
    shown, unseen = (Demonstrations.of(dataset, made.env, task) for dataset in data)
    require_same_frames(shown, Dataset(chosen.dataset))
    row: dict[str, Any] = {}
    with clock.phase(f"{task}: probes"):
        row["probes"] = probed(design, shown, unseen)
    with clock.phase(f"{task}: open loop"):
        row["open_loop"] = open_loop(design, unseen, mm, chosen.seed)
    arms = driven(chosen, made, task, clock)
    row["arms"] = {arm: outcomes(episodes) for arm, episodes in arms.items()}
    alone, known = arms["policy alone"], shown.extra("landmarks")
    row["closed_loop"] = at_closed_loop(gaps_of(alone, known, mm))
    row["unseen demonstrations to the nearest one, mm"] = quantiles(nearest(unseen.extra("landmarks"), known))
    failed = [episode for episode in alone if not episode.solved]
    if failed:
        strip(failed[0], chosen.pictures / f"precision-{task}.png")
        row["film"] = {"seed": failed[0].seed, "ticks": len(failed[0].actions)}
    return row


def main() -> None:
    """Measure every task and write the record after each."""
    chosen, clock = options(), Clock()
    made = collection(chosen.dataset)
    with clock.phase("collect"):
        shown = recorded(made, "shown", chosen, chosen.demonstrations, made.seed)
        unseen = recorded(made, "unseen", chosen, chosen.held_out, chosen.held_out_seed)
    design = from_pretrained(chosen.checkpoint)
    head = {
        "command": "python examples/precision.py",
        "setting": f"probes fitted on {chosen.demonstrations} demonstrations per task and judged on "
        f"{chosen.held_out} others, {chosen.episodes} unseen episodes per task and arm, evaluation seed {chosen.seed}",
        "machine": f"{os.cpu_count()} cores, one torch thread",
        "commit": versions().get("commit", "unknown"),
        "design": {"name": design.name, "formula": design.factorisation()},
    }
    rows: dict[str, Any] = {}
    data = seen_by(design, shown, chosen.checkpoint), seen_by(design, unseen, chosen.checkpoint)
    for task in chosen.tasks:
        rows[task] = measured(chosen, made, design, data, task, clock)
        chosen.publish.parent.mkdir(parents=True, exist_ok=True)
        chosen.publish.write_text(json.dumps({**head, "tasks": rows}, indent=1, ensure_ascii=False) + "\n")
    Console().print(", ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.seconds.items()))


if __name__ == "__main__":
    main()
