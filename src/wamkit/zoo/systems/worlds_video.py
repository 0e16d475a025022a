"""Video models that denoise: what they share is ``p(s|c)``; they differ in what a layer reads, in latents, in order."""

from __future__ import annotations

from typing import Any

from wamkit.contract.protocols import EstimatorConfig, SubstrateConfig
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import ImagesConfig, InstructionConfig
from wamkit.estimators import FeatureTapConfig, RegressorConfig
from wamkit.substrates import (
    AudioFutureConfig,
    DepthMapConfig,
    PatchPCAConfig,
    PixelLatentConfig,
    PixelsConfig,
)
from wamkit.trunks import SpaceTimeConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

CLIP = (4, 8, 12, 16)
PATCHES = PixelsConfig(shrink=4, patch=4)  # space-time patches: four tokens per view and frame
SOUND = AudioFutureConfig(codec=PatchPCAConfig(patch=4, features=8), mels=16)
CLOSED = "Closed: what is published are its abilities."
SMALL = "A small network on PCA latents of single frames, without compression in time."


def latents(patch: int, features: int = 16) -> PixelLatentConfig:
    """Latents with one token per ``patch`` x ``patch`` pixels of a view."""
    return PixelLatentConfig(PatchPCAConfig(patch=patch, features=features))


def layers(*pattern: Any, **fields: Any) -> SpaceTimeConfig:
    """Trunk over clips in the tiny size."""
    return SpaceTimeConfig(width=p.WIDTH, heads=p.HEADS, pattern=pattern, **fields)


def clip(
    name: str, place: SubstrateConfig, trunk: Any, estimator: EstimatorConfig | None = None, **fields: Any
) -> DesignConfig:
    """``p(s|c)`` of a clip of four frames, conditioned on picture and text."""
    seen = {"images": ImagesConfig(), "instruction": InstructionConfig()}
    parts = {"encoders": seen, "trunks": {"main": trunk}, **fields}
    return p.world(name, estimator or p.denoiser(), {"future": (place, CLIP)}, given=(), **parts)


@system(
    "Wan",
    ("ps.pixel-latent", "bb.denoising"),
    simplified=SMALL,
    choices="Of the family's tasks this is text-to-video; the others are those of its variants.",
)
def wan() -> DesignConfig:
    """Denoise the latents of a whole clip with attention over space and time at once, from text alone."""
    return clip("Wan", latents(16), layers("joint", "joint"), encoders={"instruction": InstructionConfig()})


@system("Wan2.1-14B", ("ps.pixel-latent", "bb.denoising"), simplified=SMALL)
def wan_14b() -> DesignConfig:
    """Continue a picture: the large variant with fine latents (eight pixels a side), more tokens and more layers."""
    return clip("Wan2.1-14B", latents(8), layers("joint", "joint", "joint"))


@system("Wan2.2-5B", ("ps.pixel-latent", "bb.denoising"), simplified=SMALL)
def wan_5b() -> DesignConfig:
    """Continue a picture in latents of twice the compression per side, so that a clip is a quarter of the tokens."""
    return clip("Wan2.2-5B", latents(16, 32), layers("joint", "joint"))


@system("LTX-Video-2B", ("ps.pixel-latent", "bb.denoising"), simplified=SMALL)
def ltx() -> DesignConfig:
    """Compress so far that a frame is one token of many features: denoising is cheap, detail is the decoder's."""
    return clip("LTX-Video-2B", latents(32, 64), layers("joint", "joint"))


@system(
    "CogVideoX",
    ("ps.pixel-latent", "bb.denoising"),
    simplified=SMALL,
    choices="Whole layers of their own for context and video stand for the paper's norms of their own.",
)
def cogvideox() -> DesignConfig:
    """Give text and video layers of their own inside one full attention, and predict the noise."""
    trunk = p.mixture({"video": ("future",)})
    return clip("CogVideoX", latents(16), trunk, p.denoiser(prediction="noise"))


@system(
    "Cosmos-Predict2",
    ("ps.pixel-latent", "bb.denoising", "oe.rgb-history"),
    simplified=SMALL,
    choices="Noise is predicted; the paper's own weighting of noise levels is left out.",
)
def cosmos_predict2() -> DesignConfig:
    """Continue a video, not a picture: three observed frames say how things move, and noise is predicted."""
    estimator = p.denoiser(prediction="noise", solver="heun")
    return clip("Cosmos-Predict2", latents(8), layers("joint", "joint"), estimator, observation=(-8, -4, 0))


@system(
    "Cosmos-Predict2.5",
    ("ps.feature-tap",),
    simplified=f"{SMALL} A depth readout stands for whoever reads the features.",
)
def cosmos_predict2_5() -> DesignConfig:
    """Open a flow model of video in the middle: after the second evaluation its inner layer is read by others."""
    return tapped("Cosmos-Predict2.5", layers("joint", "joint"), evaluation=2)


