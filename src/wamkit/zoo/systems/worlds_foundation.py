"""World foundation models: futures of given actions, ``p(s|a,c)``, and what is predicted beside the pictures."""

from __future__ import annotations

from wamkit.actions import BinsConfig
from wamkit.controllers import SingleStep
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import DepthConfig, ImagesConfig, InstructionConfig, StateConfig
from wamkit.estimators import (
    AutoregressorConfig,
    LatentActionConfig,
    RegressorConfig,
    UnmaskerConfig,
)
from wamkit.substrates import (
    DepthMapConfig,
    PixelLatentConfig,
    PoseStreamConfig,
    ProgressConfig,
    QuantizedConfig,
    RewardConfig,
    SegmentationConfig,
    ValueConfig,
)
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p
from wamkit.zoo.systems.worlds_video import layers

STEPS = (8, 16)
SMALL = "A small network on latents of single frames."
STORED = "Its rollouts are predicted; nothing stores them as episodes."


@system(
    "World Foundation Model (WFM)",
    ("cp.rollout", "ev.wm-evaluator"),
    simplified=f"{SMALL} {STORED}",
    choices="The idea leaves the family open; here a denoiser of latents.",
)
def wfm() -> DesignConfig:
    """Take observation and action and predict what happens next; it chooses nothing itself."""
    return p.world("World Foundation Model", p.denoiser(), {"future": (p.LATENT, STEPS)})


@system(
    "Cosmos",
    ("ps.pixel-latent", "bb.denoising", "bb.autoregressive", "cp.rollout"),
    simplified=f"{SMALL} {STORED} Tokenizers are a PCA and a codebook of patches.",
)
def cosmos() -> DesignConfig:
    """Offer two world models over one action: a denoiser of continuous latents, and a writer of discrete tokens."""
    estimators = {"diffusion": p.denoiser(), "writer": AutoregressorConfig()}
    factors = (
        Factor(("future",), ("action",), "diffusion"),
        Factor(("tokens",), ("action",), "writer"),
    )
    places = {"future": (p.LATENT, STEPS), "tokens": (p.PICTURE_TOKENS, STEPS)}
    return p.chain("Cosmos", estimators, factors, places, given=("action",))


@system(
    "Cosmos-Transfer1",
    ("bb.denoising", "st.spatial-control"),
    simplified=f"{SMALL} One gate per layer in place of a weight map per control.",
    choices="The depth of now is in the context; later maps that the caller does not give are regressed.",
)
def cosmos_transfer() -> DesignConfig:
    """Paint a video over depth and label maps: a branch of the maps enters each layer through gates that start shut."""
    trunks = {
        "maps": p.transformer(),
        "video": p.mixture(
            {"video": ("future",), "controls": ("depth", "labels")}, bridges={"video": ("controls",)}
        ),
    }
    estimators = {"maps": RegressorConfig(trunk="maps"), "video": p.denoiser(trunk="video")}
    factors = (Factor(("depth", "labels"), (), "maps"), Factor(("future",), ("depth", "labels"), "video"))
    places = {
        "depth": (DepthMapConfig(grid=4), STEPS),
        "labels": (SegmentationConfig(grid=4), STEPS),
        "future": (p.LATENT, STEPS),
    }
    encoders = {"images": ImagesConfig(), "depth": DepthConfig(grid=2), "instruction": InstructionConfig()}
    return p.chain("Cosmos-Transfer1", estimators, factors, places, trunks=trunks, encoders=encoders)


@system(
    "1X World Model (1XWM)",
    ("ps.pixel-latent", "bb.denoising", "cp.rollout"),
    simplified=f"{SMALL} {STORED}",
    choices="Only a blog describes it; that it also predicts how well things go is its evaluation of policies.",
)
def one_x() -> DesignConfig:
    """Predict what a robot's actions lead to and judge the predicted frames by a value of the state."""
    estimators = {"world": p.denoiser(), "judge": RegressorConfig()}
    factors = (
        Factor(("future",), ("action",), "world"),
        Factor(("value",), ("future",), "judge"),
    )
    places = {"future": (p.LATENT, STEPS), "value": (ValueConfig(), STEPS)}
    return p.chain("1X World Model", estimators, factors, places, given=("action",))


