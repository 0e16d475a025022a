"""Shapes that systems share: a base and the factorisations of the survey, all small enough for one CPU core.

A recipe names one of these, fills in its parts and says in its docstring what is distinct about it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wamkit.actions import ChunkConfig
from wamkit.config import encode
from wamkit.contract.planning import PlannerConfig
from wamkit.contract.protocols import EstimatorConfig, SubstrateConfig, TrunkConfig
from wamkit.contract.requests import VariableConfig
from wamkit.contract.specs import CLOCK
from wamkit.controllers import Chunked
from wamkit.design.command_levels import AxisConfig, MotionConfig, PointConfig, WordsConfig
from wamkit.design.commands import CommandConfig
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.design.teacher_context import TeacherContextConfig
from wamkit.design.texts import TextConfig
from wamkit.encoders import ImagesConfig, InstructionConfig, StateConfig
from wamkit.estimators import DenoiserConfig, FeatureTapConfig, RegressorConfig
from wamkit.geometry.following import Box
from wamkit.substrates import (
    ObjectFlowConfig,
    PatchPCAConfig,
    PatchVQConfig,
    PixelLatentConfig,
    PixelsConfig,
    TeacherFeatureConfig,
    TracksConfig,
)
from wamkit.trunks import MixtureConfig, TransformerConfig, VlmExpertConfig
from wamkit.views import ViewConfig

# Annotated, because the modules of systems import this one while their package is being read.
HORIZON: int = 16
EXECUTE: int = 8
SIDE: int = 64  # pixels; larger and odd pictures are brought to this side
MULTIPLE: int = (
    32  # pixels; sides of every part's patches divide it, so that pictures of any size can be read
)
WIDTH: int = 64
DEPTH: int = 2
HEADS: int = 4
FIELDS = {f.name for f in dataclasses.fields(DesignConfig)}

Place = SubstrateConfig | tuple[SubstrateConfig, tuple[int, ...]]

# Representations of the future that many systems share, in their tiny size.
LATENT: PixelLatentConfig = PixelLatentConfig(PatchPCAConfig(patch=16, features=16))
PICTURE_TOKENS: PixelLatentConfig = PixelLatentConfig(PatchVQConfig(patch=16, features=16, vocabulary=64))
FRAMES: PixelsConfig = PixelsConfig(shrink=4, patch=8)
TEACHER: TeacherFeatureConfig = TeacherFeatureConfig(features=16, grid=2)
QUICK_TEACHER: TeacherFeatureConfig = replace(TEACHER, steps=40, batch_size=16)  # trained in a second
POINT_FLOW: ObjectFlowConfig = ObjectFlowConfig(grid=4, space="world")
POINT_TRACKS: TracksConfig = TracksConfig(points=8)
# Experts of a mixture with a stream each.
TWO: Mapping[str, tuple[str, ...]] = {"video": ("future",), "control": ("action",)}
# Words that name the part of the task that is under way.
PART_OF_TASK: TextConfig = TextConfig(
    template="part {part} of {parts}",
    sentences=("part {n} of {m}",),
    slots={"n": tuple("123456789"), "m": tuple("123456789")},
    length=8,
)
# Labels that every recording has: whether the episode succeeds, and how many ticks of it are left.
QUALITY: dict[str, VariableConfig] = {
    "outcome": VariableConfig(extra=CLOCK, entry=2, values=("failure", "success"), request="success"),
    "ticks_left": VariableConfig(extra=CLOCK, entry=1, high=1000.0),
}
# Commands from the task down to a place in the picture, for an arm with a gripper.
COMMANDS: dict[str, CommandConfig] = {
    "task": WordsConfig(),
    "subtask": WordsConfig(template="part {part} of {parts}"),
    "motion": MotionConfig(
        axes={
            "hand_x_m": AxisConfig("move left", "move right", "cm", 100.0),
            "hand_y_m": AxisConfig("move back", "move forward", "cm", 100.0),
            "hand_z_m": AxisConfig("move down", "move up", "cm", 100.0),
            "gripper_open": AxisConfig("close the gripper", "open the gripper", least=0.2),
        },
        ticks=HORIZON,
    ),
    "place": PointConfig(pose="gripper_pose"),
}
TABLE: Box = Box((-0.6, 0.2, 0.0), (0.6, 1.2, 0.6))  # workspace of the recorded robot, metres
POST: Box = Box((-0.5, 0.3, 0.0), (-0.4, 0.5, 0.4))  # what stands beside it


def transformer(**fields: Any) -> TransformerConfig:
    """Transformer of the tiny size."""
    return TransformerConfig(**{"width": WIDTH, "depth": DEPTH, "heads": HEADS, **fields})


def mixture(experts: Mapping[str, tuple[str, ...]], **fields: Any) -> MixtureConfig:
    """Mixture of transformers: expert -> streams that it runs."""
    return MixtureConfig(experts=dict(experts), width=WIDTH, depth=DEPTH, heads=HEADS, **fields)


def language_model(
    expert: tuple[str, ...] = ("action",), language: tuple[str, ...] = (), **fields: Any
) -> VlmExpertConfig:
    """Random language model of the tiny size; streams run in the model itself or in an expert that reads it."""
    facts = {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": WIDTH // HEADS,
        "vocab_size": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    architecture = json.dumps({"config": facts})
    return VlmExpertConfig(architecture=architecture, width=WIDTH, expert=expert, language=language, **fields)


def denoiser(**fields: Any) -> DenoiserConfig:
    """Denoiser with few steps that starts from the centre of the noise."""
    return DenoiserConfig(**{"steps": 4, "temperature": 0.0, **fields})


def base(name: str, **fields: Any) -> DesignConfig:
    """Design without factors: pictures, state and instruction, an action chunk, chunked control."""
    start = DesignConfig(
        name=name,
        view=ViewConfig(most=SIDE, multiple=MULTIPLE),
        horizon=HORIZON,
        stride=EXECUTE,
        width=WIDTH,
        encoders={"images": ImagesConfig(), "state": StateConfig(), "instruction": InstructionConfig()},
        action=ChunkConfig(ticks_per_token=4),
        trunks={"main": transformer()},
        controller=Chunked(execute=EXECUTE),
    )
    return replace(start, **fields)


def futures(places: Mapping[str, Place]) -> dict[str, Any]:
    """Fields ``substrates`` and ``futures`` of streams: name -> substrate, or substrate and offsets."""
    parts: dict[str, SubstrateConfig] = {}
    streams: dict[str, FutureConfig] = {}
    for name, place in places.items():
        parts[name], offsets = place if isinstance(place, tuple) else (place, (EXECUTE,))
        streams[name] = FutureConfig(name, offsets)
    return {"substrates": parts, "futures": streams}


def direct(name: str, policy: EstimatorConfig, **fields: Any) -> DesignConfig:
    """``p(a|c)``."""
    return base(
        name, **{"estimators": {"policy": policy}, **fields}, factors=(Factor(("action",), (), "policy"),)
    )


def joint(
    name: str, world: EstimatorConfig, places: Mapping[str, Place], order: tuple[str, ...] = (), **fields: Any
) -> DesignConfig:
    """``p(s,a|c)``; ``order`` is the order of serialisation, futures first by default."""
    factors = (Factor(order or (*places, "action"), (), "world"),)
    return base(name, **{**futures(places), "estimators": {"world": world}, "factors": factors, **fields})


def cascade(
    name: str,
    world: EstimatorConfig,
    policy: EstimatorConfig,
    places: Mapping[str, Place],
    *,
    shared: bool = False,
    read: Any = "target",
    **fields: Any,
) -> DesignConfig:
    """``p(s|c) p(a|s,c)``, on two trunks, or on one where ``shared``."""
    if not shared:
        world, policy = replace(world, trunk="video"), _own(policy, "policy")
        fields = {"trunks": _trunks(policy), **fields}
    parts = {**futures(places), "estimators": {"world": world, "policy": policy}}
    factors = (Factor(tuple(places), (), "world"), Factor(("action",), tuple(places), "policy", read))
    return base(name, **{**parts, "factors": factors, **fields})


def _own(policy: EstimatorConfig, trunk: str) -> EstimatorConfig:
    """``policy`` on a trunk of its own, unless it has no trunk."""
    return policy if policy.trunk is None else replace(policy, trunk=trunk)


def _trunks(policy: EstimatorConfig) -> dict[str, TrunkConfig]:
    return {"video": transformer(), **({} if policy.trunk is None else {"policy": transformer()})}


def tapped(
    name: str,
    place: Place = LATENT,
    *,
    kind: Any = "tap",
    evaluation: int = 1,
    generator: EstimatorConfig | None = None,
    policy: EstimatorConfig | None = None,
    **fields: Any,
) -> DesignConfig:
    """``p(s,z|c) p(a|z,c)``: the action reads a hidden state of the network that generates the future."""
    inner = generator if generator is not None else denoiser()
    tap = FeatureTapConfig(trunk="video", generator=inner, kind=kind, layer=1, evaluation=evaluation)
    parts = {
        **futures({"future": place}),
        "taps": {"tap": "future"},
        "trunks": {"video": transformer(), "policy": transformer()},
        "estimators": {"video": tap, "policy": replace(policy or denoiser(), trunk="policy")},
        "factors": (Factor(("future", "tap"), (), "video"), Factor(("action",), ("tap",), "policy")),
    }
    return base(name, **{**parts, **fields})


def rollout(
    name: str,
    place: Place,
    proposal: EstimatorConfig,
    world: EstimatorConfig,
    planner: PlannerConfig,
    *,
    shared: bool = False,
    goal: EstimatorConfig | None = None,
    **fields: Any,
) -> DesignConfig:
    """``p(g|c) p(a|c) p(s|a,c)``, then the action whose future is closest to the goal."""
    goal = goal if goal is not None else RegressorConfig()
    if not shared:
        world, goal, proposal = (
            replace(world, trunk="world"),
            replace(goal, trunk="world"),
            replace(proposal, trunk="policy"),
        )
        fields = {"trunks": {"world": transformer(), "policy": transformer()}, **fields}
    parts = {
        **futures({"future": place}),
        "goals": {"goal": "future"},
        "estimators": {"goal": goal, "policy": proposal, "world": world},
        "factors": (
            Factor(("goal",), (), "goal"),
            Factor(("action",), (), "policy"),
            Factor(("future",), ("action",), "world"),
        ),
        "planner": planner,
    }
    return base(name, **{**parts, **fields})


def world(
    name: str,
    estimator: EstimatorConfig,
    places: Mapping[str, Place],
    *,
    given: tuple[str, ...] = ("action",),
    **fields: Any,
) -> DesignConfig:
    """``p(s|a,c)`` of actions that the caller gives; ``p(s|c)``, a video model, where ``given`` is empty."""
    factors = (Factor(tuple(places), given, "world"),)
    parts = {**futures(places), "estimators": {"world": estimator}, "factors": factors, "given": given}
    return base(name, **{**parts, **fields})


def chain(
    name: str,
    estimators: Mapping[str, EstimatorConfig],
    factors: tuple[Factor, ...],
    places: Mapping[str, Place],
    **fields: Any,
) -> DesignConfig:
    """Any factors over futures, each estimator on a trunk of its own unless ``trunks`` are named in ``fields``."""
    if "trunks" not in fields:
        estimators = {key: _own(part, key) for key, part in estimators.items()}
        fields["trunks"] = {key: transformer() for key, part in estimators.items() if part.trunk is not None}
    parts = {**futures(places), "estimators": dict(estimators), "factors": factors}
    return base(name, **{**parts, **fields})


def teacher_of(design: DesignConfig, **fields: Any) -> TeacherContextConfig:
    """Context of another design with random weights, read by a few tokens behind a gate."""
    return TeacherContextConfig(architecture=json.dumps({"design": encode(design)}), **fields)
