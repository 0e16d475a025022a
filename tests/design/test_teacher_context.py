"""A frozen teacher's context helps a frozen student that sees less; only the adapter between them changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support import SIZE, ToyWindows, acting_observation, data_spec
from wamkit.config import decode, encode
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import EncoderConfig
from wamkit.contract.types import Batch, Budget, WindowSpec
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.spec import data_spec as spec_of
from wamkit.design import Design, DesignConfig, Factor, from_pretrained, save_pretrained
from wamkit.design.teacher_context import TeacherContext, TeacherContextConfig
from wamkit.encoders import AudioConfig, ImagesConfig, StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.training import OptimConfig, TrainConfig, train
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

WIDTH = 32
ADAPTER = "encoders.teacher"
IMAGES = ImagesConfig(channels=(8, 8), features=4, tokens=1, shift=0)
TOY = ToyWindows(frames=60)


def policy(encoders: dict[str, EncoderConfig], width: int = WIDTH) -> DesignConfig:
    """One small regression of the next four actions."""
    return DesignConfig(
        name="policy",
        horizon=4,
        stride=4,
        width=width,
        encoders=encoders,
        trunks={"main": TransformerConfig(width=width, depth=2, heads=4)},
        estimators={"policy": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"),),
        controller=replace(recipe("direct").controller, execute=4),  # type: ignore[call-arg]
    )


def write_two_halves(root: Path, seed: int, episodes: int = 4, length: int = 120) -> Path:
    """Actions are the sum of what only the camera shows (a bright column) and what only the state holds."""
    spec, rng = data_spec(), np.random.default_rng(seed)
    with DatasetWriter(root, spec.observation, spec.action) as writer:
        for _ in range(episodes):
            phases, periods = rng.uniform(0, 2 * np.pi, (2, 1)), rng.uniform(50, 90, (2, 1))
            seen, felt = np.sin(2 * np.pi * np.arange(length) / periods + phases)
            column = np.linspace(-1.3, 1.3, SIZE)[None] - seen[:, None]
            row = (np.exp(-(column**2) / 0.05) * 250).astype(np.uint8)
            picture = np.ascontiguousarray(np.broadcast_to(row[:, None, :, None], (length, SIZE, SIZE, 3)))
            state = np.stack([felt, -felt, felt, felt], axis=1).astype(np.float32)
            action = ((seen + felt) / 2)[:, None] * np.array([1.0, -1.0, 0.5, 1.0])
            frames = dict.fromkeys(spec.observation.cameras, picture)
            writer.add(Episode(frames, state, action.astype(np.float32), "follow both"))
    return root


def settings(root: Path, out: str, design: DesignConfig, **changes: object) -> TrainConfig:
    base = TrainConfig(
        dataset=root / "data",
        out=root / out,
        design=design,
        optim=OptimConfig(lr=3e-3, warmup=10, ema=0.0),
        steps=80,
        batch_size=32,
        checkpoint_every=0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def adapted(root: Path, **changes: object) -> DesignConfig:
    teacher = TeacherContextConfig(checkpoint=str(root / "teacher/model"))
    return policy({"images": IMAGES, "teacher": replace(teacher, **changes)})  # type: ignore[arg-type]


def transfer(root: Path, out: str, lr: float = 1e-2, **changes: object) -> Path:
    """Train the adapter between the frozen teacher and the frozen student."""
    start = settings(root, out, adapted(root), pretrained=str(root / "student/model"), fresh=(ADAPTER,))
    optim = replace(start.optim, only=(ADAPTER,), lr=lr)
    return train(replace(start, optim=optim, **changes), progress=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that feels, a student that sees, and the student with the teacher's context."""
    folder = tmp_path_factory.mktemp("transfer")
    write_two_halves(folder / "data", seed=0)
    write_two_halves(folder / "other", seed=1)
    train(settings(folder, "teacher", policy({"state": StateConfig()}, width=16)), progress=False)
    train(settings(folder, "student", policy({"images": IMAGES})), progress=False)
    transfer(folder, "adapted")
    return folder


def held_out(root: Path, design: Design) -> Batch:
    data = Dataset(root / "other")
    return data.windows(np.arange(0, data.num_frames, 3), design.training_window)


@torch.no_grad()
def loss(design: Design, batch: Batch) -> float:
    return design.loss(batch).terms["action"].item()


# --------------------------------------------------------------------------------------------------- transfer


