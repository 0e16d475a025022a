"""Systems that denoise or write pixel latents and actions together, in one network or in experts of one."""

from __future__ import annotations

from wamkit.actions import BinsConfig, FastConfig
from wamkit.controllers import AsyncOverlap, SingleStep
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import InstructionConfig
from wamkit.estimators import AutoregressorConfig, ContinuousAutoregressorConfig, PacedConfig, StagedConfig
from wamkit.memory import sparse_history
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig, ProprioceptionConfig, RGBDConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

FRONT = PixelLatentConfig(PatchPCAConfig(patch=16, features=16), cameras=("scene",))
BINS = BinsConfig(bins=16, ticks_per_token=4)


@system(
    "DreamZero",
    ("bb.ar-diffusion", "mm.kv-reground", "dp.async-overlap"),
    simplified="Two blocks of past and PCA latents in place of a 14B video model.",
    choices="A call takes four ticks; its chunk is eight ticks long.",
    departs={
        "deployment": "the table says Single-step, the survey's text chunks whose inference overlaps with execution"
    },
)
def dreamzero() -> DesignConfig:
    """Denoise video, body and action block by block at one level, and replace imagined blocks by measured ones."""
    places = {"future": p.LATENT, "body": ProprioceptionConfig()}
    return p.joint(
        "DreamZero",
        p.denoiser(levels="shared", history=2),
        places,
        horizon=2 * p.EXECUTE,
        encoders={"instruction": InstructionConfig()},
        trunks={"main": p.transformer(time_range=4)},
        controller=AsyncOverlap(execute=p.EXECUTE, latency=4),
    )


@system(
    "PhysGen",
    ("cp.leakage-mask", "cp.interleave", "mm.sparse-history"),
    simplified="The packages of the past are read anew at every call, not from a cache.",
    choices="Four packages of the past, the near ones dense.",
)
def physgen() -> DesignConfig:
    """Write several actions ahead, then pictures, as continuous tokens with a flow each; execute the first action."""
    stream = ContinuousAutoregressorConfig(steps=2)
    return p.joint(
        "PhysGen",
        stream,
        {"future": (p.LATENT, (8, 16))},
        ("action", "future"),
        observation=sparse_history(budget=24, tokens_per_frame=6, dense=2, growth=3.0),
        controller=SingleStep(),
    )


@system(
    "DriveVA",
    ("cp.joint", "ps.pixel-latent"),
    data="poses",
    simplified="A made-up recording of absolute poses in place of driving video.",
    choices="Front camera alone; the ego motion is a path of absolute poses, denoised in Heun steps.",
)
def drive_va() -> DesignConfig:
    """Flow the latents of the front camera and the ego path together, so that a video generator drives."""
    world = p.denoiser(levels="shared", solver="heun")
    return p.joint("DriveVA", world, {"future": (FRONT, (4, 8))})


@system(
    "CKT-WAM",
    ("cp.joint", "ps.pixel-latent"),
    simplified="A teacher with random weights; which weights may change is said to the training, not by the recipe.",
    choices="The teacher writes binned actions and pictures token by token; eight prefix tokens behind a gate.",
)
def ckt_wam() -> DesignConfig:
    """Pass the context of a world-action model of another kind as a few prefix tokens to a frozen joint denoiser."""
    teacher = p.joint("teacher", AutoregressorConfig(), {"future": p.PICTURE_TOKENS}, action=BINS)
    return p.joint(
        "CKT-WAM",
        p.denoiser(levels="shared"),
        {"future": p.LATENT},
        encoders={**p.base("base").encoders, "teacher": p.teacher_of(teacher)},
    )


@system(
    "X-WAM",
    ("ps.multiview-4d", "ss.decoupled-times", "bb.mot"),
    simplified="PCA latents of four channels per view in place of a video auto-encoder.",
    choices="Two evaluations for the action and six for the video.",
)
def x_wam() -> DesignConfig:
    """Predict colour and depth of all views, from which points of the scene follow, and finish the action first."""
    views = RGBDConfig(codec=PatchPCAConfig(patch=16, features=16))
    world = p.denoiser(steps=6, nfe={"action": 2}, absent={"future": 0.4}, clean={"future": 0.1})
    return p.joint("X-WAM", world, {"future": views}, trunks={"main": p.mixture(p.TWO)})


@system(
    "NoiseGate",
    ("ss.learned-schedule", "ss.decoupled-times", "bb.mot"),
    simplified="The gate chooses the number of steps of all latents from the state, not the level of each latent.",
    choices="One, two or four steps.",
)
def noisegate() -> DesignConfig:
    """Learn from the state how far a joint video and action model is denoised, with levels apart for the two."""
    inner = p.denoiser(clean={"future": 0.1, "action": 0.1})
    world = PacedConfig(inner=inner, counts=(1, 2, 4))
    return p.joint("NoiseGate", world, {"future": p.LATENT}, trunks={"main": p.mixture(p.TWO)})


@system(
    "UniVLA (Unified Vision-Language-Action Model)",
    ("bb.autoregressive", "cp.interleave"),
    simplified="A small causal transformer over a codebook of patches.",
    choices="Compressed action tokens after the picture that they lead to; the source says no more than its title.",
)
def univla() -> DesignConfig:
    """Write pictures and compressed action tokens as one vocabulary of discrete tokens, next token by next token."""
    places = {"future": (p.PICTURE_TOKENS, (8,))}
    return p.joint(
        "UniVLA (Unified Vision-Language-Action Model)",
        AutoregressorConfig(),
        places,
        action=FastConfig(vocabulary=256),
    )


@system(
    "Pelican-Unify 1.0",
    ("re.text-cot", "bb.mot", "cp.joint"),
    simplified="A thought is one of some short sentences; small experts in place of a VLM and a Wan-style generator.",
    choices="The thought names the part of the task that is due, before frames and actions are denoised together.",
)
def pelican_unify() -> DesignConfig:
    """Write a thought with an understanding expert and ground in it the future and the action, denoised together."""
    return p.base(
        "Pelican-Unify 1.0",
        **p.futures({"future": p.LATENT}),
        texts={"thought": p.PART_OF_TASK},
        trunks={"main": p.mixture({"understanding": ("thought",), **p.TWO})},
        estimators={"reason": AutoregressorConfig(temperature=0.0), "world": p.denoiser()},
        factors=(
            Factor(("thought",), (), "reason"),
            Factor(("future", "action"), ("thought",), "world"),
        ),
    )


@system(
    "DriveWAM",
    ("cp.interleave", "bb.shared-trunk", "pt.video-cotrain"),
    simplified="A made-up trunk in place of a video generator's; robot recordings in place of driving.",
    choices="Front camera; the latents of the clip come before the actions of the chunk.",
)
def drive_wam() -> DesignConfig:
    """Put video latents and ego actions in turns on one diffusion transformer, each after what stands before it."""
    stream = StagedConfig(
        parts={"seen": p.denoiser(), "driven": p.denoiser()},
        streams={"seen": ("future",), "driven": ("action",)},
    )
    return p.joint("DriveWAM", stream, {"future": (FRONT, (4, 8))})
