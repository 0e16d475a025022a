"""Systems that recover the action from the motion in imagined frames or in predicted geometry, without a policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wamkit.actions import ChunkConfig
from wamkit.contract.types import Budget
from wamkit.controllers import OpenLoop
from wamkit.design.config import DesignConfig, FutureConfig, GuideConfig
from wamkit.design.graph import Factor
from wamkit.encoders import DepthConfig, ImagesConfig, InstructionConfig, StateConfig
from wamkit.estimators import InverseDynamicsConfig, MotionRecoveryConfig, RegressorConfig
from wamkit.geometry.following import FollowConfig
from wamkit.planners import GoalDistanceConfig
from wamkit.substrates import (
    DepthMapConfig,
    MovingFramesConfig,
    PatchPCAConfig,
    PixelsConfig,
    PoseStreamConfig,
    RGBDConfig,
)
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

STEPS = (4, 8, 12, 16)
HAND = ("hand_x_m", "hand_y_m", "hand_z_m")
SHARP = PixelsConfig(cameras=("scene",), shrink=1, patch=8)
CODEC = PatchPCAConfig(patch=16, features=24)
PLAIN = "Fewer and smaller frames; depth and segmentation of now are measured, not estimated."


def recovery(**fields: Any) -> MotionRecoveryConfig:
    """Recovery in the units of the recordings, whose actions move the hand by a centimetre at most."""
    return MotionRecoveryConfig(**{"unit_m": 0.01, "position": HAND, **fields})


def followed(name: str, frames: Any, how: MotionRecoveryConfig, **fields: Any) -> DesignConfig:
    """``p(s|c) p(a|s,c)`` with all the mass of the second on the recovered action."""
    return p.cascade(name, p.denoiser(levels="shared"), how, {"future": (frames, STEPS)}, **fields)


@system("AVDC", ("ar.motion-recovery", "ps.pixel-decoded"), simplified=PLAIN)
def avdc() -> DesignConfig:
    """Add up the dense flow from frame to frame of an imagined clip and move the hand as the object's pixels move."""
    return followed("AVDC", MovingFramesConfig(SHARP), recovery(), controller=OpenLoop())


@system(
    "Dreamitate",
    ("ar.motion-recovery", "ps.pixel-decoded"),
    simplified="One view with measured depth in place of a generated stereo pair; the gripper is the tool.",
)
def dreamitate() -> DesignConfig:
    """Track the pose of the tool in an imagined demonstration and replay it with the hand that holds the tool."""
    frames = MovingFramesConfig(SHARP, follow="since_now")
    return followed("Dreamitate", frames, recovery(body="gripper", hold="rigid"), controller=OpenLoop())


@system(
    "RIGVid",
    ("ar.motion-recovery", "ge.rollout-filter"),
    simplified=PLAIN,
    choices="Clips whose object does not move as one body are discarded by rule, where the paper asks a VLM.",
)
def rigvid() -> DesignConfig:
    """Imagine clips until the object moves as one body, and turn the hand with the object that it has grasped."""
    frames = MovingFramesConfig(SHARP, follow="since_now")
    again = Budget(attempts=2)
    start = followed("RIGVid", frames, recovery(hold="rigid"), controller=OpenLoop(), budget=again)
    world = replace(start.estimators["world"], temperature=1.0)  # type: ignore[call-arg]  # another attempt, another clip
    return replace(start, estimators={**start.estimators, "world": world})


@system(
    "TesserAct",
    ("ps.multiview-4d", "ar.motion-recovery"),
    simplified="One latent grid of colour, depth and normals, with a small codec.",
)
def tesseract() -> DesignConfig:
    """Denoise colour, depth and surface normals together and recover the motion of the object's points in space."""
    surfaces = RGBDConfig(("scene",), CODEC, normals=True)
    return followed("TesserAct", MovingFramesConfig(surfaces, lift="depth"), recovery())


@system(
    "4DGen",
    ("ps.multiview-4d", "ar.motion-recovery"),
    simplified="One view with depth; its points now are measured.",
)
def four_d_gen() -> DesignConfig:
    """Imagine colour and geometry of the whole task, then track the pose of the object in the predicted points."""
    geometry = RGBDConfig(("scene",), CODEC)
    frames = MovingFramesConfig(geometry, lift="depth", follow="since_now")
    return followed("4DGen", frames, recovery(hold="rigid"), controller=OpenLoop())


