"""Couplings: seven reference designs that differ in how future and action depend on each other.

They are small enough to train on one CPU core. Stride, action horizon and context are shared, unless the coupling
itself needs other ones, so that a comparison of two designs isolates the choice in which they differ.
"""

from __future__ import annotations

from dataclasses import replace

from wamkit.actions import BinsConfig, ChunkConfig
from wamkit.controllers import Chunked
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.encoders import ImagesConfig, InstructionConfig, StateConfig
from wamkit.estimators import (
    AutoregressorConfig,
    DenoiserConfig,
    ProposerConfig,
    RegressorConfig,
    StateSpaceConfig,
)
from wamkit.planners import CEMConfig
from wamkit.substrates import (
    PatchPCAConfig,
    PatchVQConfig,
    PixelLatentConfig,
    ProprioceptionConfig,
    TeacherFeatureConfig,
)
from wamkit.trunks import TransformerConfig
from wamkit.views import ViewConfig

HORIZON = 16
EXECUTE = 8
SIDE = 64  # pixels; larger and odd pictures are brought to this side
# Denoiser of all reference designs. It predicts the data, because designs that predict the velocity learn the same task
# in more steps (docs/benchmark.md), and samples the most typical outcome.
DENOISER = DenoiserConfig(prediction="data", steps=4, draws=2, temperature=0.0)
MULTIPLE = 32  # pixels; sides of every part's patches divide it, so that pictures of any size can be read


def base(name: str) -> DesignConfig:
    """Base of all seven: context, trunk, action chunk and controller, without factors."""
    return DesignConfig(
        name=name,
        view=ViewConfig(most=SIDE, multiple=MULTIPLE),
        horizon=HORIZON,
        stride=EXECUTE,
        width=128,
        encoders={"images": ImagesConfig(), "state": StateConfig(), "instruction": InstructionConfig()},
        action=ChunkConfig(ticks_per_token=4),
        trunks={"main": TransformerConfig(width=128, depth=3, heads=4)},
        controller=Chunked(execute=EXECUTE),
    )


def direct() -> DesignConfig:
    """Vision-language-action baseline with a flow-matching action chunk, ``p(a|c)`` (as pi0)."""
    return replace(
        base("direct"),
        estimators={"policy": DENOISER},
        factors=(Factor(("action",), (), "policy"),),
    )


def joint_denoiser() -> DenoiserConfig:
    """Denoiser of future and action in :func:`joint`, which other recipes vary."""
    return replace(DENOISER, absent={"future": 0.4, "action": 0.1}, clean={"future": 0.1, "action": 0.1})


def joint() -> DesignConfig:
    """Joint denoiser of video and action with a noise level per stream, ``p(s,a|c)`` (as UWM)."""
    return replace(
        base("joint"),
        substrates={"video": PixelLatentConfig(PatchPCAConfig(patch=32, features=64))},
        futures={"future": FutureConfig("video", (EXECUTE,))},
        estimators={"world": joint_denoiser()},
        factors=(Factor(("future", "action"), (), "world"),),
        loss_weights={"future": 0.25},
    )


def post_head() -> DesignConfig:
    """Future features of a frozen teacher, then the action given them, ``p(s|c) p(a|s,c)`` (as FLARE)."""
    return replace(
        base("post_head"),
        substrates={"teacher": TeacherFeatureConfig(features=24, grid=4)},
        futures={"future": FutureConfig("teacher", (EXECUTE,))},
        trunks={
            "predictor": TransformerConfig(width=128, depth=2, heads=4),
            "policy": TransformerConfig(width=128, depth=2, heads=4),
        },
        estimators={
            "predictor": RegressorConfig(trunk="predictor", loss="smooth_l1"),
            "policy": replace(DENOISER, trunk="policy"),
        },
        factors=(
            Factor(("future",), (), "predictor"),
            Factor(("action",), ("future",), "policy", read="prediction"),
        ),
    )


def autoregressive() -> DesignConfig:
    """Binned action tokens and image tokens in one causal sequence, ``p(a,s|c)`` (as GR-1)."""
    return replace(
        base("autoregressive"),
        action=BinsConfig(bins=256, ticks_per_token=2),
        substrates={"video": PixelLatentConfig(PatchVQConfig(patch=16, features=24, vocabulary=128))},
        futures={"future": FutureConfig("video", (EXECUTE, HORIZON))},
        estimators={"world": AutoregressorConfig(segments=2)},
        factors=(Factor(("action", "future"), (), "world"),),
        loss_weights={"future": 0.25},
    )


def rollout() -> DesignConfig:
    """Action proposals, a latent world model and CEM towards a goal, ``p(g|c) p(a|c) p(s|a,c)``."""
    return replace(
        base("rollout"),
        substrates={"video": PixelLatentConfig(PatchPCAConfig(patch=32, features=64))},
        futures={"future": FutureConfig("video", (EXECUTE, HORIZON))},
        goals={"goal": "video"},
        trunks={
            "world": TransformerConfig(width=128, depth=2, heads=4),
            "policy": TransformerConfig(width=128, depth=2, heads=4),
        },
        estimators={
            "goal": RegressorConfig(trunk="world"),
            "proposal": ProposerConfig(trunk="policy", max_std=0.5),
            "world": RegressorConfig(trunk="world"),
        },
        factors=(
            Factor(("goal",), (), "goal"),
            Factor(("action",), (), "proposal"),
            Factor(("future",), ("action",), "world"),
        ),
        planner=CEMConfig(candidates=16, iterations=1, elites=4, deviation_cost=0.02),
        loss_weights={"action": 0.5},
    )


def recurrent() -> DesignConfig:
    """State-space model with a latent carried between calls, ``p(z|c) p(a|z,c) p(s|z,a,c)`` (as Dreamer)."""
    shared = base("recurrent")
    return replace(
        shared,
        horizon=HORIZON,
        encoders={k: v for k, v in shared.encoders.items() if k != "images"},
        substrates={"video": PixelLatentConfig(PatchPCAConfig(patch=32, features=64))},
        futures={"future": FutureConfig("video", (EXECUTE, HORIZON))},
        states={"latent": 256 + 32},
        estimators={
            "world": StateSpaceConfig(stochastic=32, hidden=256, past=4),
            "policy": DENOISER,
        },
        factors=(
            Factor(("latent",), (), "world"),
            Factor(("action",), ("latent",), "policy"),
            Factor(("future",), ("latent", "action"), "world"),
        ),
    )


def chunk_causal() -> DesignConfig:
    """Joint denoiser in causal blocks with a cache of real observations only, ``p(s,a|c)`` (as DreamZero)."""
    shared = base("chunk_causal")
    return replace(
        shared,
        horizon=EXECUTE,
        encoders={"instruction": InstructionConfig()},
        substrates={
            "video": PixelLatentConfig(PatchPCAConfig(patch=32, features=64)),
            "body": ProprioceptionConfig(),
        },
        futures={"future": FutureConfig("video", (EXECUTE,)), "body": FutureConfig("body", (EXECUTE,))},
        trunks={"main": TransformerConfig(width=128, depth=3, heads=4, time_range=8)},
        estimators={"world": replace(DENOISER, absent={"future": 0.4, "body": 0.4}, history=4)},
        factors=(Factor(("future", "body", "action"), (), "world"),),
        loss_weights={"future": 0.25, "body": 0.25},
    )
