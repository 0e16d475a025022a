"""Systems of experts: foresight and action in stages, or side by side, on a mixture of transformers."""

from __future__ import annotations

from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.design.texts import TextConfig
from wamkit.estimators import AutoregressorConfig, LatentActionConfig, NextScaleConfig, StagedConfig
from wamkit.substrates import OpticalFlowConfig, QuantizedConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

VIDEO_AND_CONTROL = {"video": ("future",), "control": ("action",)}


@system(
    "F1",
    ("bb.mot", "bb.autoregressive", "cp.joint"),
    simplified="Two scales of a small codebook, and a random context expert in place of a pretrained VLM.",
)
def f1() -> DesignConfig:
    """Foresee the next picture scale by scale in one expert, then denoise the action in an expert that reads it."""
    experts = StagedConfig(
        parts={"foresight": NextScaleConfig(steps=2), "control": p.denoiser()},
        streams={"foresight": ("future",), "control": ("action",)},
    )
    places = {"future": QuantizedConfig(p.LATENT, vocabulary=32, scales=2)}
    return p.joint("F1", experts, places, trunks={"main": p.mixture(VIDEO_AND_CONTROL)})


@system(
    "RynnVLA-002",
    ("cp.interleave", "bb.autoregressive"),
    simplified="A small transformer in place of Chameleon.",
    choices="Picture tokens first, then the continuous action on the same trunk.",
)
def rynn_vla() -> DesignConfig:
    """Write the next picture token by token, then refine a continuous action by reading it, on one trunk."""
    stream = StagedConfig(
        parts={"picture": AutoregressorConfig(), "control": p.denoiser()},
        streams={"picture": ("future",), "control": ("action",)},
    )
    return p.joint("RynnVLA-002", stream, {"future": p.PICTURE_TOKENS})


@system(
    "Motus",
    ("ss.decoupled-times", "ss.future-skip", "ar.latent-action"),
    simplified="Small experts; the flow's auto-encoder is learned with the policy, not before it.",
    choices="The latent action is proposed from the context first, and video and action are denoised given it.",
)
def motus() -> DesignConfig:
    """Join video and action experts with noise levels of their own, told by a latent action of optical flow."""
    places = {"future": p.LATENT, "flow": OpticalFlowConfig(grid=4)}
    both = {"future": 0.4, "action": 0.1}, {"future": 0.1, "action": 0.1}
    trunk = p.mixture({**VIDEO_AND_CONTROL, "latent": ("latent",)})
    return p.base(
        "Motus",
        **p.futures(places),
        states={"latent": 14},
        trunks={"main": trunk, "flow": p.transformer()},
        estimators={
            "flow": LatentActionConfig(trunk="flow"),
            "world": p.denoiser(absent=both[0], clean=both[1]),
        },
        factors=(
            Factor(("latent",), (), "flow"),
            Factor(("flow",), ("latent",), "flow"),
            Factor(("future", "action"), ("latent",), "world"),
        ),
    )


@system(
    "BagelVLA",
    ("re.interleaved-plan", "cp.interleave", "ps.keyframes", "bb.mot"),
    simplified="The subtask is one of a few sentences; small experts.",
)
def bagel_vla() -> DesignConfig:
    """Write the subtask, draw the key frame it leads to and act towards it, in turns on a mixture of experts."""
    stream = StagedConfig(
        parts={"words": AutoregressorConfig(), "picture": p.denoiser(), "control": p.denoiser()},
        streams={"words": ("subtask",), "picture": ("future",), "control": ("action",)},
    )
    trunk = p.mixture({"words": ("subtask",), **VIDEO_AND_CONTROL})
    return p.base(
        "BagelVLA",
        texts={"subtask": TextConfig(template="part {part}", length=4)},
        substrates={"picture": p.LATENT},
        futures={"future": FutureConfig("picture", milestones=1)},
        trunks={"main": trunk},
        estimators={"world": stream},
        factors=(Factor(("subtask", "future", "action"), (), "world"),),
    )
