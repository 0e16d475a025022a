"""Few-step distillation: N steps of the student beat N steps of the teacher; only what is declared changes."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from small_runs import same_weights
from support import data_spec, write_dataset
from wamkit.contract.calls import Call
from wamkit.contract.protocols import SubstrateConfig, TrunkConfig
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Batch, Budget, Observation
from wamkit.data import Dataset
from wamkit.data.spec import data_spec as wamkit_data_spec
from wamkit.design import Design, DesignConfig, from_pretrained
from wamkit.errors import ConfigError
from wamkit.estimators import Denoiser, DenoiserConfig
from wamkit.substrates import TeacherFeatureConfig
from wamkit.training import DistillConfig, OptimConfig, TrainConfig, train
from wamkit.training.distill import Distillation, few_step_loss
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe
from wamkit.zoo.systems.parts import tapped

ACTION = StreamSpec("action", "action", 1, 1, 2)
FLOOR = 0.9  # of the cosine between a student's features and its teacher's
MODES = torch.tensor([[-1.0, 0.5], [1.0, -0.5]])


def empty(model: Denoiser, rows: int) -> Call:
    return Call(model.trunk.empty(rows, 1), {}, (), rows)


@torch.no_grad()
def draw(model: Denoiser, steps: int, rows: int = 1000) -> Tensor:
    made = model.generate(
        ["action"], empty(model, rows), Budget(nfe={"action": steps}), RowNoise([7], copies=rows)
    )
    return made.values["action"].flatten(1)


def to_a_mode(sample: Tensor) -> tuple[float, float]:
    """Mean distance to the nearest of the two modes, and the share that went to the first."""
    distance = torch.cdist(sample, MODES)
    return distance.min(dim=1).values.mean().item(), (distance.argmin(dim=1) == 0).float().mean().item()


@pytest.fixture(scope="module")
def pair() -> tuple[Denoiser, Denoiser]:
    """A teacher of two modes, and its student of one step."""
    torch.manual_seed(0)
    teacher = DenoiserConfig().build((ACTION,), (), TransformerConfig(width=32, depth=2, heads=2).build())
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    target = {"action": Target(MODES.repeat(64, 1)[:, None, None], torch.zeros(128, 1, dtype=torch.bool))}
    for _ in range(400):
        loss = teacher.loss(["action"], empty(teacher, 128), target, None).terms["action"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    student = copy.deepcopy(teacher)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    config = DistillConfig(steps={"action": 1}, teacher_steps=8)
    for _ in range(120):
        sides = ((teacher, empty(teacher, 128)), (student, empty(student, 128)))
        found = few_step_loss(*sides, target, config, ["action"])["action"]
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    return teacher.eval(), student.eval()


@pytest.mark.learns
def test_a_student_of_one_step_beats_the_teacher_truncated_to_one(pair: tuple[Denoiser, Denoiser]) -> None:
    teacher, student = pair
    table = {
        "teacher, 16 steps": to_a_mode(draw(teacher, 16)),
        "teacher, 1 step": to_a_mode(draw(teacher, 1)),
        "student, 1 step": to_a_mode(draw(student, 1)),
    }
    print("\n(distance to the nearest mode, share of the first mode), n=1000:", table)
    assert table["student, 1 step"][0] < 0.4 * table["teacher, 1 step"][0]
    shares = [table[label][1] for label in ("teacher, 16 steps", "student, 1 step")]
    assert abs(shares[0] - shares[1]) < 0.1
    assert 0.3 < shares[1] < 0.7  # both modes


@pytest.mark.learns
def test_a_student_goes_where_its_teacher_goes_from_the_same_noise(pair: tuple[Denoiser, Denoiser]) -> None:
    teacher, student = pair
    reached = draw(teacher, 16)
    truncated, distilled = ((draw(m, 1) - reached).norm(dim=1).mean() for m in pair)
    assert distilled < 0.4 * truncated
    assert draw(student, 1).shape == reached.shape


# ------------------------------------------------------------------------------------------------ in a design


def tiny(steps: int = 4) -> DesignConfig:
    config = recipe("joint")
    trunks: dict[str, TrunkConfig] = {n: TransformerConfig(width=32, depth=1, heads=2) for n in config.trunks}
    world = replace(config.estimators["world"], steps=steps)  # type: ignore[call-arg]
    features: dict[str, SubstrateConfig] = {
        "video": TeacherFeatureConfig(features=8, grid=2, steps=20, batch_size=16)
    }
    return replace(config, width=32, trunks=trunks, estimators={"world": world}, substrates=features)


def settings(root: Path, out: str, **changes: object) -> TrainConfig:
    base = TrainConfig(
        dataset=root / "data",
        out=root / out,
        design=tiny(),
        optim=OptimConfig(warmup=2),
        steps=40,
        batch_size=8,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distill")
    write_dataset(folder / "data")
    train(settings(folder, "teacher"), progress=False)
    return folder


def distil(root: Path, out: str, **changes: object) -> Design:
    config = DistillConfig(steps={"action": 1, "future": 1}, teacher_steps=8)
    optim = OptimConfig(lr=3e-3, warmup=2, ema=0.9, only=("estimators.world.outputs",))
    more = {"distill": config, "pretrained": str(root / "teacher/model"), "design": tiny(1), "optim": optim}
    return from_pretrained(train(settings(root, out, **{**more, **changes}), progress=False))


def test_only_declared_parameters_change(root: Path) -> None:
    teacher, student = from_pretrained(root / "teacher/model"), distil(root, "student", steps=6)
    before, after = teacher.state_dict(), student.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("estimators.world.outputs") for name in changed)


def test_held_out_episodes_are_measured_as_a_student(root: Path) -> None:
    """The held-out loss is the distance to the teacher on episodes that neither learned from in this run."""
    distil(root, "validated", steps=4, held_out=1, evaluate_every=2)
    lines = [json.loads(line) for line in (root / "validated/log.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "held_out" in line]
    assert [line["step"] for line in measured] == [2, 4]
    assert all({"held_out.action", "held_out.future"} <= line.keys() for line in measured)
    best = min(measured, key=lambda line: line["held_out"])
    assert (best["step"] == 4) == same_weights(root / "validated/best", root / "validated/model")


@pytest.mark.learns
def test_a_run_from_a_config_makes_few_steps_land_where_many_do(root: Path) -> None:
    """Self-distilled foresight: features of one pass where the teacher's many passes lead (S-VAM)."""
    optim = OptimConfig(lr=3e-3, warmup=2, ema=0.9, only=("estimators", "trunks"))
    student = distil(root, "whole", steps=60, optim=optim)
    teacher = from_pretrained(root / "teacher/model")
    data = Dataset(root / "data")
    batch: Batch = data.windows(np.arange(0, 64, 2), teacher.training_window)
    seen: Observation = batch.observation
    seeds = list(range(32))

    def future(design: Design, steps: int) -> Tensor:
        nfe = {"action": steps, "future": steps}
        return design.sample(seen, ["action", "future"], seeds=seeds, budget=Budget(nfe=nfe)).values["future"]

    reached = future(teacher, 8)
    truncated, distilled = ((future(d, 1) - reached).square().mean().item() for d in (teacher, student))
    cosines = [F.cosine_similarity(future(d, 1), reached, dim=-1).mean().item() for d in (teacher, student)]
    print(
        f"\nto the teacher's 8 steps, n=32: squared distance of the teacher's 1 step {truncated}, the student's "
        f"{distilled}; cosines {cosines}"
    )
    assert distilled < truncated
    assert cosines[1] > max(FLOOR, cosines[0])
    forecast, _ = student.forecast(seen, student.initial_state(32), Budget(), seeds)
    assert forecast.nfe == {"action": 1, "future": 1}