@pytest.mark.learns
def test_what_the_teacher_feels_helps_a_student_that_does_not(root: Path) -> None:
    plain, helped = from_pretrained(root / "student/model"), from_pretrained(root / "adapted/model")
    batch = held_out(root, plain)
    order = torch.randperm(len(batch.action), generator=torch.Generator().manual_seed(0))
    misled = replace(batch, observation=replace(batch.observation, state=batch.observation.state[order]))
    found = [loss(plain, batch), loss(helped, batch), loss(helped, misled)]
    print(
        f"\nheld-out action loss, n={len(order)}: student, with the teacher's context, with another's: {found}"
    )
    assert found[1] < 0.6 * found[0]
    assert found[2] > found[0]  # it is what the teacher feels that helps, not the adapter's own weights


@pytest.mark.learns
def test_only_the_adapter_changes_bit_for_bit(root: Path) -> None:
    student, teacher = (from_pretrained(root / run / "model").state_dict() for run in ("student", "teacher"))
    after = from_pretrained(root / "adapted/model").state_dict()
    for name, value in student.items():
        assert torch.equal(after.pop(name), value), name
    own = {
        name.removeprefix(f"{ADAPTER}.teacher."): v
        for name, v in after.items()
        if f"{ADAPTER}.teacher." in name
    }
    kept = {name for name in teacher if name.startswith(("encoders.state.", "trunks.main."))}
    assert {name.replace("trunks.main.", "trunk.") for name in kept} == own.keys()
    for name in kept:
        assert torch.equal(own[name.replace("trunks.main.", "trunk.")], teacher[name]), name
    fresh = Design(adapted(root), spec_of(Dataset(root / "data"))).state_dict()
    adapter = {name for name in after if f"{ADAPTER}.teacher." not in name}
    assert adapter == {f"{ADAPTER}.{n}" for n in PARAMETERS}
    assert all(not torch.equal(after[name], fresh[name]) for name in adapter)


PARAMETERS = (
    "query",
    "null",
    "gate",
    "norm.weight",
    "norm.bias",
    "key_value.weight",
    "key_value.bias",
    "out.weight",
)


@pytest.mark.learns
def test_an_untrained_adapter_leaves_the_student_as_it_is_when_acting(root: Path) -> None:
    """Up to rounding: an attention over padded tokens is summed in another order."""
    plain = from_pretrained(root / "student/model")
    fresh = from_pretrained(transfer(root, "fresh", lr=0.0, steps=1))
    batch = held_out(root, plain)
    rows = batch.observation.batch_size
    seeds = list(range(rows))
    acted = [
        d.forecast(batch.observation, d.initial_state(rows), Budget(), seeds)[0].action
        for d in (plain, fresh)
    ]
    torch.testing.assert_close(acted[1], acted[0], rtol=0, atol=1e-5)
    other = replace(batch.observation, state=-batch.observation.state)
    again, _ = fresh.forecast(other, fresh.initial_state(rows), Budget(), seeds)
    assert torch.equal(again.action, acted[1])  # nothing that the teacher sees gets through


def encoder_of(design: Design) -> TeacherContext:
    found = design.encoders["teacher"]
    assert isinstance(found, TeacherContext)
    return found


@pytest.mark.learns
def test_a_closed_gate_says_nothing_in_training_and_learns_to_open(root: Path) -> None:
    design = Design(adapted(root), spec_of(Dataset(root / "data"))).train()
    adapter, batch = encoder_of(design), held_out(root, design)
    tokens, pad = adapter(batch.observation)
    assert not pad.any()
    assert torch.equal(tokens, adapter.null.expand_as(tokens))
    design.loss(batch).total.backward()
    assert adapter.gate.grad is not None
    assert adapter.gate.grad.abs() > 0
    assert all(p.grad is None for p in adapter.teacher.parameters())
    assert adapter.eval()(batch.observation)[1].all()
    with torch.no_grad():
        adapter.gate.fill_(1e-6)
    assert not adapter(batch.observation)[1].any()


@pytest.mark.learns
def test_nothing_to_read_adds_nothing(root: Path) -> None:
    adapter = encoder_of(Design(adapted(root), spec_of(Dataset(root / "data"))))
    hidden, pad = torch.randn(2, 3, 16), torch.tensor([[True] * 3, [False, True, True]])
    found = adapter.read(hidden, pad)
    assert torch.equal(found[0], torch.zeros_like(found[0]))
    alone = adapter.read(hidden[1:, :1], pad[1:, :1])
    torch.testing.assert_close(found[1:], alone)
    assert found[1].abs().max() > 0.01


