"""Joint-embedding predictive architectures: what is predicted are features, and nothing is rendered."""

from __future__ import annotations

from typing import Any

from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import AudioConfig, ImagesConfig, InstructionConfig, MaskedConfig, StateConfig
from wamkit.estimators import LatentActionConfig, ProposerConfig, RegressorConfig
from wamkit.planners import CEMConfig, GoalImageObjectiveConfig
from wamkit.substrates import EmaFeatureConfig, OpticalFlowConfig, TeacherFeatureConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

PICTURES = ImagesConfig(patch=2, channels=(16, 24), pool="grid", shift=0)  # 4 x 4 tokens of 8 x 8 pixels
OWN = EmaFeatureConfig(encoder="seen", decay=0.99)
FROZEN = TeacherFeatureConfig(features=16, grid=2, steps=40)
NEXT = (1,)
SEARCH = CEMConfig(candidates=8, iterations=2, elites=2, objective=GoalImageObjectiveConfig("future"))
LATER = "A future begins a tick ahead, so the hidden blocks are predicted as they are right after the clip, not in it."


def masked(**fields: Any) -> dict[str, MaskedConfig]:
    """The only encoder: a grid of picture tokens of which blocks are hidden in training."""
    return {"seen": MaskedConfig(**{"inner": PICTURES, "rows": 4, "columns": 4, **fields})}


@system(
    "JEPA",
    ("bb.jepa-predictor",),
    simplified="Convolutions and a small transformer.",
    choices="The idea leaves open what is hidden: here the future. The target is a moving average of the encoder.",
)
def jepa() -> DesignConfig:
    """Predict the embedding of the future from that of the present, and never a pixel."""
    places = {"future": EmaFeatureConfig(encoder="images", decay=0.99)}
    return p.world("JEPA", RegressorConfig(loss="smooth_l1"), places, given=())


@system(
    "I-JEPA",
    ("bb.jepa-predictor",),
    simplified=f"Four by four tokens per view, two target blocks. {LATER}",
)
def i_jepa() -> DesignConfig:
    """Hide large blocks of one picture and predict their features from the rest; only hidden tokens count."""
    places = {"future": (OWN, NEXT)}
    return p.world(
        "I-JEPA", RegressorConfig(loss="smooth_l1", where="hidden"), places, given=(), encoders=masked()
    )


@system(
    "V-JEPA",
    ("bb.jepa-predictor", "oe.rgb-history"),
    simplified=f"Clips of two frames. {LATER}",
    choices="One block that is half of each side stands for the paper's short-range and long-range masks.",
)
def v_jepa() -> DesignConfig:
    """Hide the same region in all frames of a clip, a tube, so that it cannot be copied from another frame."""
    regressor = RegressorConfig(loss="smooth_l1", where="hidden")
    return p.world(
        "V-JEPA",
        regressor,
        {"future": (OWN, (1, 5))},
        given=(),
        encoders=masked(blocks=1, share=0.75),
        observation=(-4, 0),
    )


@system(
    "V-JEPA 2",
    ("bb.jepa-predictor", "pl.sampling-mpc"),
    simplified="Both stages are trained together on one dataset, not first on a million hours of video.",
    choices="The goal of the search is an observation that the caller gives, as in the paper's experiments.",
)
def v_jepa_2() -> DesignConfig:
    """Add to masked prediction of video a second predictor that takes actions, and search actions with it."""
    estimators = {
        "masked": RegressorConfig(loss="smooth_l1", where="hidden"),
        "policy": ProposerConfig(),
        "world": RegressorConfig(loss="smooth_l1"),
    }
    factors = (
        Factor(("hidden",), (), "masked"),
        Factor(("action",), (), "policy"),
        Factor(("future",), ("action",), "world"),
    )
    return p.chain(
        "V-JEPA 2",
        estimators,
        factors,
        {"hidden": (OWN, (1, 5)), "future": (OWN, (8, 16))},
        planner=SEARCH,
        encoders=masked(blocks=1, share=0.75),
        observation=(-4, 0),
    )


@system(
    "V-JEPA 2 action-conditioned variant (V-JEPA 2-AC)",
    ("bb.jepa-predictor", "cp.rollout", "pl.sampling-mpc"),
    simplified="A small frozen teacher stands for the pretrained encoder.",
)
def v_jepa_2_ac() -> DesignConfig:
    """Leave the pretrained encoder frozen, predict its features under actions, and search towards a goal image."""
    estimators = {"policy": ProposerConfig(), "world": RegressorConfig(loss="smooth_l1")}
    factors = (Factor(("action",), (), "policy"), Factor(("future",), ("action",), "world"))
    return p.chain(
        "V-JEPA 2-AC",
        estimators,
        factors,
        {"future": (FROZEN, (8, 16))},
        planner=SEARCH,
        encoders={"images": ImagesConfig(), "state": StateConfig()},
    )


@system(
    "V-JEPA 2.1",
    ("bb.jepa-predictor",),
    simplified="Features of one layer only; no distillation.",
    choices="The document only says that consistency over time is tightened; the dense loss is how it is taken here.",
)
def v_jepa_2_1() -> DesignConfig:
    """Let visible tokens count in the loss as well as hidden ones, so that features are consistent everywhere."""
    return p.world(
        "V-JEPA 2.1",
        RegressorConfig(loss="smooth_l1", where="all"),
        {"future": (OWN, (1, 5))},
        given=(),
        encoders=masked(blocks=1, share=0.75),
        observation=(-4, 0),
    )


@system(
    "A-JEPA",
    ("bb.jepa-predictor",),
    data="senses",
    simplified="Tokens are moments of the spectrogram over all bands, so the masks hide time and not bands.",
)
def a_jepa() -> DesignConfig:
    """Predict the features of hidden spans of sound, spans that grow over training: first easy, then hard."""
    encoder = MaskedConfig(AudioConfig(mels=16), rows=1, columns=12, blocks=1, share=0.5, curriculum=4)
    return p.world(
        "A-JEPA",
        RegressorConfig(loss="smooth_l1", where="hidden"),
        {"future": (OWN, NEXT)},
        given=(),
        encoders={"seen": encoder},
    )


@system(
    "MC-JEPA",
    ("bb.jepa-predictor", "ps.motion-geometry"),
    simplified="Flow is regressed on an estimate from the pictures, not learned from the pictures alone.",
)
def mc_jepa() -> DesignConfig:
    """Let one encoder learn content and motion: the same tokens predict its own features and the optical flow."""
    places = {
        "future": EmaFeatureConfig(encoder="images", decay=0.99),
        "flow": OpticalFlowConfig(grid=4),
    }
    encoders = {"images": ImagesConfig(), "instruction": InstructionConfig()}
    return p.world("MC-JEPA", RegressorConfig(loss="smooth_l1"), places, given=(), encoders=encoders)


@system(
    "VJEPA (variational)",
    ("ps.latent-state", "bb.jepa-predictor"),
    simplified="One Gaussian code per call.",
    choices="Only the title and the abstract are named; the code is inferred from the future and has a learned prior.",
)
def vjepa() -> DesignConfig:
    """Predict features through a Gaussian code: inferred from the future in training, drawn from a prior after it."""
    estimators = {"world": LatentActionConfig(bottleneck=1e-2, temperature=1.0)}
    factors = (Factor(("code",), (), "world"), Factor(("future",), ("code",), "world"))
    place = EmaFeatureConfig(encoder="images", decay=0.99)
    return p.chain("VJEPA", estimators, factors, {"future": place}, states={"code": 8})
