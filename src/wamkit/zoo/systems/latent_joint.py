"""Latent-only systems that generate future and action in one process, or train both on one network."""

from __future__ import annotations

from wamkit.contract.types import Budget
from wamkit.controllers import AsyncOverlap, OnlineAdapt, ProgressGate, VerifierReplan
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import (
    BodySensorsConfig,
    ImagesConfig,
    InstructionConfig,
    StateConfig,
    TactileImageConfig,
)
from wamkit.estimators import FastWeightsConfig
from wamkit.substrates import (
    HeatmapConfig,
    PatchPCAConfig,
    TactileFutureConfig,
    TouchDivergenceConfig,
    WrenchConfig,
)
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p


@system(
    "UVA",
    ("bb.shared-trunk", "ss.future-skip"),
    simplified="Two small denoisers on one trunk in place of a masked transformer with two diffusion heads.",
)
def uva() -> DesignConfig:
    """Put a light head for video and one for the action on one latent; acting runs the action's head alone."""
    return p.base(
        "UVA",
        **p.futures({"future": p.LATENT}),
        estimators={"video": p.denoiser(), "policy": p.denoiser()},
        factors=(Factor(("future",), (), "video"), Factor(("action",), (), "policy")),
    )


@system(
    "AdaWorldPolicy",
    ("bb.mot", "ps.sensor-latent", "dp.online-adapt"),
    simplified="Adapts a residual of the motion to the measured one, not weights to a force mismatch.",
    choices="Forces of fingers and palm on a logarithmic scale, in an expert of their own.",
)
def adaworldpolicy() -> DesignConfig:
    """Denoise video, action and force together, each in an expert, and adapt online to what was not predicted."""
    encoders = {
        "images": ImagesConfig(),
        "state": StateConfig(),
        "instruction": InstructionConfig(),
        "force": BodySensorsConfig(("contact_force",)),
    }
    return p.joint(
        "AdaWorldPolicy",
        p.denoiser(),
        {"future": p.LATENT, "force": WrenchConfig()},
        trunks={"main": p.mixture({**p.TWO, "force": ("force",)})},
        encoders=encoders,
        controller=OnlineAdapt(execute=p.EXECUTE),
    )


@system(
    "GigaWorld-Policy",
    ("cp.action-centric-mask", "ss.future-skip"),
    simplified="One small network with one noise level in place of a pretrained video model.",
)
def gigaworld_policy() -> DesignConfig:
    """Hide the future video from the action and show the action to the video, which acting leaves out."""
    world = p.denoiser(levels="shared", reads={"action": ("action",)})
    return p.joint("GigaWorld-Policy", world, {"future": p.LATENT})


@system(
    "VTAM",
    ("ps.sensor-latent", "bb.shared-trunk"),
    data="senses",
    simplified="Small PCA codecs; the recordings are noise with touch.",
    choices="The touch picture is one more view: it has a codec of its own and its own noise level.",
)
def vtam() -> DesignConfig:
    """Denoise touch pictures as views beside the cameras', with the action and a force proxy from how touch spreads."""
    return p.joint(
        "VTAM",
        p.denoiser(),
        {
            "future": p.LATENT,
            "touch": TactileFutureConfig(codec=PatchPCAConfig(patch=8, features=8)),
            "force": TouchDivergenceConfig(),
        },
        encoders={"images": ImagesConfig(), "state": StateConfig(), "touch": TactileImageConfig()},
    )


@system(
    "AIM",
    ("cp.action-centric-mask", "ps.task-map"),
    simplified="A small denoiser with one noise level; the value map marks the object and fades with time to success.",
)
def aim() -> DesignConfig:
    """Predict video, turn it into a map of value, and let the action read the future through that map alone."""
    reads = {"video": ("video",), "map": ("video", "map"), "action": ("map", "action")}
    places = {"video": p.LATENT, "map": HeatmapConfig(grid=8, sigma=1.0, where="object", discount=0.98)}
    return p.joint("AIM", p.denoiser(levels="shared", reads=reads), places)


