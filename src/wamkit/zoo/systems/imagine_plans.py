"""Systems that imagine frames and hand them to an executor: inverse models, translators and goal policies."""

from __future__ import annotations

from dataclasses import replace

from wamkit.actions import FastConfig
from wamkit.controllers import PhaseTrigger, SubgoalRefresh
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.encoders import MetadataConfig
from wamkit.estimators import (
    AutoregressorConfig,
    GatedConfig,
    InverseDynamicsConfig,
    JacobianDynamicsConfig,
    RegressorConfig,
)
from wamkit.planners import CandidateScoringConfig, HighValueConfig
from wamkit.substrates import PixelsConfig, ProgressConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

NEAR, WHOLE = (4, 8), (8, 16)
FINE = PixelsConfig(shrink=2, patch=4)


@system(
    "Say-Dream-Act",
    ("ss.distill", "ar.inverse-dynamics"),
    simplified="A small denoiser in place of a Cosmos-style generator; the few-step training is run by the oracle.",
    choices="Two evaluations for the clip; the action reads the whole clip at once.",
)
def say_dream_act() -> DesignConfig:
    """Imagine the clip in a few distilled steps that still follow the instruction, and fuse it into the action."""
    places = {"future": (p.FRAMES, WHOLE)}
    return p.cascade("Say-Dream-Act", p.denoiser(steps=2), InverseDynamicsConfig(), places)


@system(
    "EVA",
    ("ar.inverse-dynamics",),
    missing=("ge.executability", "pt.preference-opt"),
    simplified="The video planner is trained on demonstrations alone: no reward of smoothness and limits aligns it.",
)
def eva() -> DesignConfig:
    """Read actions off a clip by a spatial softmax, whose judgement of them then aligns the video planner."""
    readout = InverseDynamicsConfig(readout="spatial_softmax", keypoints=8, grid=(4, 4))
    return p.cascade("EVA", p.denoiser(), readout, {"future": (FINE, NEAR)})


@system(
    "CreFlow",
    ("ar.inverse-dynamics",),
    missing=("ge.executability", "pt.preference-opt"),
    simplified="Trained on demonstrations alone: no monitor marks what a second training of the video has to correct.",
    choices="Three frames, so that a mask in time can mark a part of the clip.",
)
def creflow() -> DesignConfig:
    """Correct a video trunk where a temporal-logic monitor objects, and leave its masked inverse model as it is."""
    places = {"future": (p.FRAMES, (2, 4, 8))}
    return p.cascade("CreFlow", p.denoiser(), InverseDynamicsConfig(mask=True), places)


@system(
    "VERA",
    ("ar.inverse-dynamics", "ps.pixel-decoded"),
    simplified="The Jacobian is that of pixel values of small frames.",
    choices="Locally linear in every pixel of the clip, with a drift that the context tells.",
)
def vera() -> DesignConfig:
    """Plan in video without actions and translate the clip by the inverse of a Jacobian that is learned per robot."""
    return p.cascade("VERA", p.denoiser(), JacobianDynamicsConfig(), {"future": (p.FRAMES, NEAR)})


@system(
    "Veo-Act",
    ("ar.goal-policy", "ps.pixel-decoded"),
    simplified="A small denoiser in place of a frontier video model, and a small policy in place of the executor.",
    choices="The plan is a dense clip of four frames, renewed with every chunk.",
)
def veo_act() -> DesignConfig:
    """Take the plan from a general video model as it is and let a precise executor of its own follow the clip."""
    return p.cascade("Veo-Act", p.denoiser(), p.denoiser(steps=8), {"future": (p.FRAMES, (2, 4, 6, 8))})


