"""Training of lerobot's ACT or Diffusion Policy on a dataset of `wamkit collect` (run in lerobot's environment).

    python lerobot_train.py DATASET OUT --policy act --minutes 15 [--batch 8] [--seed 0] [--tasks FILE] [--set ...]

Networks, losses, normalisation, statistics, optimiser, schedule of the learning rate, gradient clipping and sampling of
windows are lerobot's, with the defaults of its configs unless ``--set`` changes a field. Three things are not:

- Pictures are decoded once, before the clock starts, and kept in memory as uint8; lerobot's loader would decode video
  for every window. The first windows are compared with those of LeRobotDataset.
- The two policies read no language. The task is given as a one-hot `observation.environment_state`, which both support.
  FILE (JSON: task -> its wordings) says which wordings mean the same task; without it every wording is a task.
- The backbone starts at random (ACT's default is a ResNet18 of ImageNet): all policies that are compared start there.

``--minutes`` is processor time of one thread. The schedule of the Diffusion Policy needs a number of steps: it follows
from the minutes and the measured time of a few steps, which are made with a copy and thrown away.
"""

from __future__ import annotations

import torchvision_cpu  # isort: skip  # noqa: F401  before everything that imports torchvision

import argparse
import copy
import dataclasses
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.datasets.factory import IMAGENET_STATS, resolve_delta_timestamps
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.sampler import EpisodeAwareSampler
from lerobot.datasets.utils import dataset_to_policy_features
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor

REPO = "wamkit/peers"  # a name that lerobot asks for; nothing is looked up there
LOG_EVERY = 50
MEASURED_S, MEASURED_STEPS = 5.0, 10  # of the steps that are thrown away


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--policy", choices=("act", "diffusion"), required=True)
    parser.add_argument("--minutes", type=float, required=True, help="processor time of the training")
    parser.add_argument("--batch", type=int, default=8, help="lerobot's default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", type=Path, help="JSON: task -> its wordings")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="fields of lerobot's config"
    )
    return parser.parse_args()


