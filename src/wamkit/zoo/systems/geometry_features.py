"""World action models without video: futures in the features of teachers and language models."""

from __future__ import annotations

from dataclasses import replace

from wamkit.actions import BinsConfig
from wamkit.controllers import OnlineAdapt, VerifierReplan
from wamkit.design.config import DesignConfig, GuideConfig
from wamkit.design.graph import Factor
from wamkit.estimators import ProposerConfig, RegressorConfig, UnmaskerConfig
from wamkit.planners import CEMConfig, GoalDistanceConfig, GoalImageObjectiveConfig
from wamkit.substrates import (
    HeatmapConfig,
    LatentTransitionConfig,
    SelfTrainedConfig,
    TeacherFeatureConfig,
    VlmTokenConfig,
)
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

TEACHER = replace(p.TEACHER, steps=30, batch_size=16)
TEACHERS = TeacherFeatureConfig(
    features=16,
    grid=2,
    teachers={
        "near": SelfTrainedConfig(steps=30, batch_size=16, gap=2),
        "far": SelfTrainedConfig(steps=30, batch_size=16, gap=8),
    },
)


@system(
    "FLARE",
    ("ps.teacher-feature", "pt.teacher-align", "ar.iterative-head"),
    simplified="The aligned tokens have a small network of their own; in the paper they pass through the policy's.",
    choices="The teacher is trained on the recordings and then frozen.",
)
def flare() -> DesignConfig:
    """Align a few tokens with a frozen teacher's view of the future, and let the action's flow read these tokens."""
    world = RegressorConfig(loss="cosine")
    return p.cascade("FLARE", world, p.denoiser(steps=4), {"future": TEACHER}, read="prediction")


@system(
    "FRAPPE",
    ("ps.teacher-feature", "pt.teacher-align"),
    simplified="Two small teachers that differ in the time they look across, in place of several foundation models.",
    choices="All teachers' tokens are read by one action head; the paper's router is its attention.",
)
def frappe() -> DesignConfig:
    """Align one policy with the futures that several different teachers see, side by side, and act on all of them."""
    world = RegressorConfig(loss="cosine")
    return p.cascade(
        "FRAPPE", world, p.denoiser(steps=4), {"future": TEACHERS}, shared=True, read="prediction"
    )


@system(
    "LDA-1B",
    ("ps.teacher-feature", "bb.vlm-expert"),
    simplified="One data set: poor and action-free recordings are not sorted to the heads that can learn from them.",
    choices="The forward model has a stream of its own, `outcome`, beside the forecast that the action is given.",
)
def lda_1b() -> DesignConfig:
    """Train forecaster, policy and forward model on one language model, all in the features of one teacher."""
    parts = {
        **p.futures({"future": TEACHER, "outcome": TEACHER}),
        "trunks": {"main": p.language_model(expert=("action", "outcome"), language=("future",))},
        "estimators": {
            "forecast": RegressorConfig(),
            "policy": p.denoiser(steps=4),
            "forward": RegressorConfig(),
        },
        "factors": (
            Factor(("future",), (), "forecast"),
            Factor(("action",), ("future",), "policy", read="prediction"),
            Factor(("outcome",), ("action",), "forward"),
        ),
    }
    return p.base("LDA-1B", **parts)


@system(
    "DexWM",
    ("ps.teacher-feature", "cp.rollout", "pl.sampling-mpc"),
    simplified="The commands of the benchmark's hand in place of the motion of finger keypoints.",
    choices="The map of the hand stands for the hand-consistency loss; memory is the bounded window of three steps.",
    departs={
        "coupling": "Table 2 says post-prediction head; Section 5.3 describes futures predicted from actions."
    },
)
def dexwm() -> DesignConfig:
    """Predict features and the hand's place from actions and a bounded past, and search for what reaches a goal."""
    parts = {
        **p.futures({"future": TEACHER, "hand": HeatmapConfig(grid=8)}),
        "observation": (-8, -4, 0),
        "estimators": {"policy": ProposerConfig(max_std=0.5), "world": RegressorConfig()},
        "factors": (
            Factor(("action",), (), "policy"),
            Factor(("future", "hand"), ("action",), "world"),
        ),
        "planner": CEMConfig(objective=GoalImageObjectiveConfig(), candidates=6, iterations=1, elites=2),
    }
    return p.base("DexWM", **parts)


@system(
    "DDP",
    ("ps.teacher-feature", "cp.joint", "dp.verifier-replan"),
    simplified="A large gap between real and imagined features leads to a new call, not to acting from imagination.",
    choices="The world model is the future half of one denoiser; the gap is compared after two and four ticks.",
)
def ddp() -> DesignConfig:
    """Train a diffusion policy together with the future's features, and distrust it when they turn out differently."""
    world = p.denoiser(prediction="noise", steps=4)
    controller = VerifierReplan(execute=p.EXECUTE, stream="future", threshold=1.0)
    return p.joint("DDP", world, {"future": (TEACHER, (2, 4, 8))}, controller=controller)


@system(
    "DUST",
    ("ps.vlm-token", "cp.joint", "bb.mot"),
    simplified="The tokens of the next observation are ids of places, so both streams are unmasked and not denoised.",
    choices="Both streams keep a rate of their own, and their experts attend to each other in every layer.",
)
def dust() -> DesignConfig:
    """Denoise the language model's tokens of the next observation and the action in two streams with own weights."""
    trunk = p.mixture({"observation": ("target",), "control": ("action",)})
    world = UnmaskerConfig(steps=4, temperature=0.0, shuffle=0.0, absent={"target": 0.2})
    target = {"target": VlmTokenConfig(bins=32, bodies=("gripper", "object"))}
    action = BinsConfig(bins=64, ticks_per_token=4)
    return p.joint("DUST", world, target, action=action, trunks={"main": trunk})


@system(
    "ALAM",
    ("ps.vlm-token", "bb.vlm-expert", "cp.joint"),
    simplified="A random model of two layers; transitions of coarse colours, fitted on the same recordings.",
    choices="The action reads the codes, and the codes do not read the action.",
)
def alam() -> DesignConfig:
    """Learn codes of change from video alone that sum up and reverse, and generate them with the action in one flow."""
    trunk = p.language_model(expert=("action", "code"))
    world = p.denoiser(levels="shared", steps=4, reads={"code": ("code",)})
    code = {"code": (LatentTransitionConfig(features=8, steps=150), (4, 8))}
    return p.joint("ALAM", world, code, trunks={"main": trunk})


@system(
    "Feedback-WM",
    ("ps.teacher-feature", "cp.rollout", "ss.guided-inference", "dp.online-adapt"),
    simplified="The feedback state is the motion that was commanded and did not happen, not an error in features.",
    choices="The chunk is steered towards the predicted end of the task; the world model is one small regressor.",
)
def feedback_wm() -> DesignConfig:
    """Steer the denoising of a chunk by a light model of its outcome, and correct that model by what was observed."""
    parts = {
        **p.futures({"future": TEACHER}),
        "goals": {"goal": "future"},
        "estimators": {
            "goal": RegressorConfig(),
            "policy": p.denoiser(prediction="noise", steps=4),
            "world": RegressorConfig(),
        },
        "factors": (
            Factor(("goal",), (), "goal"),
            Factor(("action",), (), "policy"),
            Factor(("future",), ("action",), "world"),
        ),
        "guide": GuideConfig("action", GoalDistanceConfig(), weight=0.5),
        "controller": OnlineAdapt(execute=p.EXECUTE),
    }
    return p.base("Feedback-WM", **parts)