@system(
    "CLWM",
    ("ps.teacher-feature", "mm.ttt-memory", "bb.mot"),
    simplified="One state of fast weights by the delta rule in place of two; a small teacher of its own.",
    choices="The memory stores the teacher's features of every block that was executed.",
)
def clwm() -> DesignConfig:
    """Match the flow of a teacher's features and keep the past in weights that are trained while acting."""
    return p.base(
        "CLWM",
        **p.futures({"future": p.QUICK_TEACHER}),
        states={"memory": 32},
        trunks={"main": p.mixture({**p.TWO, "memory": ("memory",)})},
        estimators={
            "memory": FastWeightsConfig(shape=(8, 16), width=16, past=2),
            "world": p.denoiser(),
        },
        factors=(Factor(("memory",), (), "memory"), Factor(("future", "action"), ("memory",), "world")),
    )


@system(
    "MotuBrain",
    ("bb.mot", "ss.future-skip", "dp.async-overlap"),
    simplified="Keeps no keys and values from call to call; small experts on PCA latents.",
    choices="Two evaluations for the video and four for the action; an answer takes four ticks.",
)
def motubrain() -> DesignConfig:
    """Spend evaluations per stream in a mixture of experts and predict the next chunk while this one runs."""
    world = p.denoiser(absent={"future": 0.4}, nfe={"future": 2})
    return p.joint(
        "MotuBrain",
        world,
        {"future": p.LATENT},
        trunks={"main": p.mixture(p.TWO)},
        controller=AsyncOverlap(execute=p.EXECUTE, latency=4),
    )


@system(
    "FFDC-WAM",
    ("bb.mot", "dp.verifier-replan"),
    simplified="Compares latents by their distance, not by a trained verifier; robot actions, not latent ones.",
    choices="Two predicted frames, one of them inside the chunk.",
)
def ffdc_wam() -> DesignConfig:
    """Keep the latents that were imagined with a chunk and replan early when what is seen drifts away from them."""
    return p.joint(
        "FFDC-WAM",
        p.denoiser(),
        {"future": (p.LATENT, (4, 8))},
        trunks={"main": p.mixture(p.TWO)},
        controller=VerifierReplan(execute=p.EXECUTE, stream="future"),
    )


@system(
    "DAWN",
    ("ps.teacher-feature", "cp.iterative-refine", "bb.mot"),
    simplified="A small teacher trained on the recordings in place of V-JEPA.",
    choices="Both sides are denoised, in two rounds; a clean share of training rows teaches each to read the other.",
)
def dawn() -> DesignConfig:
    """Refine world features and action in turns, each given the other's latest version."""
    world = p.denoiser(clean={"future": 0.2, "action": 0.2})
    places = {"future": p.QUICK_TEACHER}
    return p.joint("DAWN", world, places, trunks={"main": p.mixture(p.TWO)}, budget=Budget(rounds=2))


@system(
    "JOPAT",
    ("ps.pixel-latent", "ps.motion-geometry", "cp.joint"),
    simplified="Tracks come from the simulator, not from a tracker.",
)
def jopat() -> DesignConfig:
    """Denoise latents, tracks of points with their visibility and the action as one state with one noise level."""
    places = {"future": p.LATENT, "tracks": p.POINT_TRACKS}
    return p.joint("JOPAT", p.denoiser(levels="shared"), places)


@system(
    "WALL-WM",
    ("bb.mot", "cp.cross-stream", "dp.progress-gate"),
    simplified="A chunk ends when the predicted frame is reached; events are not named.",
    choices="Video does not read the action, so that each action layer reads the video layer of the same depth.",
)
def wall_wm() -> DesignConfig:
    """Let the action read the video layer by layer and end each chunk at the next event that the video shows."""
    return p.joint(
        "WALL-WM",
        p.denoiser(reads={"future": ("future",)}),
        {"future": (p.LATENT, (4, 8))},
        trunks={"main": p.mixture(p.TWO)},
        controller=ProgressGate(execute=p.EXECUTE, stream="future"),
    )