@system(
    "Stable Video Diffusion (SVD)",
    ("ps.feature-tap", "bb.denoising"),
    simplified=f"{SMALL} A depth readout stands for whoever reads the features.",
)
def svd() -> DesignConfig:
    """Insert layers over time into an image model, train all of it on video, and read features after one evaluation."""
    trunk = layers("space", "time", motion=("time",))
    return tapped("SVD", trunk, evaluation=1, generator=p.denoiser(prediction="noise"))


def tapped(
    name: str, trunk: SpaceTimeConfig, evaluation: int, generator: EstimatorConfig | None = None
) -> DesignConfig:
    """``p(s,z|c) p(d|z,c)``: a video model whose hidden state z another future is read off."""
    estimators = {
        "video": FeatureTapConfig(
            trunk="video", generator=generator or p.denoiser(), layer=1, evaluation=evaluation
        ),
        "readout": RegressorConfig(trunk="readout"),
    }
    factors = (Factor(("future", "tap"), (), "video"), Factor(("depth",), ("tap",), "readout"))
    return p.chain(
        name,
        estimators,
        factors,
        {"future": (latents(16), (8, 16)), "depth": (DepthMapConfig(grid=4), (16,))},
        taps={"tap": "future"},
        trunks={"video": trunk, "readout": p.transformer()},
        encoders={"images": ImagesConfig(), "instruction": InstructionConfig()},
    )


@system(
    "Latte",
    ("ps.pixel-latent", "bb.denoising"),
    simplified=SMALL,
    choices="Of the paper's four orders of layers, the alternating one, which it reports as the best.",
)
def latte() -> DesignConfig:
    """Split attention over a clip: layers within a frame alternate with layers along time at one place."""
    return clip("Latte", latents(16), layers("space", "time", "space", "time"))


@system(
    "AnimateDiff",
    ("ps.pixel-latent", "bb.denoising"),
    simplified="The image model is random, since no pretrained one is read; only that it stays frozen is kept.",
)
def animatediff() -> DesignConfig:
    """Freeze an image model and learn layers over time beside it, which change nothing at first."""
    trunk = layers("space", "time", motion=("time",), frozen=("space",))
    return clip("AnimateDiff", latents(16), trunk, p.denoiser(prediction="noise"))


@system(
    "Vidu",
    ("ps.pixel-latent", "bb.denoising"),
    simplified=SMALL,
    choices="The sources name only its latents; long skip connections are those of its published backbone, U-ViT.",
)
def vidu() -> DesignConfig:
    """Join shallow to deep layers by long skips (U-ViT) in one transformer over all tokens of the clip."""
    trunk = layers("joint", "joint", "joint", "joint", skips=True)
    return clip("Vidu", latents(16), trunk, p.denoiser(prediction="noise"))


@system(
    "Sora",
    ("ps.pixel-decoded", "bb.denoising"),
    simplified="Pixels of small frames in place of decoded latents; no captions rewritten by a language model.",
    choices=CLOSED,
)
def sora() -> DesignConfig:
    """Cut a decoded clip into space-time patches and denoise them in one transformer, from text."""
    return clip("Sora", PATCHES, layers("joint", "joint"), encoders={"instruction": InstructionConfig()})


@system(
    "Sora 2",
    ("ps.pixel-decoded", "bb.denoising", "ps.sensor-latent"),
    data="senses",
    simplified="Pixels of small frames in place of decoded latents.",
    choices=f"{CLOSED} Sound comes in a factor of its own that reads the frames.",
)
def sora_2() -> DesignConfig:
    """Add sound to the clip: it is generated after the frames and for them."""
    estimators = {"video": p.denoiser(), "sound": p.denoiser()}
    factors = (Factor(("future",), (), "video"), Factor(("sound",), ("future",), "sound"))
    return p.chain(
        "Sora 2",
        estimators,
        factors,
        {"future": (PATCHES, (8, 16)), "sound": (SOUND, (8, 16))},
        encoders={"instruction": InstructionConfig()},
    )


@system(
    "Veo / Veo3",
    ("ps.pixel-decoded", "bb.denoising", "ps.sensor-latent"),
    data="senses",
    simplified="Pixels of small frames in place of decoded latents.",
    choices=f"{CLOSED} Its report says that sound and pictures are denoised together.",
)
def veo() -> DesignConfig:
    """Denoise pictures and sound as one process, each reading the other at every step, from a picture and text."""
    places = {"future": (PATCHES, (8, 16)), "sound": (SOUND, (8, 16))}
    encoders = {"images": ImagesConfig(), "instruction": InstructionConfig()}
    return p.world("Veo", p.denoiser(levels="shared"), places, given=(), encoders=encoders)