def test_the_network_behind_a_tap_can_be_distilled(root: Path) -> None:
    """A tap is read off the generation: its future is distilled, and the gradient reaches the tapped network."""
    data = Dataset(root / "data")
    design = Design(tapped("tapped"), wamkit_data_spec(data))
    design.fit(data, seed=0)
    objective = Distillation(DistillConfig(steps={"future": 1}, teacher_steps=4), design)
    losses = objective.loss(design, data.windows(np.arange(4), design.training_window), {})
    assert set(losses.terms) == {"future"}
    losses.total.backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in design.trunks["video"].parameters())


def test_a_distillation_resumes_bit_for_bit(root: Path) -> None:
    whole = distil(root, "straight", steps=8, checkpoint_every=4)
    folder = root / "straight"
    last = max((folder / "checkpoints").glob("step-*"))
    for file in sorted(last.iterdir()):
        file.unlink()
    last.rmdir()
    again = distil(root, "straight", steps=8, checkpoint_every=4)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("joint", DistillConfig(), "`steps` names no stream"),
        ("joint", DistillConfig(steps={"video": 1}), "unknown stream 'video'"),
        (
            "autoregressive",
            DistillConfig(steps={"action": 1}),
            "few-step distillation needs continuous values",
        ),
        (
            "post_head",
            DistillConfig(steps={"future": 1}),
            "family 'joint-embedding', which has no steps to save",
        ),
        ("chunk_causal", DistillConfig(steps={"action": 1}), "reads what is carried between calls"),
    ],
)
def test_what_cannot_be_distilled(name: str, config: DistillConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Distillation(config, Design(recipe(name), data_spec()))


def test_a_student_without_steps_is_refused_by_the_config() -> None:
    with pytest.raises(ConfigError, match=r"steps\.action: must be at least 1 .*, got 0"):
        DistillConfig(steps={"action": 0})


def test_there_has_to_be_a_teacher(root: Path) -> None:
    with pytest.raises(ConfigError, match="there is no teacher; name its checkpoint in `pretrained`"):
        distil(root, "none", pretrained=None)