def settings(pairs: Sequence[str], cls: type[PreTrainedConfig]) -> dict[str, Any]:
    """Fields of a config by name; values are JSON where they can be read so, else words."""
    known = {field.name for field in dataclasses.fields(cls)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in known:
            raise SystemExit(
                f"--set {pair}: give KEY=VALUE with a field of {cls.__name__}: {', '.join(sorted(known))}"
            )
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


class Windows:
    """All frames of a dataset in memory, and windows of them as lerobot's loader makes them.

    Attributes:
        tasks: names of the tasks, in the order of the one-hot vector.
        instructions: wording -> place of its task.
        dataset: lerobot's dataset, with the statistics that its training script uses.
    """

    def __init__(self, root: Path, groups: dict[str, list[str]] | None) -> None:
        self.dataset = LeRobotDataset(REPO, root=root, video_backend="pyav")
        meta = self.dataset.meta
        if set(meta.camera_keys) != set(meta.video_keys):
            raise SystemExit(f"{root}: cameras {meta.camera_keys} must be stored as video")
        wordings = list(meta.tasks.index)
        groups = groups or {wording: [wording] for wording in wordings}
        self.tasks = list(groups)
        self.instructions = {w: i for i, group in enumerate(groups.values()) for w in group}
        lost = [wording for wording in wordings if wording not in self.instructions]
        if lost:
            raise SystemExit(f"{root}: the instructions {lost} belong to none of the tasks {self.tasks}")
        table = self.dataset.hf_dataset.with_format("numpy")[:]
        self.state = columns(table[OBS_STATE])  # (N, S)
        self.action = columns(table[ACTION])  # (N, A)
        places = torch.tensor([self.instructions[wording] for wording in wordings])
        of_frame = places[torch.from_numpy(np.asarray(table["task_index"], np.int64))]
        self.one_hot = torch.nn.functional.one_hot(of_frame, len(self.tasks)).float()  # (N, tasks)
        self.begins = torch.tensor(meta.episodes["dataset_from_index"])
        self.ends = torch.tensor(meta.episodes["dataset_to_index"])
        self.episode = torch.from_numpy(np.asarray(table["episode_index"], np.int64))
        self.pictures = {key: self._decode(key) for key in meta.video_keys}  # (N, 3, height, width) uint8
        for key in meta.camera_keys:  # as its training script does by default
            meta.stats[key] |= {name: np.array(v, np.float32) for name, v in IMAGENET_STATS.items()}

    def _decode(self, key: str) -> Tensor:
        meta = self.dataset.meta
        height, width = meta.features[key]["shape"][:2]
        pictures = torch.empty(len(self.state), 3, height, width, dtype=torch.uint8)
        films: dict[Path, Tensor] = {}
        for episode in range(meta.total_episodes):
            path = self.dataset.root / meta.get_video_file_path(episode, key)
            if path not in films:
                films = {path: decoded(path)}
            begin, end = int(self.begins[episode]), int(self.ends[episode])
            first = round(meta.episodes[episode][f"videos/{key}/from_timestamp"] * meta.fps)
            pictures[begin:end] = films[path][first : first + end - begin]
        return pictures

    def batch(self, index: Tensor, config: PreTrainedConfig) -> dict[str, Tensor]:
        """Windows at frames ``index`` (B,): pictures in [0, 1], steps beyond the episode repeat the nearest one."""
        observed, pads = config.observation_delta_indices, config.action_delta_indices
        at, _ = self._steps(index, observed or [0])
        at = at if observed else at[:, 0]  # a policy of one step has no axis of time
        chosen, beyond = self._steps(index, pads)
        found = {key: frames[at].float() / 255 for key, frames in self.pictures.items()}
        found |= {OBS_STATE: self.state[at], OBS_ENV_STATE: self.one_hot[at]}
        return found | {ACTION: self.action[chosen], "action_is_pad": beyond}

    def _steps(self, index: Tensor, offsets: Sequence[int]) -> tuple[Tensor, Tensor]:
        episode = self.episode[index]
        first, last = self.begins[episode, None], self.ends[episode, None] - 1
        steps = index[:, None] + torch.tensor(offsets)
        return steps.clamp(first, last), (steps < first) | (steps > last)

    def check(self, config: PreTrainedConfig) -> None:
        """Raise unless windows of the first two episodes are those of LeRobotDataset, pictures from the same memory."""
        windows = self

        class Remembering(LeRobotDataset):
            """lerobot's dataset with remembered pictures in place of its decoder."""

            def _query_videos(
                self, query_timestamps: dict[str, list[float]], ep_idx: int
            ) -> dict[str, Tensor]:
                begin = int(windows.begins[ep_idx])
                places = {k: [begin + round(t * self.fps) for t in ts] for k, ts in query_timestamps.items()}
                return {k: (windows.pictures[k][p].float() / 255).squeeze(0) for k, p in places.items()}

        times = resolve_delta_timestamps(config, self.dataset.meta)
        theirs = Remembering(REPO, root=self.dataset.root, delta_timestamps=times, video_backend="pyav")
        seam = int(self.ends[0])
        for index in sorted({0, seam // 2, seam - 1, min(seam, len(theirs) - 1)}):
            item, ours = theirs[index], self.batch(torch.tensor([index]), config)
            for key in set(ours) - {OBS_ENV_STATE}:
                # It drops the axis of time of a picture of one step, and the axis of a state of width 1.
                if not torch.equal(ours[key][0], item[key].view_as(ours[key][0])):
                    raise SystemExit(f"{key} at frame {index} is not what LeRobotDataset delivers")


def columns(values: Any) -> Tensor:
    """A feature of N frames, (N, width) float32; one of width 1 is stored without that axis."""
    return torch.from_numpy(np.stack(values).astype(np.float32)).view(len(values), -1)


def decoded(path: Path) -> Tensor:
    """Every frame of a film, (N, 3, height, width) uint8."""
    with av.open(str(path)) as film:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0)]
    return torch.stack(frames).permute(0, 3, 1, 2)


def config_of(name: str, changes: dict[str, Any], windows: Windows) -> PreTrainedConfig:
    """Config of a policy for the dataset's cameras, state and action, and the task."""
    features = dataset_to_policy_features(windows.dataset.meta.features)
    inputs = {k: f for k, f in features.items() if f.type in (FeatureType.VISUAL, FeatureType.STATE)}
    inputs[OBS_ENV_STATE] = PolicyFeature(FeatureType.ENV, (len(windows.tasks),))
    forced = {"device": "cpu", "push_to_hub": False, "pretrained_backbone_weights": None}
    config = make_policy_config(name, **{**changes, **forced})
    config.input_features, config.output_features = inputs, {ACTION: features[ACTION]}
    return config


@dataclasses.dataclass
class Learner:
    """A policy with its optimiser; ``step`` is the body of lerobot's training loop."""

    policy: PreTrainedPolicy
    windows: Windows
    batches: Iterator[Tensor]
    prepare: Any

    def __post_init__(self) -> None:
        preset = self.policy.config.get_optimizer_preset()
        self.clip = preset.grad_clip_norm
        self.optimizer = preset.build(self.policy.get_optim_params())
        self.schedule: Any = None

    def plan(self, steps: int) -> None:
        """Build the policy's schedule of the learning rate, if it has one, for this many steps."""
        preset = self.policy.config.get_scheduler_preset()
        self.schedule = None if preset is None else preset.build(self.optimizer, steps)

    def step(self) -> float:
        self.policy.train()
        batch = self.windows.batch(next(self.batches), self.policy.config)
        loss, _ = self.policy.forward(self.prepare(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.schedule is not None:
            self.schedule.step()
        return loss.item()


def shuffled(windows: Windows, config: PreTrainedConfig, size: int) -> Iterator[Tensor]:
    """Batches of frames without end, every frame once per pass, as lerobot samples them."""
    dropped = getattr(config, "drop_n_last_frames", 0)  # lerobot asks in the same way
    sampler = EpisodeAwareSampler(
        windows.begins.tolist(), windows.ends.tolist(), drop_n_last_frames=dropped, shuffle=True
    )
    while True:
        order = torch.tensor(list(sampler))
        yield from order.split(size)


def seconds_per_step(learner: Learner) -> float:
    """Processor seconds of a step, the first one left out."""
    learner.step()
    start, done = time.process_time(), 0
    while done < MEASURED_STEPS and time.process_time() - start < MEASURED_S:
        learner.step()
        done += 1
    return (time.process_time() - start) / done


def train(chosen: argparse.Namespace, folder: Path) -> None:
    """Train and write the checkpoint into ``folder``."""
    torch.set_num_threads(1)
    groups = json.loads(chosen.tasks.read_text()) if chosen.tasks else None
    cls = get_policy_class(chosen.policy).config_class
    changes = settings(chosen.set, cls)
    windows = Windows(chosen.dataset, groups)
    config = config_of(chosen.policy, changes, windows)
    windows.check(config)
    torch.manual_seed(chosen.seed)
    policy = get_policy_class(chosen.policy)(config)
    prepare, finish = make_pre_post_processors(config, dataset_stats=windows.dataset.meta.stats)
    batches = shuffled(windows, config, chosen.batch)
    step_s = seconds_per_step(Learner(copy.deepcopy(policy), windows, batches, prepare))
    planned = max(1, math.floor(60 * chosen.minutes / step_s))
    print(f"{step_s:.3f} s a step, {planned} steps", flush=True)

    torch.manual_seed(chosen.seed)
    learner = Learner(policy, windows, shuffled(windows, config, chosen.batch), prepare)
    learner.plan(planned)
    steps, used, losses = 0, 0.0, []
    begin, wall = time.process_time(), time.perf_counter()
    with (folder / "log.jsonl").open("w") as log:
        # A schedule has come to its end after the planned steps; without one the time alone counts.
        while used < 60 * chosen.minutes and (learner.schedule is None or steps < planned):
            losses.append(learner.step())
            steps += 1
            used = time.process_time() - begin
            if steps % LOG_EVERY == 0 or steps == planned:
                rate = learner.optimizer.param_groups[0]["lr"]
                entry = {"step": steps, "loss": float(np.mean(losses)), "lr": rate, "cpu_s": round(used, 1)}
                log.write(json.dumps(entry) + "\n")
                log.flush()
                losses = []
    policy.eval()
    for part in (policy, prepare, finish):
        part.save_pretrained(folder)
    record = {
        "policy": chosen.policy,
        "tasks": windows.tasks,
        "instructions": windows.instructions,
        "settings": changes,
        "said": chosen.set,
        "batch": chosen.batch,
        "seed": chosen.seed,
        "minutes": chosen.minutes,
        "steps": steps,
        "planned_steps": planned,
        "cpu_s": round(used, 1),
        "wall_s": round(time.perf_counter() - wall, 1),
        "parameters": sum(p.numel() for p in policy.parameters() if p.requires_grad),
    }
    (folder / "peer.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    chosen = options()
    if (chosen.out / "peer.json").exists():
        raise SystemExit(f"{chosen.out} holds a finished training; move it away or choose another folder")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    unfinished = chosen.out.with_name(chosen.out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    train(chosen, unfinished)
    shutil.rmtree(chosen.out, ignore_errors=True)
    unfinished.rename(chosen.out)


if __name__ == "__main__":
    main()
