"""Verbs that :mod:`benchmarks.kill` kills: their commands, at the smallest size, and what their outputs say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wamkit.api import DesignConfig, FutureConfig, TrainConfig, recipe
from wamkit.config import encode
from wamkit.controllers import Chunked
from wamkit.data import Dataset
from wamkit.design import Factor
from wamkit.encoders import ImagesConfig, InstructionConfig, StateConfig
from wamkit.estimators import RegressorConfig
from wamkit.evaluation.closed_loop.sweep import Sweep
from wamkit.evaluation.report.report import Report
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig, ProprioceptionConfig
from wamkit.training import OptimConfig
from wamkit.trunks import TransformerConfig

TASKS = "[drawer-open-v3]"
SIZE = 32
# Times, and the digest of a document that holds them.
TIMED = {"wall_s", "steps_per_s", "rollout_s", "digest"}


@dataclass
class Case:
    """One verb: its command without ``--out``, and what its output says.

    Attributes:
        arguments: verb and options.
        read: folder of the output -> everything in it that must not differ from run to run.
        seconds: duration of the reference run.
        operations: number of its file operations.
        reference: what ``read`` said of it.
        files: names of its files, and of what lies beside its output.
    """

    arguments: Sequence[str]
    read: Callable[[Path], Any]
    seconds: float = 0.0
    operations: int = 0
    reference: Any = None
    files: list[str] = field(default_factory=list)


def write_settings(root: Path) -> None:
    """The two tiny trainings: of a policy, and of a world model."""
    trunk = {"main": TransformerConfig(width=32, depth=1, heads=2)}
    encoders = {
        "images": ImagesConfig(channels=(8, 8)),
        "state": StateConfig(),
        "instruction": InstructionConfig(),
    }
    base = recipe("direct")
    policy = DesignConfig(
        name="policy", horizon=4, stride=4, width=32, encoders=encoders,
        trunks=dict.fromkeys(base.trunks, trunk["main"]), estimators=base.estimators, factors=base.factors,
        controller=Chunked(4),
    )  # fmt: skip
    world = DesignConfig(
        name="world", horizon=4, stride=4, width=32, encoders={"instruction": InstructionConfig()},
        substrates={
            "video": PixelLatentConfig(PatchPCAConfig(patch=16, features=4)), "body": ProprioceptionConfig()
        },
        futures={"future": FutureConfig("video", (4,)), "body": FutureConfig("body", (4,))},
        trunks=trunk, estimators={"world": RegressorConfig(), "policy": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"), Factor(("future", "body"), ("action",), "world")),
        controller=Chunked(4),
    )  # fmt: skip
    for name, design in (("policy", policy), ("world", world)):
        config = TrainConfig(
            dataset=root / "collect", out=root / name, design=design, steps=6, batch_size=4, checkpoint_every=2,
            log_every=1, optim=OptimConfig(warmup=1),
        )  # fmt: skip
        (root / f"{name}.yaml").write_text(yaml.safe_dump(encode(config), sort_keys=False), encoding="utf-8")


def cases(root: Path) -> dict[str, Case]:
    """The verbs, in an order in which each finds what it needs in the references of those before it."""
    loop = {"tasks": TASKS, "workers": "1", "slots": "1", "latency_calls": "1"}
    loop |= {"env.image_size": str(SIZE), "env.max_ticks": "12"}
    options = [part for key, value in loop.items() for part in (f"--evaluation.{key}", value)]
    policy = str(root / "train" / "model")
    data = str(root / "collect")
    imagined = ["--policies", f"{{a: {policy}}}", "--reports", f"{{a: {root / 'evaluate'}}}"]
    imagined += ["--starts", data, "--demonstrations", data, "--env.image_size", str(SIZE), "--per_task", "2"]
    return {
        "collect": Case(
            ["collect", "--tasks", TASKS, "--episodes", "2", "--workers", "1", "--image_size", str(SIZE)],
            lambda out: Dataset(out).fingerprint(),
        ),
        "train": Case(["train", "--config_path", str(root / "policy.yaml")], read_training),
        "evaluate": Case(
            ["evaluate", "--checkpoint", policy, *options, "--evaluation.episodes", "3", "--films_of_failures", "1"],
            lambda out: (read_report(out / "report.json"), files_of(out, "films", "*.mp4")),
        ),
        "sweep": Case(
            ["sweep", "--checkpoint", policy, *options, "--evaluation.episodes", "2", "--grid.execute", "[2, 4]"],
            read_sweep,
        ),
        "imagine": Case(
            ["imagine", "--world", str(root / "world" / "model"), *imagined, "--steps", "[1, 2]", "--tail", "4"],
            lambda out: untimed(json.loads((out / "imagined.json").read_text(encoding="utf-8"))),
        ),
    }  # fmt: skip


def files_of(out: Path, folder: str, pattern: str) -> dict[str, bytes]:
    """Content of files by name."""
    return {file.name: file.read_bytes() for file in (out / folder).glob(pattern)}


def read_training(out: Path) -> Any:
    """Weights, statistics and losses of a training, bit for bit."""
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return files_of(out, "model", "*"), [untimed(json.loads(line)) for line in lines]


def read_report(file: Path) -> Any:
    """Episodes and scores of a report, which is checked when it is loaded."""
    report = Report.load(file)
    return report.episodes, report.tasks, report.shifts, report.seeds, report.config_hash, report.checkpoint


def read_sweep(out: Path) -> Any:
    """The points of a sweep and their reports."""
    found = Sweep.load(out / "sweep.json")
    return [(point.id, point.success, read_report(out / point.report)) for point in found.points]


def untimed(value: Any) -> Any:
    """Plain values without those that are times."""
    if isinstance(value, Mapping):
        return {key: untimed(inner) for key, inner in value.items() if key not in TIMED}
    return [untimed(inner) for inner in value] if isinstance(value, list) else value


def all_files(out: Path) -> list[str]:
    """Names of everything in an output and beside it."""
    beside = [path.name.replace(out.name, "OUT") for path in out.parent.iterdir()]
    return sorted([*beside, *(path.relative_to(out).as_posix() for path in out.rglob("*"))])
