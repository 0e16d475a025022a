"""Systems that turn what they imagine into motion in space and follow it."""

from __future__ import annotations

from wamkit.contract.types import Budget
from wamkit.controllers import GoalPointer, OpenLoop
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.encoders import DepthConfig
from wamkit.estimators import MotionRecoveryConfig, RegressorConfig
from wamkit.geometry.following import FollowConfig
from wamkit.substrates import MovingFramesConfig, PixelsConfig, PoseStreamConfig, ProprioceptionConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

METRE = 0.01  # metres that one unit of the benchmark's action moves the hand


@system(
    "Dex4D",
    ("ps.motion-geometry", "bb.shared-trunk", "dp.single-step", "dp.progress-gate", "ar.goal-policy"),
    simplified="The simulator tells where the tracked points are; the student is also shown the goals after this one.",
    choices="Eight points at four times, reached within 1 cm along each axis; one trunk for the plan and the student.",
)
def dex4d() -> DesignConfig:
    """Lift the plan to tracks of points; a student acts and predicts its joints, goal by goal, once per tick."""
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
        # Features 3 to 5 of a track are the displacement of its point, in units of 10 cm.
        controller=GoalPointer(stream="tracks", threshold=0.1, entries=(3, 4, 5)),
    )


@system(
    "NovaPlan",
    ("ge.rollout-filter", "ar.motion-recovery", "ps.motion-geometry"),
    missing=("pl.video-language-planning",),
    simplified="No step of the task is named: every chunk is one step, and a rule judges what is imagined for it.",
    choices="Frames and the flow that is grounded in them share a network.",
)
def nova_plan() -> DesignConfig:
    """Imagine the next step in frames, ground it in the flow of points, and move the hand as the object moves."""
    return p.base(
        "NovaPlan",
        **p.futures({"video": (p.FRAMES, (8,)), "flow": (p.POINT_FLOW, (4, 8))}),
        trunks={"main": p.transformer()},
        estimators={
            "world": p.denoiser(temperature=1.0),  # another attempt is another clip
            "ground": RegressorConfig(),
            "follow": MotionRecoveryConfig(unit_m=METRE),
        },
        factors=(
            Factor(("video",), (), "world"),
            Factor(("flow",), ("video",), "ground"),
            Factor(("action",), ("flow",), "follow"),
        ),
        budget=Budget(attempts=2),
    )


@system(
    "EmboAlign",
    ("pl.constraint-trajopt", "ge.rollout-filter", "ps.pixel-decoded"),
    simplified="Constraints are boxes and a rigid motion, where the paper composes them from words.",
    choices="Up to four clips; the hand stays over the table, out of a post, and within its limits of speed.",
)
def embo_align() -> DesignConfig:
    """Imagine rollouts until one keeps the constraints, and optimise a trajectory of the hand against that one."""
    frames = MovingFramesConfig(PixelsConfig(cameras=("scene",), shrink=1, patch=8), follow="since_now")
    hand = MotionRecoveryConfig(
        unit_m=METRE,
        position=("hand_x_m", "hand_y_m", "hand_z_m"),
        follow=FollowConfig(workspace=p.TABLE, keep_out=(p.POST,)),
    )
    places = {"future": (frames, (4, 8, 12, 16))}
    again = Budget(attempts=3)
    return p.cascade(
        "EmboAlign", p.denoiser(temperature=1.0), hand, places, controller=OpenLoop(), budget=again
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
