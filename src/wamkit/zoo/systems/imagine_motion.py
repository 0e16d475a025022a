"""Systems that turn what they imagine into motion in space and follow it."""

from __future__ import annotations

from wamkit.controllers import OpenLoop, SingleStep
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.encoders import DepthConfig
from wamkit.estimators import MotionRecoveryConfig, RegressorConfig
from wamkit.substrates import PoseStreamConfig, ProprioceptionConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

METRE = 0.01  # metres that one unit of the benchmark's action moves the hand


@system(
    "Dex4D",
    ("ps.motion-geometry", "bb.shared-trunk", "dp.single-step", "ar.goal-policy"),
    missing=("dp.progress-gate",),
    simplified="Tracks are generated anew at every tick: no tracker tells, while acting, which goal is reached.",
    choices="Eight points at four times; one trunk for the plan and the student.",
)
def dex4d() -> DesignConfig:
    """Lift the plan to tracks of points and let a student emit one action and the next joint state per tick."""
    places = p.futures({"tracks": (p.POINT_TRACKS, (4, 8, 12, 16)), "body": (ProprioceptionConfig(), (1,))})
    return p.base(
        "Dex4D",
        **places,
        estimators={"world": p.denoiser(), "student": RegressorConfig(), "joints": RegressorConfig()},
        factors=(
            Factor(("tracks",), (), "world"),
            Factor(("action",), ("tracks",), "student"),
            Factor(("body",), ("tracks", "action"), "joints"),
        ),
        controller=SingleStep(),
    )


@system(
    "NovaPlan",
    ("ar.motion-recovery", "ps.motion-geometry"),
    missing=("pl.video-language-planning", "ge.rollout-filter"),
    simplified="No step of the task is named and no clip is judged: every chunk is one step.",
    choices="Frames and the flow that is grounded in them share a network.",
)
def nova_plan() -> DesignConfig:
    """Imagine the next step in frames, ground it in the flow of points, and move the hand as the object moves."""
    return p.base(
        "NovaPlan",
        **p.futures({"video": (p.FRAMES, (8,)), "flow": (p.POINT_FLOW, (4, 8))}),
        trunks={"main": p.transformer()},
        estimators={
            "world": p.denoiser(),
            "ground": RegressorConfig(),
            "follow": MotionRecoveryConfig(unit_m=METRE),
        },
        factors=(
            Factor(("video",), (), "world"),
            Factor(("flow",), ("video",), "ground"),
            Factor(("action",), ("flow",), "follow"),
        ),
    )


@system(
    "AeroPlace-Flow",
    ("ps.keyframes", "ar.motion-recovery", "ps.motion-geometry"),
    simplified="A robot hand in place of an aerial manipulator.",
    choices="The completed placement is the next milestone of the task; the flow leads there in two steps.",
)
def aero_place_flow() -> DesignConfig:
    """Draw the picture of the completed placement, ground it in the flow of the object, and follow that to the end."""
    return p.base(
        "AeroPlace-Flow",
        substrates={"picture": p.FRAMES, "flow": p.POINT_FLOW},
        futures={
            "placed": FutureConfig("picture", milestones=1),
            "flow": FutureConfig("flow", (8, 16)),
        },
        encoders={**p.base("base").encoders, "points": DepthConfig(grid=4, frame="world")},
        trunks={"picture": p.transformer(), "flow": p.transformer()},
        estimators={
            "edit": p.denoiser(trunk="picture"),
            "ground": p.denoiser(trunk="flow"),
            "follow": MotionRecoveryConfig(unit_m=METRE),
        },
        factors=(
            Factor(("placed",), (), "edit"),
            Factor(("flow",), ("placed",), "ground"),
            Factor(("action",), ("flow",), "follow"),
        ),
        controller=OpenLoop(),
    )


@system(
    "GraspDreamer",
    ("ps.multiview-4d", "ps.motion-geometry", "ar.motion-recovery"),
    simplified="The hand of the recordings is the robot's own, so nothing is retargeted between hands.",
    choices="Frames of both views and the poses of hand and object are one diffusion; the robot follows the hand.",
    departs={
        "substrate": "the table adds Pixel (decoded), although the action reads the geometry alone; "
        "NovaFlow and Dream2Flow, whose flow is read off a video too, are Geometric there"
    },
)
def grasp_dreamer() -> DesignConfig:
    """Imagine a grasp, its frames and the geometry of hand and object, and move as that hand moves."""
    return p.base(
        "GraspDreamer",
        **p.futures({"video": (p.FRAMES, (8, 16)), "hand": (PoseStreamConfig(), (4, 8, 12, 16))}),
        trunks={"main": p.transformer()},
        estimators={
            "world": p.denoiser(levels="shared"),
            "follow": MotionRecoveryConfig(body="gripper", unit_m=METRE),
        },
        factors=(Factor(("video", "hand"), (), "world"), Factor(("action",), ("hand",), "follow")),
        controller=OpenLoop(),
    )


@system(
    "NavDreamer",
    ("ps.pixel-decoded", "ar.motion-recovery"),
    simplified="A hand that moves through the scene in place of a flying robot.",
    choices="The path is the poses of the moving body, read off the frames by a network; only a title is known.",
)
def nav_dreamer() -> DesignConfig:
    """Imagine what is seen along the way, read the path of the camera off those frames, and fly it."""
    return p.base(
        "NavDreamer",
        **p.futures(
            {
                "video": (p.FRAMES, (4, 8, 12, 16)),
                "path": (PoseStreamConfig(bodies=("gripper",)), (4, 8, 12, 16)),
            }
        ),
        trunks={"video": p.transformer(), "path": p.transformer()},
        estimators={
            "world": p.denoiser(trunk="video"),
            "read": RegressorConfig(trunk="path"),
            "follow": MotionRecoveryConfig(body="gripper", unit_m=METRE),
        },
        factors=(
            Factor(("video",), (), "world"),
            Factor(("path",), ("video",), "read"),
            Factor(("action",), ("path",), "follow"),
        ),
        controller=OpenLoop(),
    )
