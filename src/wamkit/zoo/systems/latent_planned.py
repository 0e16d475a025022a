"""Latent-only systems that choose, steer, recover or re-ground: planners, guides, rigid fits and pasts."""

from __future__ import annotations

from wamkit.controllers import Interactive, OpenChunked, PhaseTrigger
from wamkit.design import GuideConfig
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import DepthConfig, ImagesConfig, InstructionConfig
from wamkit.estimators import (
    FeatureTapConfig,
    MotionRecoveryConfig,
    ProposerConfig,
    RegressorConfig,
)
from wamkit.geometry.following import FollowConfig
from wamkit.planners import CandidateScoringConfig, GoalImageObjectiveConfig, HighValueConfig
from wamkit.substrates import ProprioceptionConfig, ValueConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

UNIT_M = 0.01  # metres that one unit of the benchmark's action moves the hand


@system(
    "CosmosPolicy",
    ("pl.candidate-scoring", "pt.value-head"),
    simplified="A small denoiser in place of Cosmos-Predict2.",
    choices="Four joint samples; the one whose own predicted value is highest is executed.",
)
def cosmos_policy() -> DesignConfig:
    """Denoise action, body, frames and value as one sequence, and execute the best of several samples by its value."""
    places = {"future": p.LATENT, "body": ProprioceptionConfig(), "value": ValueConfig()}
    best = CandidateScoringConfig(candidates=4, together=True, objective=HighValueConfig("value"))
    return p.joint("CosmosPolicy", p.denoiser(levels="shared", temperature=1.0), places, planner=best)


@system(
    "τ0-WM",
    ("ss.decoupled-times", "pl.candidate-scoring", "dp.phase-trigger"),
    simplified="The best candidate is executed as it is, not corrected.",
    choices="Candidates are scored by a predicted value; slow motion counts as worth the cost.",
)
def tau0_wm() -> DesignConfig:
    """Act without imagination, and only where it pays propose several actions, simulate each and take the best."""
    places = {"future": p.LATENT, "value": ValueConfig()}
    world = p.denoiser(
        temperature=1.0,
        absent={"future": 0.4, "value": 0.4},
        clean={"action": 0.2, "future": 0.1},
    )
    best = CandidateScoringConfig(candidates=4, objective=HighValueConfig("value"))
    trunk = p.mixture({"video": ("future", "value"), "control": ("action",)})
    return p.joint(
        "τ0-WM",
        world,
        places,
        trunks={"main": trunk},
        planner=best,
        controller=PhaseTrigger(execute=p.EXECUTE, candidates=1),
    )


@system(
    "EgoExo-WM",
    ("ps.teacher-feature", "cp.rollout", "pl.candidate-scoring"),
    missing=("da.human-retarget",),
    simplified="Candidates are the robot's own actions, not body motions retargeted from people.",
    choices="The caller's goal picture is compared in the teacher's features.",
)
def egoexo_wm() -> DesignConfig:
    """Roll candidate motions out in a teacher's features and take the one that ends nearest to a goal picture."""
    return p.base(
        "EgoExo-WM",
        **p.futures({"future": (p.QUICK_TEACHER, (8, 16))}),
        estimators={"policy": ProposerConfig(), "world": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"), Factor(("future",), ("action",), "world")),
        planner=CandidateScoringConfig(candidates=4, objective=GoalImageObjectiveConfig("future")),
        controller=OpenChunked(execute=p.HORIZON),
    )


@system(
    "WAV",
    ("ps.feature-tap", "ss.guided-inference", "pt.value-head"),
    simplified="Gradient steps of the denoising stand for a search over latent trajectories.",
    choices="The value is read off the whole generated clip by a head of its own.",
)
def wav() -> DesignConfig:
    """Steer the imagined clip towards a high value while it is denoised, and act on features of the steered clip."""
    tap = FeatureTapConfig(trunk="video", generator=p.denoiser(), layer=1, evaluation=3)
    return p.base(
        "WAV",
        **p.futures({"future": (p.LATENT, (4, 8)), "value": ValueConfig()}),
        taps={"tap": "future"},
        trunks={"video": p.transformer(), "critic": p.transformer(), "policy": p.transformer()},
        estimators={
            "video": tap,
            "critic": RegressorConfig(trunk="critic"),
            "policy": p.denoiser(trunk="policy"),
        },
        factors=(
            Factor(("future", "tap"), (), "video"),
            Factor(("value",), ("future",), "critic"),
            Factor(("action",), ("tap",), "policy"),
        ),
        guide=GuideConfig("future", HighValueConfig("value"), weight=0.5),
    )


@system(
    "3DFlowAction",
    ("oe.geometry", "ps.motion-geometry", "ar.motion-recovery", "pl.constraint-trajopt"),
    simplified="The path of the hand is optimised, not the joints of an arm.",
    choices="Four steps of flow; the object is held at its centre; the hand stays over the table.",
)
def flow_action() -> DesignConfig:
    """Diffuse 3D flow of the object, without the robot in it, and move any hand as a rigid fit of the flow says."""
    encoders = {"images": ImagesConfig(), "instruction": InstructionConfig(), "depth": DepthConfig(grid=2)}
    places = {"flow": (p.POINT_FLOW, (4, 8, 12, 16))}
    hand = MotionRecoveryConfig(
        unit_m=UNIT_M,
        position=("hand_x_m", "hand_y_m", "hand_z_m"),
        follow=FollowConfig(workspace=p.TABLE),
    )
    return p.cascade("3DFlowAction", p.denoiser(), hand, places, encoders=encoders)


@system(
    "TraceGen",
    ("ps.motion-geometry", "ar.motion-recovery"),
    missing=("da.human-retarget",),
    simplified="Traces come from the simulator; its own controller solves the joints for the recovered motion.",
    choices="Eight traced points at every other tick.",
)
def tracegen() -> DesignConfig:
    """Forecast sparse 3D traces at many steps and turn them into motion of the arm."""
    places = {"traces": (p.POINT_TRACKS, (2, 4, 6, 8, 10, 12, 14, 16))}
    return p.cascade("TraceGen", p.denoiser(), MotionRecoveryConfig(unit_m=UNIT_M), places)


@system(
    "LingBot-VA",
    ("bb.ar-diffusion", "mm.kv-reground", "ar.inverse-dynamics", "dp.interactive"),
    simplified="The next chunk is not predicted while this one runs.",
    choices="Two blocks of past; video and action have an expert each on one mixture.",
)
def lingbot_va() -> DesignConfig:
    """Predict video block by block on a cache of measured blocks, then read the actions of the block off it."""
    video = p.denoiser(history=2, remembers=("action",))
    return p.cascade(
        "LingBot-VA",
        video,
        p.denoiser(history=2),
        {"future": p.LATENT},
        shared=True,
        encoders={"instruction": InstructionConfig()},
        trunks={"main": p.mixture(p.TWO, time_range=4)},
        controller=Interactive(execute=p.EXECUTE),
    )
