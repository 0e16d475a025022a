"""Backbones: one recipe per estimator, trunk or action representation, with the futures of `couplings`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from wamkit.actions import BinsConfig, FastConfig, MovementPrimitiveConfig
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.estimators import (
    AutoregressorConfig,
    ContinuousAutoregressorConfig,
    FeatureTapConfig,
    InverseDynamicsConfig,
    LatentActionConfig,
    NextScaleConfig,
    RegressorConfig,
    UnmaskerConfig,
)
from wamkit.substrates import (
    EmaFeatureConfig,
    PatchPCAConfig,
    PixelLatentConfig,
    QuantizedConfig,
    VlmTokenConfig,
)
from wamkit.trunks import MixtureConfig, TransformerConfig, VlmExpertConfig, llama_architecture
from wamkit.zoo.couplings import DENOISER, EXECUTE, HORIZON, base, joint, joint_denoiser, post_head


def noise_prediction() -> DesignConfig:
    """Joint denoiser that predicts noise instead of velocity (as UWM; survey eq. 21)."""
    world = replace(joint_denoiser(), prediction="noise")
    return replace(joint(), name="noise_prediction", estimators={"world": world})


def equilibrium() -> DesignConfig:
    """Joint denoiser as an equilibrium gradient field with samples as fixed points (Wang & Du 2025)."""
    world = replace(joint_denoiser(), prediction="equilibrium", steps=12)
    return replace(joint(), name="equilibrium", estimators={"world": world})


def masked() -> DesignConfig:
    """Masked generation of image tokens and binned action tokens together (as UD-VLA; survey eq. 23)."""
    return replace(
        base("masked"),
        action=BinsConfig(bins=256, ticks_per_token=2),
        substrates={"video": QuantizedConfig(PixelLatentConfig(PatchPCAConfig(patch=16, features=24)))},
        futures={"future": FutureConfig("video", (EXECUTE,))},
        estimators={"world": UnmaskerConfig(steps=8, temperature=0.0, shuffle=0.0, absent={"future": 0.4})},
        factors=(Factor(("future", "action"), (), "world"),),
        loss_weights={"future": 0.25},
    )


def fast_tokens() -> DesignConfig:
    """Causal policy over compressed action tokens (as pi0-FAST)."""
    return replace(
        base("fast_tokens"),
        action=FastConfig(),
        estimators={"policy": AutoregressorConfig(temperature=0.0)},
        factors=(Factor(("action",), (), "policy"),),
    )


def regression() -> DesignConfig:
    """Plain baseline: regression of the action chunk in one pass."""
    return replace(
        base("regression"),
        estimators={"policy": RegressorConfig(loss="smooth_l1")},
        factors=(Factor(("action",), (), "policy"),),
    )


def jepa() -> DesignConfig:
    """Future features of a moving average of the design's encoder, then the action (as VLA-JEPA; eq. 28)."""
    shared = post_head()
    return replace(
        shared,
        name="jepa",
        substrates={"ema": EmaFeatureConfig()},
        futures={"future": FutureConfig("ema", (EXECUTE,))},
    )


def shared_trunk() -> DesignConfig:
    """Post-head coupling with both factors on one trunk (hybrid family; survey eqs. 30, 31)."""
    shared = post_head()
    return replace(
        shared,
        name="shared_trunk",
        trunks={"main": TransformerConfig(width=128, depth=3, heads=4)},
        estimators={name: replace(part, trunk="main") for name, part in shared.estimators.items()},
    )


def mixture() -> DesignConfig:
    """Joint denoiser with one expert for the future and one for the action (as Motus; Liang et al. 2024)."""
    experts: dict[str, tuple[str, ...]] = {"video": ("future",), "control": ("action",)}
    trunk = MixtureConfig(
        experts=experts, width=128, depth=3, heads=4, expansions={"video": 2.0, "control": 2.0}
    )
    return replace(joint(), name="mixture", trunks={"main": trunk})


def inverse_dynamics() -> DesignConfig:
    """Future video, then inverse dynamics from "now" to it for the action (as UniPi; survey eq. 20)."""
    return replace(
        base("inverse_dynamics"),
        substrates={"video": PixelLatentConfig(PatchPCAConfig(patch=32, features=64))},
        futures={"future": FutureConfig("video", (EXECUTE, HORIZON))},
        trunks={
            "predictor": TransformerConfig(width=128, depth=2, heads=4),
            "policy": TransformerConfig(width=128, depth=2, heads=4),
        },
        estimators={
            "world": replace(DENOISER, trunk="predictor"),
            "policy": InverseDynamicsConfig(trunk="policy"),
        },
        factors=(Factor(("future",), (), "world"), Factor(("action",), ("future",), "policy")),
    )


