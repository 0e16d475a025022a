"""Systems that first imagine frames and then read actions off them, or follow them as goals."""

from __future__ import annotations

from wamkit.controllers import OpenLoop
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.encoders import GesturesConfig, ImagesConfig, InstructionConfig, StateConfig
from wamkit.estimators import InverseDynamicsConfig, LatentActionConfig, RegressorConfig
from wamkit.substrates import PixelsConfig, ProgressConfig, ValueConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

TWO_STEPS = (8, 16)
FINE = PixelsConfig(shrink=2, patch=4)


@system(
    "VLP",
    ("ar.goal-policy", "ps.pixel-decoded"),
    missing=("pl.video-language-planning",),
    simplified="One clip per call: no text branches, and the value of the clip is predicted but not searched.",
)
def vlp() -> DesignConfig:
    """Imagine a clip, judge its value, and let a goal-conditioned policy follow the clip before imagining anew."""
    return p.base(
        "VLP",
        **p.futures({"future": (p.FRAMES, TWO_STEPS), "value": (ValueConfig(), (16,))}),
        trunks={name: p.transformer() for name in ("video", "judge", "policy")},
        estimators={
            "world": p.denoiser(trunk="video"),
            "judge": RegressorConfig(trunk="judge"),
            "policy": p.denoiser(trunk="policy"),
        },
        factors=(
            Factor(("future",), (), "world"),
            Factor(("value",), ("future",), "judge"),
            Factor(("action",), ("future",), "policy"),
        ),
    )


@system(
    "GR-MG",
    ("ps.keyframes", "ar.goal-policy"),
    simplified="Progress is predicted in front of the goal image, not by the policy at the step before.",
)
def gr_mg() -> DesignConfig:
    """Generate the next goal image from the predicted progress, and follow it with a policy of its own every chunk."""
    return p.base(
        "GR-MG",
        substrates={"picture": p.FRAMES, "progress": ProgressConfig()},
        futures={
            "progress": FutureConfig("progress", (8,)),
            "goal": FutureConfig("picture", milestones=1),
        },
        trunks={name: p.transformer() for name in ("gauge", "video", "policy")},
        estimators={
            "gauge": p.denoiser(trunk="gauge"),
            "world": p.denoiser(trunk="video"),
            "policy": p.denoiser(trunk="policy"),
        },
        factors=(
            Factor(("progress",), (), "gauge"),
            Factor(("goal",), ("progress",), "world"),
            Factor(("action",), ("goal",), "policy"),
        ),
    )


@system(
    "Vidar",
    ("ar.inverse-dynamics",),
    simplified="Two small frames in place of a Wan-class video model.",
)
def vidar() -> DesignConfig:
    """Read actions off a clip by an inverse model that learns which tokens matter and cuts off the rest."""
    places = {"future": (p.FRAMES, (4, 8))}
    return p.cascade("Vidar", p.denoiser(), InverseDynamicsConfig(mask=True), places)


@system(
    "This&That",
    ("st.spatial-control", "oe.goal-conditioner", "ar.inverse-dynamics"),
    simplified="The clicks come from ground truth: where the object is, and where it is at the end of the recording.",
    choices="The inverse model reads the whole clip at once.",
)
def this_and_that() -> DesignConfig:
    """Condition the imagined clip on short language and two clicks, what is meant and where to; read actions off it."""
    encoders = {
        "images": ImagesConfig(),
        "state": StateConfig(),
        "instruction": InstructionConfig(),
        "clicks": GesturesConfig(),
    }
    places = {"future": (p.FRAMES, TWO_STEPS)}
    return p.cascade(
        "This&That", p.denoiser(), InverseDynamicsConfig(), places, encoders=encoders, controller=OpenLoop()
    )


@system(
    "Gen2Act",
    ("ar.goal-policy",),
    missing=("da.human-retarget",),
    simplified="Robot recordings in place of human video.",
    choices="The motion of the clip is the expected positions of learned keypoints in every frame.",
)
def gen2act() -> DesignConfig:
    """Imagine the task as a clip and condition the policy on nothing of it but the motion of points in its frames."""
    readout = InverseDynamicsConfig(readout="spatial_softmax", keypoints=8, grid=(4, 4))
    return p.cascade("Gen2Act", p.denoiser(), readout, {"future": (FINE, TWO_STEPS)}, controller=OpenLoop())


@system(
    "DreamGen",
    ("ar.latent-action", "ps.pixel-decoded"),
    missing=("da.synthetic-rollout",),
    simplified="The clip, its latent action and its commands are one design; no policy is trained on them.",
)
def dreamgen() -> DesignConfig:
    """Imagine a robot video and label it: read a latent action off the clip and decode it into commands."""
    return p.base(
        "DreamGen",
        **p.futures({"future": (p.FRAMES, TWO_STEPS), "rebuilt": (p.FRAMES, TWO_STEPS)}),
        states={"latent": 8},
        trunks={name: p.transformer() for name in ("video", "labels", "policy")},
        estimators={
            "world": p.denoiser(trunk="video"),
            "labels": LatentActionConfig(trunk="labels"),
            "policy": RegressorConfig(trunk="policy"),
        },
        factors=(
            Factor(("future",), (), "world"),
            Factor(("latent",), ("future",), "labels"),
            Factor(("rebuilt",), ("latent",), "labels"),
            Factor(("action",), ("latent",), "policy"),
        ),
        controller=OpenLoop(),
    )


@system(
    "RoboEnvision",
    ("ps.keyframes", "ar.goal-policy"),
    simplified="Two key frames and four frames between them, all small.",
    choices="The policy reads the key frames and the clip around them.",
)
def robo_envision() -> DesignConfig:
    """Draw the key frames of the instruction's steps, fill in the video around them, and follow both to the end."""
    return p.base(
        "RoboEnvision",
        substrates={"picture": p.FRAMES},
        futures={
            "keys": FutureConfig("picture", milestones=2),
            "future": FutureConfig("picture", (4, 8, 12, 16)),
        },
        trunks={name: p.transformer() for name in ("keys", "video", "policy")},
        estimators={
            "planner": p.denoiser(trunk="keys"),
            "world": p.denoiser(trunk="video"),
            "policy": p.denoiser(trunk="policy"),
        },
        factors=(
            Factor(("keys",), (), "planner"),
            Factor(("future",), ("keys",), "world"),
            Factor(("action",), ("keys", "future"), "policy"),
        ),
        controller=OpenLoop(),
    )
