"""Policies of a language model and an action head that writes a whole chunk: pi0 and its relatives."""

from __future__ import annotations

from wamkit.actions import ChunkConfig, FastConfig
from wamkit.controllers import AsyncOverlap, Chunked, OpenChunked
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import SoftPromptConfig
from wamkit.estimators import AutoregressorConfig, ProposerConfig, RegressorConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

SMALL = "A random model of two layers in place of a pretrained one."


@system("π0", ("bb.vlm-expert", "ar.iterative-head"), simplified=SMALL)
def pi0() -> DesignConfig:
    """Attach a small expert to a vision-language model: it reads every layer and turns noise into a chunk by a flow."""
    policy = p.denoiser(steps=10, emphasis=0.67, temperature=1.0)
    return p.direct("π0", policy, trunks={"main": p.language_model()})


@system(
    "π0.5",
    ("pt.staged-hybrid", "bb.vlm-expert", "ar.iterative-head"),
    simplified=f"{SMALL} No web data and no subtasks in words; the tokens have a table of their own.",
    choices="Both stages are trained at once: the tokens train the model, and the expert's flow does not reach it.",
)
def pi05() -> DesignConfig:
    """Teach the model with action tokens, and let an expert that must not disturb it make the chunk by a flow."""
    parts = {
        "trunks": {"main": p.language_model(language=("tokens",), learning="insulated")},
        "actions": {"tokens": FastConfig(vocabulary=256)},
        "estimators": {"writer": AutoregressorConfig(), "policy": p.denoiser(steps=10, temperature=1.0)},
        "factors": (Factor(("tokens",), (), "writer"), Factor(("action",), (), "policy")),
    }
    return p.base("π0.5", **parts)


@system(
    "π0-EqM",
    ("bb.vlm-expert", "ar.equilibrium-head"),
    simplified=SMALL,
    choices="The descent stops at a residual of 0.05 or after 12 evaluations.",
)
def pi0_eqm() -> DesignConfig:
    """Let the expert of pi0 learn a field whose rest points are good actions; the depth of the descent is free."""
    policy = p.denoiser(prediction="equilibrium", steps=12, tolerance=0.05, temperature=1.0)
    return p.direct("π0-EqM", policy, trunks={"main": p.language_model()})


@system(
    "OpenVLA-OFT",
    ("bb.vlm-expert", "ar.continuous-chunk"),
    simplified=f"{SMALL} The error is smooth near zero, where the paper's is the plain absolute one.",
)
def openvla_oft() -> DesignConfig:
    """Write all actions of a chunk in one pass of the language model itself, as numbers, by regression."""
    trunk = p.language_model(expert=(), language=("action",))
    fields = {"horizon": 8, "action": ChunkConfig(normalization="quantile", ticks_per_token=1)}
    policy = RegressorConfig(loss="smooth_l1")
    return p.direct(
        "OpenVLA-OFT", policy, trunks={"main": trunk}, controller=OpenChunked(execute=8), **fields
    )


@system(
    "SmolVLA",
    ("bb.vlm-expert", "ar.iterative-head", "dp.async-overlap"),
    simplified="A random model of two layers; the expert reads all of them and not the first half of a deep one.",
    choices="An answer takes four ticks, half of the chunk that runs meanwhile.",
)
def smolvla() -> DesignConfig:
    """Keep a small language model frozen, train the flow expert alone, and predict while the last chunk still runs."""
    trunk = p.language_model(learning="frozen")
    policy = p.denoiser(steps=10, temperature=1.0)
    controller = AsyncOverlap(execute=p.EXECUTE, latency=4)
    return p.direct("SmolVLA", policy, trunks={"main": trunk}, controller=controller)


@system(
    "X-VLA",
    ("bb.vlm-expert", "ar.continuous-chunk"),
    data="poses",
    simplified="One robot, and so one prompt; the paper has one per data set on a shared model.",
)
def x_vla() -> DesignConfig:
    """Predict a long chunk of absolute poses in 6D rotation form, with learned prompts for what the robot is."""
    encoders = {**p.base("base").encoders, "robot": SoftPromptConfig()}
    fields = {"horizon": 32, "action": ChunkConfig(ticks_per_token=4), "encoders": encoders}
    policy = p.denoiser(steps=10, temperature=1.0)
    controller = OpenChunked(execute=32)
    return p.direct("X-VLA", policy, trunks={"main": p.language_model()}, controller=controller, **fields)


@system(
    "ABot-M0",
    ("bb.vlm-expert", "ar.iterative-head"),
    simplified=f"{SMALL} Its stream of 3D features is left out.",
    choices="The census names no mechanism. This one is the paper's: the head predicts the clean chunk itself.",
)
def abot_m0() -> DesignConfig:
    """Predict the clean chunk at every noise level, because good actions fill a thin part of the space of chunks."""
    policy = p.denoiser(prediction="data", steps=4, temperature=1.0)
    return p.direct("ABot-M0", policy, trunks={"main": p.language_model()})


@system(
    "RIPT-VLA",
    ("bb.vlm-expert", "ar.continuous-chunk"),
    missing=("pt.preference-opt",),
    simplified=f"{SMALL} The policy has the likelihood that its post-training needs.",
)
def ript_vla() -> DesignConfig:
    """Give a policy that decodes in parallel a likelihood, so that trials with a success signal can improve it."""
    trunk = p.language_model(expert=(), language=("action",))
    fields = {"horizon": 8, "action": ChunkConfig(ticks_per_token=1), "controller": Chunked(execute=8)}
    return p.direct("RIPT-VLA", ProposerConfig(), trunks={"main": trunk}, **fields)
