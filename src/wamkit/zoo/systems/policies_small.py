"""Policies without a language model: diffusion policies, imitation by chunks, mobile manipulation."""

from __future__ import annotations

from wamkit.actions import ChunkConfig
from wamkit.controllers import Chunked, Overlap
from wamkit.design.config import DesignConfig
from wamkit.encoders import DepthConfig, GoalImageConfig, ImagesConfig, InstructionConfig, StateConfig
from wamkit.estimators import ContinuousAutoregressorConfig, RegressorConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

SEEN = {"images": ImagesConfig(), "state": StateConfig()}


@system(
    "Diffusion Policy",
    ("ar.iterative-head", "oe.rgb-history"),
    simplified="Eight evaluations of a small transformer.",
    choices="The transformer variant: two observed steps, predict sixteen, execute eight.",
)
def diffusion_policy() -> DesignConfig:
    """Denoise a chunk of actions given two observed steps, and execute only its first half; no words are read."""
    policy = p.denoiser(prediction="noise", steps=8, temperature=1.0)
    return p.direct("Diffusion Policy", policy, observation=(-1, 0), encoders=SEEN)


@system(
    "Octo",
    ("ar.iterative-head", "oe.goal-conditioner"),
    simplified="One small transformer without pretraining on many robots.",
    choices="A chunk of four actions is one token: the readout that the head denoises from.",
)
def octo() -> DesignConfig:
    """Run one transformer over words or a goal picture and the observations, then denoise from its readout alone."""
    encoders = {**SEEN, "instruction": InstructionConfig(), "goal": GoalImageConfig()}
    action = ChunkConfig(ticks_per_token=4)
    fields = {"horizon": 4, "stride": 4, "observation": (-1, 0), "encoders": encoders, "action": action}
    policy = ContinuousAutoregressorConfig(steps=8)
    return p.direct("Octo", policy, controller=Chunked(execute=4), **fields)


@system(
    "Mobile ALOHA",
    ("ar.continuous-chunk", "oe.body-sensors"),
    missing=("pl.wholebody-control",),
    simplified="A fixed arm: no base whose speed is appended to the joints, no second data set to train with.",
)
def mobile_aloha() -> DesignConfig:
    """Regress long chunks from pictures and joints, call at every tick, and average the chunks that overlap."""
    policy = RegressorConfig(loss="smooth_l1")
    fields = {"encoders": SEEN, "action": ChunkConfig(ticks_per_token=1), "stride": 1}
    return p.direct("Mobile ALOHA", policy, controller=Overlap(execute=1, decay=0.01), **fields)


@system(
    "AC-DiT",
    ("ar.iterative-head", "oe.geometry"),
    missing=("pl.wholebody-control",),
    simplified="A fixed arm: no motion of a base is predicted first and given to the whole body.",
)
def ac_dit() -> DesignConfig:
    """Denoise the motion of base and arm given pictures and points, weighing the two by the stage of the task."""
    encoders = {**SEEN, "instruction": InstructionConfig(), "points": DepthConfig(grid=2, frame="camera")}
    return p.direct("AC-DiT", p.denoiser(steps=5, temperature=1.0), encoders=encoders)


@system(
    "HoMeR",
    ("ar.iterative-head", "oe.body-sensors"),
    missing=("ar.goal-policy", "pl.wholebody-control"),
    simplified="A chunk of hand motions; no key pose is chosen, and no controller moves a base to reach it.",
)
def homer() -> DesignConfig:
    """Imitate motions of the hand, far ones as key poses and near ones densely, and let a controller move the body."""
    encoders = {"points": DepthConfig(grid=2, frame="world"), "state": StateConfig()}
    return p.direct("HoMeR", p.denoiser(prediction="noise", temperature=1.0), encoders=encoders)


@system(
    "UMI on Legs",
    ("ar.iterative-head", "oe.rgb-history"),
    data="poses",
    missing=("ar.goal-policy", "pl.wholebody-control", "da.human-retarget"),
    simplified="The hand's path alone: no controller of legs follows it.",
)
def umi_on_legs() -> DesignConfig:
    """Denoise a path of the hand in the frame of the task, learned from a hand-held gripper, for a legged body."""
    policy = p.denoiser(prediction="noise", temperature=1.0)
    return p.direct("UMI on Legs", policy, observation=(-2, 0), encoders=SEEN)