@system(
    "SWEET",
    ("ps.keyframes", "ar.goal-policy"),
    simplified="Key frames are generated from the context, not edited out of the present picture.",
    choices="The next two milestones of the task.",
)
def sweet() -> DesignConfig:
    """Generate a few task-critical key frames in place of a dense clip and give them to a goal-conditioned policy."""
    return p.base(
        "SWEET",
        substrates={"picture": p.FRAMES},
        futures={"keys": FutureConfig("picture", milestones=2)},
        trunks={"video": p.transformer(), "policy": p.transformer()},
        estimators={"world": p.denoiser(trunk="video"), "policy": p.denoiser(trunk="policy")},
        factors=(Factor(("keys",), (), "world"), Factor(("action",), ("keys",), "policy")),
    )


@system(
    "π0.7",
    ("dp.subgoal-refresh", "ps.keyframes", "bb.vlm-expert", "st.command-levels", "st.context-metadata"),
    simplified="A random language model of two layers. Whether the episode succeeds is its quality, the ticks that are "
    "left its speed; the recordings are labelled with nothing else.",
    choices="A refresh every 16 ticks that takes 4, in place of four seconds. Levels of commands have equal shares.",
)
def pi07() -> DesignConfig:
    """Direct a VLA with a flow expert by commands of any level, labels of quality and subgoal pictures of all views."""
    language = p.language_model(expert=("action", "goal"), language=("tokens",), learning="insulated")
    start = p.base("π0.7")
    return replace(
        start,
        encoders={**start.encoders, "metadata": MetadataConfig(p.QUALITY)},
        commands=p.COMMANDS,
        substrates={"picture": p.FRAMES},
        goals={"goal": "picture"},
        aim="next",
        trunks={"video": p.transformer(), "main": language},
        actions={"tokens": FastConfig(vocabulary=256)},
        estimators={
            "world": p.denoiser(trunk="video"),
            "writer": AutoregressorConfig(),
            "policy": p.denoiser(),
        },
        factors=(
            Factor(("goal",), (), "world"),
            Factor(("tokens",), (), "writer"),
            Factor(("action",), ("goal",), "policy"),
        ),
        controller=SubgoalRefresh(execute=p.EXECUTE, refresh=16, latency=4),
    )


@system(
    "DreamAvoid",
    ("dp.phase-trigger", "pl.candidate-scoring", "cp.rollout"),
    simplified="Slow motion marks a critical phase, in place of a trained detector; small frames for DreamDojo.",
    choices="Five candidates, scored by the progress that is read off their frames.",
)
def dream_avoid() -> DesignConfig:
    """In critical phases only, draw action chunks, render what each leads to, and run that with most progress."""
    return p.base(
        "DreamAvoid",
        **p.futures({"future": p.FRAMES, "progress": ProgressConfig()}),
        trunks={"policy": p.transformer(), "video": p.transformer(), "judge": p.transformer()},
        estimators={
            "policy": p.denoiser(trunk="policy", temperature=1.0),
            "world": p.denoiser(trunk="video"),
            "judge": RegressorConfig(trunk="judge"),
        },
        factors=(
            Factor(("action",), (), "policy"),
            Factor(("future",), ("action",), "world"),
            Factor(("progress",), ("future",), "judge"),
        ),
        planner=CandidateScoringConfig(candidates=5, objective=HighValueConfig("progress")),
        controller=PhaseTrigger(execute=p.EXECUTE),
    )


@system(
    "HarmoWAM",
    ("bb.mot", "ps.pixel-latent"),
    simplified="The gate reads the context in place of process cues that are named.",
    choices="The predictive expert reads latents and denoises, the reactive one reads frames in one pass.",
)
def harmo_wam() -> DesignConfig:
    """Give rendered frames to one expert and latents to another, and let a learned gate choose who acts."""
    policy = GatedConfig(
        experts={"predictive": p.denoiser(), "reactive": InverseDynamicsConfig()},
        reads={"predictive": ("latent",), "reactive": ("frames",)},
    )
    experts = {"video": ("frames", "latent"), "control": ("action",)}
    return p.cascade(
        "HarmoWAM",
        p.denoiser(levels="shared"),
        policy,
        {"frames": p.FRAMES, "latent": p.LATENT},
        shared=True,
        trunks={"main": p.mixture(experts)},
    )
