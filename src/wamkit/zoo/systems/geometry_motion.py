"""World action models without video: futures of motion, of maps and of sound."""

from __future__ import annotations

from dataclasses import replace

from wamkit.controllers import OpenChunked, ProgressGate
from wamkit.design.config import DesignConfig
from wamkit.encoders import AudioConfig, DepthConfig, StateConfig
from wamkit.estimators import ContinuousAutoregressorConfig, ProposerConfig, RegressorConfig
from wamkit.memory import PastMotionConfig
from wamkit.planners import MPPIConfig
from wamkit.substrates import (
    AudioFutureConfig,
    HeatmapConfig,
    MotionVectorsConfig,
    PatchPCAConfig,
    PolylineConfig,
    ProgressConfig,
    SegmentationConfig,
)
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

VECTORS = MotionVectorsConfig(block=8)


@system(
    "HiF-VLA",
    ("ps.motion-geometry", "bb.vlm-expert", "cp.joint"),
    simplified="A random model of two layers and small encoders in place of DINOv2 and SigLIP.",
    choices="The past reaches back eight ticks in two steps.",
)
def hif_vla() -> DesignConfig:
    """Look back at the motion vectors of the past and write those of the future beside the action, in one pass."""
    trunk = p.language_model(expert=(), language=("action", "motion"))
    encoders = {**p.base("base").encoders, "hindsight": PastMotionConfig(motion=VECTORS)}
    places: dict[str, p.Place] = {"motion": (VECTORS, (4, 8))}
    start = p.joint("HiF-VLA", RegressorConfig(), places, trunks={"main": trunk})
    return replace(start, encoders=encoders, observation=(-8, -4, 0))


@system(
    "ICLR-VR",
    ("ps.motion-geometry", "cp.interleave"),
    missing=("re.in-context",),
    simplified="No demonstrations stand before the observation.",
    choices="Line and action are continuous tokens, each drawn by a small flow.",
)
def iclr_vr() -> DesignConfig:
    """Write the path of the gripper as five points in a picture, then the action chunk, in one causal stream."""
    trunk = p.language_model(expert=(), language=("line", "action"), prefix="causal")
    line = {"line": (PolylineConfig(camera="scene"), (3, 6, 9, 12, 15))}
    world = ContinuousAutoregressorConfig(steps=2, temperature=0.0)
    return p.joint("ICLR-VR", world, line, ("line", "action"), trunks={"main": trunk})


@system(
    "PointWorld",
    ("ps.motion-geometry", "oe.geometry", "pl.sampling-mpc"),
    simplified="The robot's own points enter as its commands, and the goal that the search aims at is generated.",
    choices="Flow of a grid of points of one view, in the world.",
)
def pointworld() -> DesignConfig:
    """Predict how every point of the scene flows under a proposed motion, and average the motions by their outcome."""
    encoders = {**p.base("base").encoders, "points": DepthConfig(grid=4, frame="world")}
    planner = MPPIConfig(candidates=8, iterations=2, temperature=0.03, decay=0.8)
    proposal = ProposerConfig(max_std=0.5)
    start = p.rollout("PointWorld", p.POINT_FLOW, proposal, RegressorConfig(), planner, shared=True)
    return replace(start, encoders=encoders, controller=OpenChunked(execute=p.HORIZON))


@system(
    "PALM",
    ("ps.task-map", "dp.progress-gate", "bb.vlm-expert"),
    simplified="A random Llama of two layers in place of GPT-2; masks and contacts are the simulator's.",
    choices="The maps are those of the object, the contact, the placement and the moving hand.",
)
def palm() -> DesignConfig:
    """Predict a bundle of maps of what to touch, where to move and how far the task is, which gates the next step."""
    maps = {
        "mask": SegmentationConfig(grid=4),
        "contact": HeatmapConfig(grid=8, where="contact"),
        "placement": HeatmapConfig(grid=8, where="object"),
        "motion": HeatmapConfig(grid=8, where="gripper"),
        "progress": ProgressConfig(),
    }
    fields = {
        "trunks": {"main": p.language_model(language=tuple(maps))},
        "controller": ProgressGate(execute=p.EXECUTE, stream="progress"),
    }
    policy = p.denoiser(steps=4)
    return p.cascade("PALM", RegressorConfig(), policy, maps, shared=True, read="prediction", **fields)


@system(
    "Audio-WM",
    ("ps.sensor-latent", "oe.body-sensors", "ar.iterative-head"),
    data="senses",
    simplified="Synthetic noise in place of recorded contact sounds.",
    choices="No picture is read: what the contact sounds like is all the evidence.",
)
def audio_wm() -> DesignConfig:
    """Predict the Mel spectrogram of the coming sound by a flow, and denoise the action given it."""
    sound = {"sound": AudioFutureConfig(codec=PatchPCAConfig(patch=4, features=4), mels=16)}
    encoders = {"sound": AudioConfig(mels=16), "state": StateConfig()}
    return p.cascade("Audio-WM", p.denoiser(), p.denoiser(), sound, encoders=encoders)
