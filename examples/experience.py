"""World models: their designs, and episodes to learn from and to be measured on, with the actions that were executed.

Three kinds, because a world model has to know what bad policies do as well: demonstrations without noise, under strong
noise, and rollouts of half-trained policies, failures too. All carry the ground truth of :data:`RECORD`.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from demo import TASKS

from wamkit.api import EvaluationConfig, from_pretrained
from wamkit.data.episode import Episode
from wamkit.data.writer import DatasetWriter
from wamkit.design import DesignConfig, Factor, FutureConfig
from wamkit.encoders import BodySensorsConfig, ImagesConfig, InstructionConfig, StateConfig
from wamkit.envs import MetaWorldConfig
from wamkit.envs.base import episode_seed
from wamkit.envs.demonstrations import ActionNoise, demonstrate
from wamkit.estimators import RegressorConfig
from wamkit.evaluation.closed_loop.recording import Recording, record
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig, ProprioceptionConfig, SensorValuesConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo.couplings import EXECUTE, base

RECORD = ("object_pose", "object_base", "gripper_motion")
CALM = ActionNoise(probability=0.0)
WILD = ActionNoise(probability=0.1, scale=1.0, longest=15)
TAIL_TICKS = 6


@dataclasses.dataclass(frozen=True)
class Wanted:
    """How much of what, per task.

    Attributes:
        demonstrations: without noise.
        disturbed: under :data:`WILD` noise.
        rollouts: of every policy.
        seed: of the first kind; the others follow it, and two of these ten apart share no episode.
    """

    demonstrations: int
    disturbed: int
    rollouts: int
    seed: int


def gather(
    out: Path, tasks: tuple[str, ...], wanted: Wanted, policies: Mapping[str, Path], workers: int
) -> Path:
    """A dataset of all three kinds at ``out``, made where it is missing."""
    if out.exists():
        return out
    env = MetaWorldConfig(record=RECORD)
    with DatasetWriter(
        out,
        env.observation_spec(),
        env.action_spec(),
        robot_type=env.robot_type,
        extras=env.extras_spec(),
    ) as writer:
        for offset, noise, count in ((0, CALM, wanted.demonstrations), (1, WILD, wanted.disturbed)):
            for task in tasks:
                for episode in demonstrated(
                    dataclasses.replace(env, task=task), noise, count, wanted.seed + offset
                ):
                    writer.add(episode)
        for number, checkpoint in enumerate(policies.values()):
            for episode in rolled_out(
                checkpoint, env, tasks, wanted.rollouts, wanted.seed + 2 + number, workers
            ):
                writer.add(episode)
    return out


def demonstrated(config: MetaWorldConfig, noise: ActionNoise, count: int, seed: int) -> Iterator[Episode]:
    """The attempts among the first ``count`` that succeed."""
    env = config.build()
    for index in range(count):
        found = demonstrate(env, episode_seed("train", seed, index), noise, TAIL_TICKS, "executed")
        if found.success:
            yield Episode(found.images, found.state, found.action, found.task, True, found.extras)
    env.close()


def rolled_out(
    checkpoint: Path, env: MetaWorldConfig, tasks: tuple[str, ...], count: int, seed: int, workers: int
) -> Iterator[Episode]:
    """Episodes of a policy, solved and failed, in the order of their seeds."""
    config = EvaluationConfig(
        tasks=tasks, episodes=count, seed=seed, env=env, slots=16, workers=workers, films=0
    )
    done = rollout(from_pretrained(checkpoint), config)
    found: list[Recording] = []
    record(config, done.traces, found.append)
    for recording in sorted(found, key=lambda r: (r.plan.task, r.plan.seed)):
        yield as_episode(recording)


def as_episode(found: Recording) -> Episode:
    """N actions and the frames at which they were taken."""
    frames = found.frames[: len(found.actions)]
    images, extras = (
        {name: np.stack([frame[kind][name] for frame in frames]) for name in frames[0][kind]}
        for kind in ("images", "extras")
    )
    return Episode(
        images,
        np.stack([frame["state"] for frame in frames]).astype(np.float32),
        found.actions.astype(np.float32),
        found.instruction,
        found.status == "success",
        extras,
    )


def known_world() -> DesignConfig:
    """Forward dynamics of a known state, ``p(s1,s2,s3|a,c) p(s4|s1,s2,s3,c)``: hand and objects, then both pictures.

    No picture is read: what hand and objects do next does not depend on how well they are drawn.
    """
    state = {
        "body": ProprioceptionConfig(),
        "objects": SensorValuesConfig(("object_pose", "object_base")),
        "motion": SensorValuesConfig(("gripper_motion",)),
    }
    streams = tuple(state)
    return dataclasses.replace(
        base("forward_dynamics"),
        horizon=EXECUTE,
        encoders={
            "state": StateConfig(),
            "sensors": BodySensorsConfig(RECORD, normalization="mean_std"),
            "instruction": InstructionConfig(),
        },
        substrates={**state, "video": PixelLatentConfig(PatchPCAConfig(patch=32, features=64))},
        futures={
            **{name: FutureConfig(name, (EXECUTE,)) for name in streams},
            "future": FutureConfig("video", (EXECUTE,)),
        },
        trunks={
            "dynamics": TransformerConfig(width=128, depth=3, heads=4),
            "renderer": TransformerConfig(width=128, depth=2, heads=4),
            "policy": TransformerConfig(width=64, depth=1, heads=2),  # nobody asks it
        },
        estimators={
            "dynamics": RegressorConfig(loss="smooth_l1", trunk="dynamics"),
            "renderer": RegressorConfig(trunk="renderer"),
            "policy": RegressorConfig(trunk="policy"),
        },
        factors=(
            Factor(("action",), (), "policy"),
            Factor(streams, ("action",), "dynamics"),
            Factor(("future",), streams, "renderer"),
        ),
        loss_weights={"action": 0.05},
    )


def picture_world() -> DesignConfig:
    """The same from pictures and the hand alone, ``p(s1,s2|a,c)``: what a world model without ground truth could be."""
    small = TransformerConfig(width=64, depth=1, heads=2)
    return dataclasses.replace(
        base("forward_dynamics"),
        horizon=EXECUTE,
        encoders={
            "images": ImagesConfig(shift=0),  # shifted pictures would have other futures
            "state": StateConfig(),
            "instruction": InstructionConfig(),
        },
        substrates={
            "video": PixelLatentConfig(PatchPCAConfig(patch=32, features=64)),
            "body": ProprioceptionConfig(),
        },
        futures={"future": FutureConfig("video", (EXECUTE,)), "body": FutureConfig("body", (EXECUTE,))},
        trunks={"world": TransformerConfig(width=128, depth=2, heads=4), "policy": small},
        estimators={"world": RegressorConfig(trunk="world"), "policy": RegressorConfig(trunk="policy")},
        factors=(Factor(("action",), (), "policy"), Factor(("future", "body"), ("action",), "world")),
        loss_weights={"action": 0.1},
    )


def main() -> None:
    """Gather a dataset of its own, e.g. for another world model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/experience"))
    parser.add_argument("--policies", type=Path, nargs="*", default=[], help="checkpoints")
    parser.add_argument("--each", type=int, nargs=3, default=[40, 60, 10], help="per task, of each kind")
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="simulator processes")
    chosen = parser.parse_args()
    policies = {str(path): path for path in chosen.policies}
    gather(chosen.out, TASKS, Wanted(*chosen.each, chosen.seed), policies, chosen.workers)


if __name__ == "__main__":
    main()