@system(
    "Humanoid World Models",
    ("ps.pixel-latent", "bb.denoising", "cp.rollout"),
    simplified=SMALL,
    choices="Of the paper's two families the flow; of its ways of sharing weights, none between video and control.",
)
def humanoid() -> DesignConfig:
    """Give video and control layers of their own and let them read each other, in a flow over the robot's view."""
    trunk = p.mixture({"video": ("future",), "control": ("action",)})
    encoders = {"images": ImagesConfig(), "state": StateConfig()}
    return p.world(
        "Humanoid World Models",
        p.denoiser(),
        {"future": (p.LATENT, STEPS)},
        trunks={"main": trunk},
        encoders=encoders,
    )


@system(
    "AdaWorld",
    ("bb.denoising", "ar.latent-action", "da.latent-action-label"),
    simplified=f"{SMALL} The code's own regressor of frames is trained beside the denoiser, not before it.",
)
def adaworld() -> DesignConfig:
    """Infer actions from videos that have none: a code read off two frames conditions the denoiser of the next."""
    estimators = {"codes": LatentActionConfig(bottleneck=1e-2), "world": p.denoiser()}
    factors = (
        Factor(("code",), (), "codes"),
        Factor(("seen",), ("code",), "codes"),
        Factor(("future",), ("code",), "world"),
    )
    places = {"seen": p.LATENT, "future": p.LATENT}
    return p.chain(
        "AdaWorld", estimators, factors, places, states={"code": 8}, encoders={"images": ImagesConfig()}
    )


@system(
    "FlowDreamer",
    ("ps.motion-geometry", "bb.denoising", "cp.rollout"),
    simplified=f"{SMALL} Flow of the object's points from ground truth, not of every pixel from depth.",
)
def flowdreamer() -> DesignConfig:
    """Predict how points move under the action first, then generate the frames that the flow leads to."""
    estimators = {"flow": RegressorConfig(), "world": p.denoiser()}
    factors = (
        Factor(("flow",), ("action",), "flow"),
        Factor(("future",), ("flow", "action"), "world"),
    )
    places = {"flow": (p.POINT_FLOW, STEPS), "future": (p.LATENT, STEPS)}
    return p.chain("FlowDreamer", estimators, factors, places, given=("action",))


@system(
    "RoboScape",
    ("ps.pixel-latent", "ps.motion-geometry", "cp.rollout"),
    missing=("ev.plausibility",),
    simplified=f"{SMALL} Depth and tracks are ground truth. It judges no clip's physics.",
    choices="The survey gives no detail of the branches; depth and points of the object are the paper's.",
)
def roboscape() -> DesignConfig:
    """Generate pictures, depth and the tracks of points as one process, so that pictures have to obey geometry."""
    places = {
        "future": (p.LATENT, STEPS),
        "depth": (DepthMapConfig(camera="gripper", grid=8), STEPS),
        "points": (p.POINT_TRACKS, STEPS),
    }
    return p.world("RoboScape", p.denoiser(levels="shared"), places)


@system(
    "IRASim",
    ("bb.denoising", "cp.rollout"),
    simplified=f"{SMALL} {STORED}",
)
def irasim() -> DesignConfig:
    """Let every frame read the actions that lead to it, and only those, in layers within the frame."""
    trunk = layers("space", "time", "space", "time", aligned=True)
    places = {"future": (p.LATENT, (4, 8, 12, 16))}
    return p.world("IRASim", p.denoiser(prediction="noise"), places, trunks={"main": trunk})


@system(
    "RoboDreamer",
    ("ps.pixel-decoded", "bb.denoising"),
    simplified="Phrases are tokens of one denoiser, not the scores of several denoisers added up.",
    choices="Phrases are cut at prepositions, where the paper uses a parser.",
)
def robodreamer() -> DesignConfig:
    """Take an instruction apart into phrases and imagine the video of their set, so that known phrases recombine."""
    encoders = {"images": ImagesConfig(), "instruction": InstructionConfig(phrases=4)}
    return p.world("RoboDreamer", p.denoiser(), {"future": (p.FRAMES, STEPS)}, given=(), encoders=encoders)