def latent_action() -> DesignConfig:
    """Latent action inferred from the change, its world model and an action decoder (as LAPA; survey eq. 10)."""
    return replace(
        base("latent_action"),
        substrates={"video": PixelLatentConfig(PatchPCAConfig(patch=32, features=64))},
        futures={"future": FutureConfig("video", (EXECUTE,))},
        states={"latent": 16},
        trunks={
            "world": TransformerConfig(width=128, depth=2, heads=4),
            "policy": TransformerConfig(width=128, depth=2, heads=4),
        },
        estimators={
            "world": LatentActionConfig(trunk="world"),
            "policy": replace(DENOISER, trunk="policy"),
        },
        factors=(
            Factor(("latent",), (), "world"),
            Factor(("future",), ("latent",), "world"),
            Factor(("action",), ("latent",), "policy"),
        ),
    )


def continuous_tokens() -> DesignConfig:
    """Continuous tokens of future and action in one causal sequence, a flow each (as PhysGen; survey eq. 26)."""
    shared = joint()
    world = ContinuousAutoregressorConfig(steps=4, temperature=0.0, draws=2)
    return replace(
        shared,
        name="continuous_tokens",
        estimators={"world": world},
        factors=(Factor(("action", "future"), (), "world"),),
    )


def next_scale() -> DesignConfig:
    """Coarse-to-fine generation of future and action, one pass per scale (as VAR, Tian et al. 2024)."""
    world = NextScaleConfig(steps=4, temperature=0.0, draws=2)
    return replace(joint(), name="next_scale", estimators={"world": world})


def tapped(name: str, kind: Literal["tap", "encoder-only"]) -> DesignConfig:
    """Future of `joint` on its own trunk, and an action that reads a hidden state of that trunk."""
    shared = joint()
    generator = DENOISER
    return replace(
        shared,
        name=name,
        taps={"tap": "future"},
        trunks={
            "video": TransformerConfig(width=128, depth=3, heads=4),
            "policy": TransformerConfig(width=128, depth=2, heads=4),
        },
        estimators={
            "video": FeatureTapConfig(trunk="video", generator=generator, kind=kind, layer=2),
            "policy": replace(DENOISER, trunk="policy"),
        },
        factors=(Factor(("future", "tap"), (), "video"), Factor(("action",), ("tap",), "policy")),
    )


def feature_tap() -> DesignConfig:
    """Action from a hidden state of the future's denoiser after one evaluation (as VPP; survey eq. 14)."""
    return tapped("feature_tap", "tap")


def encoder_only() -> DesignConfig:
    """Action from a hidden state trained to predict the future, without generating it (as Fast-WAM)."""
    return tapped("encoder_only", "encoder-only")


def language_model(streams: tuple[str, ...] = ()) -> VlmExpertConfig:
    """Small Llama with random weights in place of a pretrained one, and an expert that reads it layer by layer."""
    return VlmExpertConfig(architecture=llama_architecture(), width=96, language=streams)


def vlm_expert() -> DesignConfig:
    """Language model over the context and a smaller action expert that denoises (as pi0; survey eq. 32)."""
    return replace(
        base("vlm_expert"),
        trunks={"main": language_model()},
        estimators={"policy": DENOISER},
        factors=(Factor(("action",), (), "policy"),),
    )


def vlm_token() -> DesignConfig:
    """Language model that writes the gripper's future position, and an expert given it (as CoT-VLA; eq. 14)."""
    return replace(
        base("vlm_token"),
        substrates={"words": VlmTokenConfig(bins=64)},
        futures={"target": FutureConfig("words", (EXECUTE,))},
        trunks={"main": language_model(("target",))},
        estimators={
            "writer": AutoregressorConfig(),
            "policy": DENOISER,
        },
        factors=(Factor(("target",), (), "writer"), Factor(("action",), ("target",), "policy")),
        loss_weights={"target": 0.1},
    )


def movement_primitive() -> DesignConfig:
    """Movement primitives: goal, duration and shape of the action (as LMP; Ijspeert et al. 2013)."""
    return replace(
        base("movement_primitive"),
        action=MovementPrimitiveConfig(),
        estimators={"policy": DENOISER},
        factors=(Factor(("action",), (), "policy"),),
    )
