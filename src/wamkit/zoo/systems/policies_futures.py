"""Policies with a future on the way, which the census keeps among the policies, and primitives of motion."""

from __future__ import annotations

from dataclasses import replace

from wamkit.actions import MovementPrimitiveConfig
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.estimators import AutoregressorConfig, RegressorConfig
from wamkit.substrates import VlmTokenConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

SMALL = "A random model of two layers in place of a pretrained one."
POLICY = "The row is filed as a policy, although a predicted future"


@system(
    "VLA-JEPA",
    ("ps.teacher-feature", "bb.vlm-expert", "ar.iterative-head"),
    simplified=f"{SMALL} The target is a small frozen teacher, and no video of people is read.",
    departs={
        "coupling": f"{POLICY} trains its language model.",
        "substrate": f"{POLICY} trains its language model.",
    },
)
def vla_jepa() -> DesignConfig:
    """Train the language model to predict the teacher's view of coming frames, which it never sees as input."""
    trunk = p.language_model(language=("future",))
    fields = p.futures({"future": (replace(p.TEACHER, steps=30, batch_size=16), (4, 8))})
    factors = (Factor(("future",), (), "world"), Factor(("action",), (), "policy"))
    parts = {"world": RegressorConfig(loss="smooth_l1"), "policy": p.denoiser(steps=4)}
    return p.base("VLA-JEPA", trunks={"main": trunk}, estimators=parts, factors=factors, **fields)


@system(
    "AVP (Action with Visual Primitives)",
    ("ps.vlm-token", "bb.vlm-expert", "ar.iterative-head"),
    simplified=f"{SMALL} The primitive is the place where the hand will be and whether it is open.",
    choices="The next stage ends at the task's next milestone.",
    departs={
        "coupling": f"{POLICY} is written down and given to the action expert.",
        "substrate": f"{POLICY} is written down and given to the action expert.",
    },
)
def avp() -> DesignConfig:
    """Write down where the next stage should end, as tokens of places in the picture, and act towards it by a flow."""
    trunk = p.language_model(language=("target",))
    target = {"target": (VlmTokenConfig(bins=32), (p.EXECUTE,))}
    policy = p.denoiser(steps=10, temperature=1.0)
    return p.cascade("AVP", AutoregressorConfig(), policy, target, shared=True, trunks={"main": trunk})


@system(
    "LMP (Language Movement Primitives)",
    ("ar.dmp-head", "re.text-cot"),
    simplified=f"{SMALL} The parameters are regressed after the words, where the paper's model writes them as text.",
    choices="The words name the part of the task that is under way.",
)
def lmp() -> DesignConfig:
    """Say what part of the task comes, then set goal, duration and shape of a stable system that moves the arm."""
    return p.base(
        "LMP",
        texts={"words": p.PART_OF_TASK},
        action=MovementPrimitiveConfig(weights=6),
        trunks={"main": p.language_model(expert=(), language=("action", "words"))},
        estimators={
            "reason": AutoregressorConfig(temperature=0.0),
            "policy": RegressorConfig(loss="smooth_l1"),
        },
        factors=(Factor(("words",), (), "reason"), Factor(("action",), ("words",), "policy")),
    )
