"""Policies of two rates: a slow model writes a latent plan, and a fast one acts on it and on what it sees now."""

from __future__ import annotations

from typing import Any

from wamkit.actions import ChunkConfig
from wamkit.contract.protocols import EstimatorConfig
from wamkit.controllers import SubgoalRefresh
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import (
    BodySensorsConfig,
    ImagesConfig,
    InstructionConfig,
    StateConfig,
    TactileImageConfig,
)
from wamkit.estimators import RegressorConfig, SummaryConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

PLAN = "plan"
SMALL = (
    "A random model of two layers. Both networks read the same context, where the fast one needs no words."
)


def two_rates(
    name: str, policy: EstimatorConfig, features: int, learning: Any, **fields: Any
) -> DesignConfig:
    """``p(z|c) p(a|z,c)``: a language model writes the latent z, and a small trunk of its own acts on it."""
    parts = {
        "states": {PLAN: features},
        "trunks": {
            "slow": p.language_model(expert=(), language=(PLAN,), learning=learning),
            "fast": p.transformer(),
        },
        "estimators": {"planner": SummaryConfig(trunk="slow"), "policy": policy},
        "factors": (Factor((PLAN,), (), "planner"), Factor(("action",), (PLAN,), "policy")),
    }
    return p.base(name, **{**parts, **fields})


@system(
    "Helix",
    ("dp.slow-fast", "oe.body-sensors"),
    simplified=SMALL,
    choices="The plan is renewed every eight ticks and comes two late; the fast network acts at every second tick.",
)
def helix() -> DesignConfig:
    """Let a slow language model write one latent vector, which a fast visuomotor network follows by regression."""
    controller = SubgoalRefresh(execute=2, stream=PLAN, refresh=8, latency=2)
    fields = {"horizon": 4, "action": ChunkConfig(ticks_per_token=1), "controller": controller}
    return two_rates("Helix", RegressorConfig(trunk="fast", loss="smooth_l1"), 32, "all", **fields)


@system(
    "GR00T N1",
    ("dp.slow-fast", "ar.iterative-head", "oe.body-sensors"),
    simplified=f"{SMALL} The plan is one wide vector, where the paper's head reads all tokens of a middle layer.",
    choices="The plan is renewed every eight ticks; the head denoises sixteen steps at every fourth.",
)
def gr00t_n1() -> DesignConfig:
    """Keep the slow language model's words frozen and let a flow head denoise chunks from its features and the body."""
    controller = SubgoalRefresh(execute=4, stream=PLAN, refresh=8, latency=0)
    policy = p.denoiser(trunk="fast", steps=4, temperature=1.0, emphasis=0.67)
    return two_rates("GR00T N1", policy, 128, "frozen", controller=controller)


@system(
    "Gemini Robotics",
    ("dp.slow-fast", "ar.continuous-chunk"),
    simplified=f"{SMALL} No reasoning in words comes before the plan.",
    choices="The model answers from afar, six ticks late; the sources do not say how the decoder on board is trained.",
)
def gemini_robotics() -> DesignConfig:
    """Hide the delay of a large model far away behind a small decoder on board, which acts on its last answer."""
    controller = SubgoalRefresh(execute=4, stream=PLAN, refresh=6, latency=6)
    policy = RegressorConfig(trunk="fast")
    fields = {"horizon": 8, "action": ChunkConfig(ticks_per_token=4), "controller": controller}
    return two_rates("Gemini Robotics", policy, 64, "all", **fields)


@system(
    "VLA-Touch",
    ("dp.slow-fast", "oe.body-sensors"),
    data="senses",
    simplified=f"{SMALL} The plan is a latent, where the paper's upper level reads the touch in words.",
    choices="The slow level reads touch once per plan; the fast one refines the motion by the newest touch.",
)
def vla_touch() -> DesignConfig:
    """Feed touch back at two levels: slowly into the plan, and quickly into the network that refines the motion."""
    encoders = {
        "images": ImagesConfig(),
        "state": StateConfig(),
        "instruction": InstructionConfig(),
        "touch": TactileImageConfig(),
        "force": BodySensorsConfig(sensors=("wrench",)),
    }
    controller = SubgoalRefresh(execute=2, stream=PLAN, refresh=8, latency=0)
    fields = {"horizon": 4, "encoders": encoders, "controller": controller}
    return two_rates("VLA-Touch", p.denoiser(trunk="fast", temperature=1.0), 32, "frozen", **fields)
