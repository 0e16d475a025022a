"""Policies that write their actions as tokens, one after the other: RT-1 to pi0-FAST."""

from __future__ import annotations

from wamkit.actions import BinsConfig, FastConfig
from wamkit.controllers import SingleStep
from wamkit.design.config import DesignConfig
from wamkit.encoders import DepthConfig, ImagesConfig, InstructionBPEConfig, InstructionConfig, StateConfig
from wamkit.estimators import AutoregressorConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

BINS = BinsConfig(bins=256, ticks_per_token=p.EXECUTE)
TICK = BinsConfig(bins=256, ticks_per_token=1)
OWN_HEAD = (
    "The tokens have a table of their own beside the model's words, which do not exist without pretraining."
)


@system(
    "RT-1",
    ("ar.discrete-tokens", "oe.rgb-history"),
    simplified="Six pictures of a small convolutional encoder in place of EfficientNet with the words inside it.",
    choices="The tokens of one action are written in their order, as the census says; the paper reads all at once.",
)
def rt_1() -> DesignConfig:
    """Read a history of pictures and an instruction, write one action in 256 bins per entry, at every tick."""
    encoders = {"images": ImagesConfig(pool="grid"), "instruction": InstructionConfig()}
    history = (-10, -8, -6, -4, -2, 0)
    more = {"horizon": 1, "stride": 1, "observation": history, "encoders": encoders}
    return p.direct("RT-1", AutoregressorConfig(), action=TICK, controller=SingleStep(), **more)


@system(
    "RT-2",
    ("ar.discrete-tokens", "bb.vlm-expert"),
    simplified=f"A random model of two layers, and no web data beside the robot's. {OWN_HEAD}",
    choices="The model reads picture and words in both directions before it writes, as PaLI-X does.",
)
def rt_2() -> DesignConfig:
    """Let a vision-language model write the robot's action as if it were the answer to a question."""
    trunk = p.language_model(expert=(), language=("action",))
    encoders = {"images": ImagesConfig(pool="grid"), "instruction": InstructionBPEConfig()}
    more = {"horizon": 1, "stride": 1, "encoders": encoders, "trunks": {"main": trunk}}
    return p.direct("RT-2", AutoregressorConfig(), action=TICK, controller=SingleStep(), **more)


@system(
    "RT-X",
    ("ar.discrete-tokens", "oe.rgb-history"),
    simplified="One robot: the pooled data are not part of a recipe, their common format is.",
    choices="RT-1-X, with the one outside view that every data set has; a longer history than RT-1.",
)
def rt_x() -> DesignConfig:
    """Act from what the data of all robots have in common: one canonical view, words, and a hand's motion in bins."""
    encoders = {"images": ImagesConfig(pool="grid", cameras=("scene",)), "instruction": InstructionConfig()}
    history = tuple(range(-14, 1, 2))
    more = {"horizon": 1, "stride": 1, "observation": history, "encoders": encoders}
    return p.direct("RT-X", AutoregressorConfig(), action=TICK, controller=SingleStep(), **more)


@system(
    "OpenVLA",
    ("ar.discrete-tokens", "bb.vlm-expert"),
    simplified=f"A random Llama of two layers; two small encoders stand for DINOv2 and SigLIP. {OWN_HEAD}",
    choices="One picture of one outside view and no state, as in its own evaluation.",
)
def openvla() -> DesignConfig:
    """Fuse two views of one picture, one for places and one for content, in a causal model that writes action bins."""
    trunk = p.language_model(expert=(), language=("action",), prefix="causal")
    encoders = {
        "places": ImagesConfig(pool="grid", cameras=("scene",)),
        "content": ImagesConfig(pool="keypoints", stride=1, cameras=("scene",)),
        "instruction": InstructionBPEConfig(),
    }
    more = {"horizon": 1, "stride": 1, "encoders": encoders, "trunks": {"main": trunk}}
    return p.direct("OpenVLA", AutoregressorConfig(), action=TICK, controller=SingleStep(), **more)


@system(
    "π0-FAST",
    ("ar.discrete-tokens", "bb.vlm-expert"),
    simplified=f"A random model of two layers, and a code learned on two episodes. {OWN_HEAD}",
)
def pi0_fast() -> DesignConfig:
    """Compress a whole chunk by a cosine transform and byte pairs, and write the few tokens that are left."""
    trunk = p.language_model(expert=(), language=("action",))
    fields = {"action": FastConfig(vocabulary=256), "trunks": {"main": trunk}}
    return p.direct("π0-FAST", AutoregressorConfig(), **fields)


@system(
    "SpatialVLA",
    ("oe.geometry", "ar.discrete-tokens", "bb.vlm-expert"),
    simplified=f"Depth is imputed by a small network fitted on the recordings. {OWN_HEAD}",
    choices="The sensor's depth is hidden in training; whoever acts without it acts as the paper does.",
)
def spatial_vla() -> DesignConfig:
    """Estimate depth from the picture and give the model points in the robot's space, then write action tokens."""
    trunk = p.language_model(expert=(), language=("action",), prefix="causal")
    encoders = {
        "images": ImagesConfig(pool="grid"),
        "places": DepthConfig(grid=2, frame="gripper", impute=True, impute_steps=20, dropout=0.9),
        "state": StateConfig(),
        "instruction": InstructionBPEConfig(),
    }
    fields = {"encoders": encoders, "trunks": {"main": trunk}, "action": BINS}
    return p.direct("SpatialVLA", AutoregressorConfig(), **fields)
