"""Video models that are no denoisers of clips: element by element, and by codes of content and motion."""

from __future__ import annotations

from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import ImagesConfig, InstructionConfig
from wamkit.estimators import AutoregressorConfig, ContinuousAutoregressorConfig, LatentActionConfig
from wamkit.substrates import AudioFutureConfig, PatchVQConfig, PixelsConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

SEEN = {"images": ImagesConfig(), "instruction": InstructionConfig()}


@system(
    "VideoGPT",
    ("ps.pixel-latent", "bb.autoregressive"),
    simplified="Tokens of single frames, not of a codec over space and time.",
)
def videogpt() -> DesignConfig:
    """Write the tokens of a vector-quantised codec one after the other with a plain causal transformer."""
    places = {"future": (p.PICTURE_TOKENS, (8, 16))}
    return p.world("VideoGPT", AutoregressorConfig(), places, given=(), encoders={"images": ImagesConfig()})


@system(
    "VideoPoet",
    ("ps.pixel-latent", "bb.autoregressive", "cp.interleave"),
    data="senses",
    simplified="A random language model of the tiny size.",
)
def videopoet() -> DesignConfig:
    """Let a language model write picture tokens and sound tokens in one sequence, frame by frame."""
    sound = AudioFutureConfig(codec=PatchVQConfig(patch=4, features=8, vocabulary=32), mels=16)
    places = {"future": (p.PICTURE_TOKENS, (8, 16)), "sound": (sound, (8, 16))}
    return p.world(
        "VideoPoet",
        AutoregressorConfig(segments=2),
        places,
        given=(),
        trunks={"main": p.language_model((), ("future", "sound"))},
        encoders=SEEN,
    )


@system(
    "NOVA",
    ("ps.pixel-latent", "bb.autoregressive"),
    simplified="Within a frame one token after the other, not sets of tokens in random order.",
)
def nova() -> DesignConfig:
    """Write video frame by frame in continuous latents: every element is drawn by a flow, and nothing is quantised."""
    places = {"future": (p.LATENT, (4, 8, 12, 16))}
    estimator = ContinuousAutoregressorConfig(steps=4)
    return p.world("NOVA", estimator, places, given=(), encoders=SEEN)


@system(
    "MoCoGAN",
    ("ps.pixel-decoded", "ps.latent-state"),
    simplified="No adversary: the code is inferred from the clip and has a prior, and the frames are regressed.",
    choices="The content is the observed picture, which the paper draws at random.",
)
def mocogan() -> DesignConfig:
    """Separate content from motion: one picture says what is seen, a drawn code says how it moves in all frames."""
    estimators = {"world": LatentActionConfig(bottleneck=1e-2, temperature=1.0)}
    factors = (Factor(("motion",), (), "world"), Factor(("future",), ("motion",), "world"))
    places = {"future": (PixelsConfig(shrink=4, patch=4), (8, 16))}
    return p.chain(
        "MoCoGAN", estimators, factors, places, states={"motion": 8}, encoders={"images": ImagesConfig()}
    )