# ----------------------------------------------------------------------------------------------- any teacher


def shrunk(name: str) -> DesignConfig:
    config = recipe(name)
    trunks = {n: replace(t, width=32, depth=1, heads=4) for n, t in config.trunks.items()}  # type: ignore[call-arg]
    return replace(config, width=32, trunks=trunks)


def saved(config: DesignConfig, folder: Path) -> Design:
    torch.manual_seed(1)
    design = Design(config, data_spec()).eval()
    save_pretrained(design, folder)
    return design


def student(folder: Path, data: DataSpec | None = None, **changes: object) -> Design:
    teacher = replace(TeacherContextConfig(checkpoint=str(folder)), **changes)  # type: ignore[arg-type]
    config = policy({"images": IMAGES, "teacher": teacher})
    return Design(replace(config, observation=(-4, 0)), data or data_spec()).train()


@pytest.mark.parametrize(
    ("name", "trunk"),
    [
        ("joint", ""),
        ("mixture", ""),
        ("autoregressive", "main"),
        ("post_head", "predictor"),
        ("chunk_causal", ""),
        ("recurrent", ""),
    ],
)
def test_any_design_can_teach(name: str, trunk: str, tmp_path: Path) -> None:
    """What is handed over is what the teacher's own trunk makes of its context; it is never in training mode."""
    teacher = saved(shrunk(name), tmp_path / "teacher")
    adapter = encoder_of(student(tmp_path / "teacher", trunk=trunk))
    hidden, pad = adapter.teacher(acting_observation(TOY, [10, 20], WindowSpec(observation=(-4, 0))))
    now = acting_observation(TOY, [10, 20], WindowSpec(observation=(0,)))
    if teacher.trunks:
        caught: list[Tensor] = []
        read = teacher.trunks[trunk or "main"]
        read.register_forward_hook(lambda module, args, output: caught.append(output[0]))
        with torch.no_grad():
            teacher.encode_context(now)
    else:
        caught = [torch.cat([encoder(now)[0] for encoder in teacher.encoders.values()], dim=1)]
    assert torch.equal(hidden, caught[0])
    assert pad.shape == hidden.shape[:2]
    assert not hidden.requires_grad
    assert not any(module.training for module in adapter.teacher.modules())


def test_a_teacher_may_read_sensors_and_goals_that_the_student_does_not(tmp_path: Path) -> None:
    sound = AudioConfig()
    data = replace(data_spec(), extras={"audio": (1600,)})
    encoders: dict[str, EncoderConfig] = {
        "ears": sound,
        "aim": decode(EncoderConfig, {"type": "goal_image"}, "here"),
    }
    save_pretrained(Design(policy(encoders), data), tmp_path / "teacher")
    design = student(tmp_path / "teacher", data)
    assert design.sensors == ("audio",)
    assert design.reads_goal
    assert design.training_window.goal
    with pytest.raises(ConfigError, match="its teacher needs the extra 'audio'"):
        student(tmp_path / "teacher")


# -------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.learns
def test_a_checkpoint_needs_the_teachers_folder_no_more(root: Path, tmp_path: Path) -> None:
    save_pretrained(from_pretrained(root / "teacher/model"), tmp_path / "teacher")
    config = replace(
        adapted(root), encoders={"teacher": TeacherContextConfig(checkpoint=str(tmp_path / "teacher"))}
    )
    design = Design(config, spec_of(Dataset(root / "data"))).eval()
    torch.nn.init.ones_(encoder_of(design).gate)
    seen = held_out(root, design).observation.steps([0])
    seeds = list(range(seen.batch_size))
    before, _ = design.forecast(seen, design.initial_state(seen.batch_size), Budget(), seeds)
    save_pretrained(design, tmp_path / "student")
    shutil.rmtree(tmp_path / "teacher")
    loaded = from_pretrained(tmp_path / "student")
    after, _ = loaded.forecast(seen, loaded.initial_state(seen.batch_size), Budget(), seeds)
    assert torch.equal(after.action, before.action)
    assert loaded.config == config
    alone = Design(config, spec_of(Dataset(root / "data")))  # nobody brings the weights
    with pytest.raises(
        ConfigError, match=f"weights are missing: no checkpoint at {tmp_path / 'teacher'}.*Put the"
    ):
        alone.encode_context(seen)
    with pytest.raises(ConfigError, match=f"no checkpoint at {tmp_path / 'teacher'}"):
        TeacherContextConfig(checkpoint=str(tmp_path / "teacher"))


