"""Systems that render the future and act in one process: token streams, joint denoisers and mixtures of experts."""

from __future__ import annotations

from wamkit.actions import BinsConfig
from wamkit.controllers import SingleStep
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.estimators import (
    AutoregressorConfig,
    ContinuousAutoregressorConfig,
    UnmaskerConfig,
)
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

BINS = BinsConfig(bins=16, ticks_per_token=4)
NEAR_AND_FAR = (8, 16)
VIDEO_AND_CONTROL = {"video": ("future",), "control": ("action",)}


@system(
    "GR-1",
    ("bb.autoregressive", "cp.interleave", "dp.single-step"),
    simplified="Latents of single frames, and no video pretraining; the history is read anew at every call.",
    choices="Continuous elements with a small flow per element, where the survey's text speaks of image tokens.",
)
def gr1() -> DesignConfig:
    """Write picture and action as continuous elements of one causal stream and execute one action per call."""
    stream = ContinuousAutoregressorConfig(steps=2, segments=2)
    places = {"future": (p.LATENT, NEAR_AND_FAR)}
    return p.joint("GR-1", stream, places, controller=SingleStep(), observation=(-8, -4, 0))


@system(
    "GR-2",
    ("bb.autoregressive", "cp.interleave"),
    missing=("da.stage-mixture",),
    simplified="Codebook of patches, binned actions, one recording in place of web video.",
    choices="Two pieces per stream, so that each half of the chunk follows the picture that it leads to.",
)
def gr2() -> DesignConfig:
    """Write codebook pictures and binned actions in turns, piece by piece, and execute a chunk per call."""
    places = {"future": (p.PICTURE_TOKENS, NEAR_AND_FAR)}
    return p.joint("GR-2", AutoregressorConfig(segments=2), places, action=BINS)


@system(
    "WorldVLA",
    ("cp.leakage-mask", "cp.interleave", "bb.autoregressive"),
    simplified="A small random transformer in place of Chameleon.",
    choices="The survey's direction of the mask: actions come first and read neither pictures nor later actions.",
)
def world_vla() -> DesignConfig:
    """Write binned actions before the picture tokens that they lead to, so that no action reads an imagined pixel."""
    places = {"future": (p.PICTURE_TOKENS, NEAR_AND_FAR)}
    order = ("action", "future")
    return p.joint("WorldVLA", AutoregressorConfig(), places, order, action=BINS, controller=SingleStep())


@system(
    "CoT-VLA",
    ("ps.keyframes", "cp.leakage-mask"),
    simplified="A random language model of two layers; its picture vocabulary is a codebook of patches.",
    choices="Binned actions, all read off in one pass in which they read each other.",
    departs={
        "substrate": "The subgoal is a picture in codebook tokens, pixel latents by the survey's own rule; its table "
        "files it as a feature because a VLM writes it."
    },
)
def cot_vla() -> DesignConfig:
    """Let a VLM write the next key frame token by token, then the whole chunk in one pass of full attention."""
    return p.base(
        "CoT-VLA",
        substrates={"picture": p.PICTURE_TOKENS},
        futures={"subgoal": FutureConfig("picture", milestones=1)},
        action=BINS,
        trunks={"main": p.language_model(expert=(), language=("subgoal", "action"))},
        estimators={"thought": AutoregressorConfig(), "policy": UnmaskerConfig(steps=1, temperature=0.0)},
        factors=(Factor(("subgoal",), (), "thought"), Factor(("action",), ("subgoal",), "policy")),
    )


@system(
    "UD-VLA",
    ("cp.leakage-mask", "ss.step-sampler", "ss.early-exit"),
    simplified="Codebook of patches and binned actions on a small transformer.",
    choices="One mask rate for pictures and actions, which makes their unmasking one synchronous process.",
)
def ud_vla() -> DesignConfig:
    """Unmask picture and action tokens in the same steps, while the action reads no token of the future."""
    masked = UnmaskerConfig(steps=4, rates="shared", reads={"action": ("action",)})
    return p.joint("UD-VLA", masked, {"future": p.PICTURE_TOKENS}, action=BINS)


@system(
    "VideoVLA",
    ("cp.joint", "ps.pixel-latent"),
    simplified="Latents of single frames and a small transformer in place of a pretrained video diffusion model.",
)
def video_vla() -> DesignConfig:
    """Denoise a clip of frame latents and the action chunk in the same steps at one noise level."""
    clip = {"future": (p.LATENT, (4, 8, 12, 16))}
    return p.joint("VideoVLA", p.denoiser(levels="shared", steps=6), clip)


@system(
    "CoVAR",
    ("cp.cross-stream", "cp.joint"),
    simplified="Small experts in place of a pretrained video branch.",
    choices="Gates that start closed, as in other bridges; the video reads the action through shared attention.",
)
def covar() -> DesignConfig:
    """Run a small action branch beside the video branch; it reads the video through a gated bridge in every layer."""
    trunk = p.mixture(VIDEO_AND_CONTROL, bridges={"control": ("video",)}, expansions={"control": 2.0})
    return p.joint("CoVAR", p.denoiser(levels="shared"), {"future": p.LATENT}, trunks={"main": trunk})


@system(
    "PAD",
    ("ss.future-skip", "cp.joint"),
    simplified="Latents of single frames and a small transformer.",
)
def pad() -> DesignConfig:
    """Denoise picture and action at one level, with the picture left out at times, so that it can be dropped."""
    shared = p.denoiser(levels="shared", absent={"future": 0.4})
    return p.joint("PAD", shared, {"future": p.LATENT}, controller=SingleStep())