@system(
    "LVP",
    ("ar.motion-recovery", "ss.decoupled-times"),
    missing=("da.human-retarget",),
    simplified="Two moments of the clip, and the gripper where the paper tracks a human hand.",
)
def lvp() -> DesignConfig:
    """Denoise the clip by diffusion forcing, every part at a level of its own and blind to what comes later."""
    causal = p.denoiser(
        trunk="video", reads={"near": ("near",)}, clean={"near": 0.3}, absent={"far": 0.1}, steps=4
    )
    return p.base(
        "LVP",
        substrates={"frames": MovingFramesConfig(SHARP)},
        futures={"near": FutureConfig("frames", (4, 8)), "far": FutureConfig("frames", (12, 16))},
        trunks={"video": p.transformer()},
        estimators={"world": causal, "policy": recovery(body="gripper", hold="rigid")},
        factors=(
            Factor(("near", "far"), (), "world"),
            Factor(("action",), ("near", "far"), "policy"),
        ),
        controller=OpenLoop(),
    )


def lifted(name: str, motion: Any, follower: Any, **fields: Any) -> DesignConfig:
    """``p(s1|c) p(s2|s1,c) p(a|s2,c)``: frames, the motion that is read off them, the action that follows it."""
    policy = follower.trunk is not None
    trunks = {
        "video": p.transformer(),
        "lift": p.transformer(),
        **({"policy": p.transformer()} if policy else {}),
    }
    return p.base(
        name,
        **p.futures({"frames": (p.FRAMES, STEPS), "motion": (motion, STEPS)}),
        trunks=trunks,
        estimators={
            "world": p.denoiser(trunk="video"),
            "lift": RegressorConfig(trunk="lift"),
            "policy": follower,
        },
        factors=(
            Factor(("frames",), (), "world"),
            Factor(("motion",), ("frames",), "lift"),
            Factor(("action",), ("motion",), "policy"),
        ),
        controller=OpenLoop(),
        **fields,
    )


@system(
    "NovaFlow",
    ("ar.motion-recovery", "pl.constraint-trajopt"),
    simplified="The flow is learned from exact flow, not assembled from depth, tracking and segmentation models.",
    choices="Limits and a workspace; no collisions between arm and scene.",
)
def novaflow() -> DesignConfig:
    """Lift an imagined clip to the flow of the object's surface and carry the object along with a rigid grasp."""
    return lifted("NovaFlow", p.POINT_FLOW, recovery(hold="rigid", follow=FollowConfig(workspace=p.TABLE)))


@system(
    "Dream2Flow",
    ("ar.motion-recovery", "pl.constraint-trajopt"),
    simplified="The tracks are learned from exact tracks; one hand path in place of several kinds of policy.",
    choices="A box that the hand keeps out of stands for the scene, and the path is smooth.",
)
def dream2flow() -> DesignConfig:
    """Lift an imagined clip to tracks of a few points of the object and let the hand follow their centre."""
    return lifted(
        "Dream2Flow",
        p.POINT_TRACKS,
        recovery(tolerance_m=0.02, follow=FollowConfig(smooth=0.1, keep_out=(p.POST,))),
    )


@system(
    "TC-IDM",
    ("ar.inverse-dynamics", "oe.geometry"),
    simplified="The gripper is the tool, and its motion is a pose per step in place of a point cloud.",
    choices="A linear base action with a learned correction.",
)
def tc_idm() -> DesignConfig:
    """Turn an imagined clip into the motion of the tool alone, and that into the robot's by an inverse model."""
    encoders = {
        "images": ImagesConfig(),
        "depth": DepthConfig(),
        "state": StateConfig(),
        "instruction": InstructionConfig(),
    }
    inverse = InverseDynamicsConfig(trunk="policy", residual=True)
    return lifted("TC-IDM", PoseStreamConfig(bodies=("gripper",)), inverse, encoders=encoders)


@system(
    "MVISTA-4D",
    ("ss.guided-inference", "ar.inverse-dynamics"),
    simplified="Two recorded views; the residual model is learned with the video.",
    choices="The trajectory latent is a second action stream, and a learned model draws what it leads to.",
)
def mvista() -> DesignConfig:
    """Denoise views with depth, steer a trajectory at test time until it explains them, and correct it."""
    depth = {f"depth_{camera}": DepthMapConfig(camera=camera, grid=4) for camera in ("scene", "gripper")}
    places = p.futures({"views": p.FRAMES, "explained": p.FRAMES, **depth})
    return p.base(
        "MVISTA-4D",
        **places,
        actions={"plan": ChunkConfig(ticks_per_token=8)},
        trunks={name: p.transformer() for name in ("video", "plan", "model", "policy")},
        estimators={
            "world": p.denoiser(trunk="video", levels="shared"),
            "plan": p.denoiser(trunk="plan"),
            "model": p.denoiser(trunk="model", steps=1),
            "policy": InverseDynamicsConfig(trunk="policy", residual=True),
        },
        factors=(
            Factor(("views", *depth), (), "world"),
            Factor(("plan",), (), "plan"),
            Factor(("explained",), ("plan",), "model"),
            Factor(("action",), ("views", "plan"), "policy"),
        ),
        guide=GuideConfig("plan", GoalDistanceConfig("explained", "views"), weight=100.0),
        controller=OpenLoop(),
    )