def test_another_teacher_in_its_place_is_not_taken_for_it(tmp_path: Path) -> None:
    saved(shrunk("joint"), tmp_path / "teacher")
    config = TeacherContextConfig(checkpoint=str(tmp_path / "teacher"))
    saved(shrunk("regression"), tmp_path / "teacher")
    assert decode(EncoderConfig, encode(config) | {"type": "teacher_context"}, "here") == config
    design = Design(policy({"teacher": config}), data_spec())
    with pytest.raises(ConfigError, match="holds another design now"):
        design.encode_context(acting_observation(TOY, [10], WindowSpec()))


# ----------------------------------------------------------------------------------------------------- refusals


def with_one_camera(data: DataSpec) -> DataSpec:
    cameras = {"scene": data.observation.cameras["scene"]}
    return replace(data, observation=replace(data.observation, cameras=cameras))


def at_another_rate(data: DataSpec) -> DataSpec:
    return replace(data, observation=replace(data.observation, rate_hz=10.0))


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        ({"trunk": "policies"}, None, "the teacher has no trunk 'policies'. Did you mean 'policy'"),
        ({}, None, "the teacher has 2 trunks; name one in `trunk`"),
        ({"trunk": "policy", "tokens": 0}, None, "tokens: must be at least 1"),
        ({"trunk": "policy", "heads": 5}, None, "width that the heads divide"),
        ({"trunk": "policy"}, with_one_camera, "the teacher sees camera 'gripper' as .* have None"),
        ({"trunk": "policy"}, at_another_rate, "at 40.0 Hz, the student's data have .* at 10.0 Hz"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, object], data: Callable[[DataSpec], DataSpec] | None, message: str, tmp_path: Path
) -> None:
    saved(shrunk("post_head"), tmp_path / "teacher")
    with pytest.raises(ConfigError, match=message):
        student(tmp_path / "teacher", data(data_spec()) if data else None, **changes)


def test_a_teacher_that_looks_further_back_than_its_student_is_refused(tmp_path: Path) -> None:
    saved(replace(shrunk("regression"), observation=(-8, -4, 0)), tmp_path / "teacher")
    with pytest.raises(
        ConfigError, match=r"looks at the ticks \(-8, -4, 0\), the student at \(-4, 0\). Add \[-8\]"
    ):
        student(tmp_path / "teacher")


def test_a_teacher_with_another_goal_is_refused(tmp_path: Path) -> None:
    goal: dict[str, EncoderConfig] = {"aim": decode(EncoderConfig, {"type": "goal_image"}, "here")}
    saved(replace(policy(goal), aim="next"), tmp_path / "teacher")
    with pytest.raises(ConfigError, match="the teacher's goal is the 'next', the student's the 'end'"):
        student(tmp_path / "teacher")


def test_a_teacher_has_to_be_named() -> None:
    with pytest.raises(ConfigError, match="name a `checkpoint`"):
        Design(policy({"teacher": TeacherContextConfig()}), data_spec())


def test_a_design_with_random_weights_can_stand_in_place_of_a_teacher(tmp_path: Path) -> None:
    """As a random language model does for a pretrained one: built for the student's data, kept in its checkpoint."""
    other = policy({"images": IMAGES}, width=2 * WIDTH)
    config = TeacherContextConfig(architecture=json.dumps({"design": encode(other)}), tokens=3)
    design = Design(policy({"state": StateConfig(), "teacher": config}), data_spec()).eval()
    with torch.no_grad():
        design.encoders["teacher"].gate.fill_(1.0)
    seen = acting_observation(TOY, [5], design.window)
    tokens, pad = design.encoders["teacher"](seen)
    assert tokens.shape == (1, 3, WIDTH)
    assert not pad.any()
    dark = replace(seen, images={name: torch.zeros_like(view) for name, view in seen.images.items()})
    assert not torch.equal(design.encoders["teacher"](dark)[0], tokens)
    save_pretrained(design, tmp_path / "student")
    assert torch.equal(from_pretrained(tmp_path / "student").encoders["teacher"](seen)[0], tokens)


def test_an_architecture_without_a_checkpoint_is_a_design_alone() -> None:
    config = TeacherContextConfig(architecture=json.dumps({"design": encode(policy({})), "stats": {}}))
    with pytest.raises(ConfigError, match="must hold the field 'design' alone"):
        Design(policy({"teacher": config}), data_spec())