@system(
    "PhysWorld",
    ("bb.denoising", "ps.motion-geometry", "cp.rollout"),
    missing=("ev.plausibility",),
    simplified=f"{SMALL} The physical scene is predicted from depth, not simulated; no skill is learned in it.",
)
def physworld() -> DesignConfig:
    """Generate a video of the task, lift it to depth, and predict in that scene how bodies move under actions."""
    estimators = {"video": p.denoiser(), "lift": RegressorConfig(), "physics": RegressorConfig()}
    factors = (
        Factor(("future",), (), "video"),
        Factor(("depth",), ("future",), "lift"),
        Factor(("poses",), ("depth", "action"), "physics"),
    )
    places = {
        "future": (p.LATENT, STEPS),
        "depth": (DepthMapConfig(camera="gripper", grid=8), STEPS),
        "poses": (PoseStreamConfig(), STEPS),
    }
    return p.chain("PhysWorld", estimators, factors, places, given=("action",))


@system(
    "DWorldEval",
    ("bb.denoising", "cp.rollout", "ev.wm-evaluator"),
    simplified="A codebook of patches; scores of two steps.",
)
def dworldeval() -> DesignConfig:
    """Unmask picture tokens and a token of progress together, so that an imagined rollout is scored as it appears."""
    places = {
        "future": (p.PICTURE_TOKENS, STEPS),
        "progress": (QuantizedConfig(ProgressConfig(), 16), STEPS),
    }
    return p.world("DWorldEval", UnmaskerConfig(steps=4, rates="shared", temperature=0.0), places)


@system(
    "GE-Base",
    ("ps.pixel-latent", "bb.denoising", "ps.multiview-4d", "oe.rgb-history"),
    simplified=SMALL,
)
def ge_base() -> DesignConfig:
    """Denoise all views of the robot side by side, a stream each, from text and a sparse memory of frames."""
    places = {
        view: (PixelLatentConfig(p.LATENT.codec, cameras=(view,)), STEPS) for view in ("scene", "gripper")
    }
    encoders = {"images": ImagesConfig(), "instruction": InstructionConfig()}
    world = p.denoiser(levels="shared")
    return p.world("GE-Base", world, places, given=(), encoders=encoders, observation=(-16, -8, -4, 0))


@system(
    "InteractiveWorldSimulator",
    ("cp.rollout", "mm.kv-reground", "dp.interactive", "ev.wm-evaluator"),
    simplified=f"{SMALL} {STORED}",
)
def interactive_world() -> DesignConfig:
    """Stream: one block per call over a bounded cache of real blocks, under whatever input comes for that block."""
    return p.world(
        "InteractiveWorldSimulator",
        p.denoiser(history=3, steps=2),
        {"future": p.LATENT},
        trunks={"main": p.transformer(time_range=4)},
        horizon=8,
    )


@system(
    "DreamDojo",
    ("bb.ar-diffusion", "ar.latent-action", "cp.rollout", "dp.interactive", "da.latent-action-label"),
    missing=("da.stage-mixture",),
    simplified=f"{SMALL} Codes and robot actions are learned from together, not in two stages.",
    choices="The world model reads the code and the robot's action side by side.",
)
def dreamdojo() -> DesignConfig:
    """Learn from videos without actions by codes between frames, and stream blocks under codes and robot actions."""
    estimators = {
        "codes": LatentActionConfig(trunk="codes", bottleneck=1e-2),
        "world": p.denoiser(trunk="world", history=2),
    }
    factors = (
        Factor(("code",), (), "codes"),
        Factor(("seen",), ("code",), "codes"),
        Factor(("future",), ("code", "action"), "world"),
    )
    return p.chain(
        "DreamDojo",
        estimators,
        factors,
        {"seen": p.LATENT, "future": p.LATENT},
        trunks={"codes": p.transformer(), "world": p.transformer(time_range=4)},
        states={"code": 8},
        given=("action",),
        horizon=8,
    )


@system(
    "iVideoGPT",
    ("bb.autoregressive", "cp.interleave", "cp.rollout", "dp.single-step"),
    simplified="Tokens of single frames; no compression of later frames given the first.",
    choices="Actions are tokens of the sequence like others; a caller who acts forces them.",
)
def ivideogpt() -> DesignConfig:
    """Write action, picture and reward tokens of each step in one causal sequence; a caller gives the action's."""
    places = {
        "future": (p.PICTURE_TOKENS, STEPS),
        "reward": (QuantizedConfig(RewardConfig(), 2), STEPS),
    }
    return p.joint(
        "iVideoGPT",
        AutoregressorConfig(segments=2),
        places,
        order=("action", "future", "reward"),
        action=BinsConfig(bins=16, ticks_per_token=4),
        controller=SingleStep(),
    )
