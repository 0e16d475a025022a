"""Latent-only systems that predict first and act from the prediction: latents, motion, masks, touch."""

from __future__ import annotations

from wamkit.controllers import OpenLoop, SlowFast
from wamkit.design.config import DesignConfig
from wamkit.encoders import (
    DepthConfig,
    ImagesConfig,
    InstructionConfig,
    RegionConfig,
    StateConfig,
    TactileImageConfig,
)
from wamkit.estimators import InverseDynamicsConfig, RegressorConfig
from wamkit.substrates import (
    ObjectFlowConfig,
    PatchPCAConfig,
    SegmentationConfig,
    TactileFutureConfig,
    ValueConfig,
)
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p


@system(
    "ARDuP",
    ("oe.goal-conditioner", "ps.pixel-latent", "ar.inverse-dynamics"),
    simplified="The region is where pixels change, not a segment of a foundation model.",
    choices="The region conditions the video as a crop among the context tokens.",
)
def ardup() -> DesignConfig:
    """Find the region that moves, imagine the task in latents conditioned on it and read the actions off them."""
    encoders = {
        "images": ImagesConfig(),
        "state": StateConfig(),
        "instruction": InstructionConfig(),
        "region": RegionConfig(side=16),
    }
    return p.cascade(
        "ARDuP",
        p.denoiser(),
        InverseDynamicsConfig(),
        {"future": (p.LATENT, (8, 16))},
        encoders=encoders,
        observation=(-4, 0),
        controller=OpenLoop(),
    )


@system(
    "VILP",
    ("ps.pixel-latent", "ar.inverse-dynamics"),
    simplified="Every view has a codec of its own; the views share one time axis and one denoiser.",
    choices="Four frames ahead; the inverse model reads all of them and now.",
)
def vilp() -> DesignConfig:
    """Plan in latents of several views that are aligned in time and recover the actions from them."""
    return p.cascade("VILP", p.denoiser(), InverseDynamicsConfig(), {"future": (p.LATENT, (4, 8, 12, 16))})


@system(
    "Im2Flow2Act",
    ("ps.motion-geometry", "ar.goal-policy"),
    simplified="Exact flow of the simulator in place of flow tracked in human videos.",
    choices="Four steps of flow in the picture; the policy also reads what the flow model reads.",
)
def im2flow2act() -> DesignConfig:
    """Imagine how the object moves in the picture; a policy that learned to follow true flow executes it."""
    flow = ObjectFlowConfig(grid=4, space="image")
    return p.cascade("Im2Flow2Act", p.denoiser(), p.denoiser(), {"flow": (flow, (4, 8, 12, 16))})


@system(
    "3D-FDP",
    ("oe.geometry", "ps.motion-geometry", "ar.iterative-head"),
    simplified="Exact flow of the simulator as the target.",
    choices="Query points are a grid of pixels, lifted by depth.",
)
def fdp() -> DesignConfig:
    """Diffuse dense 3D flow at query points and, from it, the action by a second diffusion; depth is an input."""
    encoders = {"images": ImagesConfig(), "state": StateConfig(), "depth": DepthConfig(grid=2)}
    policy = p.denoiser(temperature=1.0)
    return p.cascade("3D-FDP", p.denoiser(), policy, {"flow": p.POINT_FLOW}, encoders=encoders)


@system(
    "RoboFlow4D",
    ("oe.geometry", "ps.motion-geometry", "cp.post-head"),
    simplified="The flow predictor is small and trained beside the policy, but never by it, in place of a frozen one.",
    choices="Two evaluations for the flow, so that a call fits the control period.",
)
def roboflow4d() -> DesignConfig:
    """Predict 3D flow at several times in two evaluations and hand it to a policy that cannot change the predictor."""
    encoders = {"images": ImagesConfig(), "instruction": InstructionConfig(), "depth": DepthConfig(grid=2)}
    return p.cascade(
        "RoboFlow4D",
        p.denoiser(steps=2),
        RegressorConfig(),
        {"flow": (p.POINT_FLOW, (2, 4, 6, 8))},
        read="prediction",
        encoders=encoders,
    )


@system(
    "3PoinTr",
    ("ps.motion-geometry", "bb.shared-trunk", "ar.goal-policy"),
    missing=("da.human-retarget",),
    simplified="Tracks come from the simulator, not from human videos.",
)
def pointr() -> DesignConfig:
    """Predict tracks of points in one pass and let a policy on the same trunk follow them."""
    places = {"tracks": (p.POINT_TRACKS, (4, 8))}
    return p.cascade("3PoinTr", RegressorConfig(), p.denoiser(), places, shared=True, read="prediction")


@system(
    "MWM",
    ("ps.task-map", "ar.iterative-head"),
    simplified="Masks are the simulator's labels.",
    choices="Shares of five classes on a coarse grid.",
)
def mwm() -> DesignConfig:
    """Predict how the masks of robot, object and scene evolve, not their colours, and act on the masks."""
    return p.cascade("MWM", p.denoiser(), p.denoiser(), {"mask": (SegmentationConfig(grid=4), (4, 8))})


@system(
    "OmniVTA",
    ("ps.sensor-latent", "dp.slow-fast"),
    data="senses",
    simplified="The reflex corrects the place of the hand; the recordings are noise with touch.",
    choices="The slow policy is called every eight ticks.",
    departs={
        "deployment": "the survey's table says Single-step, its text a slow policy and a reflex at a high rate; the "
        "model is called at the slow rate"
    },
)
def omnivta() -> DesignConfig:
    """Forecast latents of sight and touch for a slow policy, while a fast reflex corrects every tick."""
    touch = TactileFutureConfig(codec=PatchPCAConfig(patch=8, features=8))
    return p.cascade(
        "OmniVTA",
        p.denoiser(levels="shared"),
        p.denoiser(),
        {"future": p.LATENT, "touch": touch},
        encoders={"images": ImagesConfig(), "state": StateConfig(), "touch": TactileImageConfig()},
        controller=SlowFast(execute=p.EXECUTE, state=(0, 1), action=(0, 1)),
    )


@system(
    "GigaBrain-0.5M*",
    ("bb.mot", "pt.value-head", "pt.wm-rl"),
    simplified="A small mixture of experts; all that it learns from are imagined outcomes, no rollouts of a robot.",
    choices="The value is denoised together with the latents of the coming state. What follows an action is imagined "
    "by a second world model, given the action; the policy is regressed on that outcome (`ImaginedConfig.hindsight`).",
)
def gigabrain() -> DesignConfig:
    """Give the policy two more inputs, latents of the coming state and its value, and improve it in a world model."""
    places = {"future": p.LATENT, "value": ValueConfig()}
    trunk = p.mixture({"world": ("future", "value"), "control": ("action",)})
    world = p.denoiser(levels="shared")
    policy = p.denoiser(temperature=1.0)
    return p.cascade("GigaBrain-0.5M*", world, policy, places, shared=True, trunks={"main": trunk})
