"""Latent-only systems whose action reads hidden states of a video or motion network (survey eq. 14)."""

from __future__ import annotations

from dataclasses import replace

from wamkit.controllers import SingleStep, SlowFast
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import GoalImageConfig, ImagesConfig, StateConfig
from wamkit.estimators import FeatureTapConfig, RegressorConfig
from wamkit.memory import sparse_history
from wamkit.substrates import DepthMapConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

# Factors of a design whose tap sends no gradient back: the video network learns from video alone.
FROZEN = (Factor(("future", "tap"), (), "video"), Factor(("action",), ("tap",), "policy", read="prediction"))


@system(
    "VPP",
    ("ps.feature-tap", "ss.early-exit", "dp.single-step", "pt.video-cotrain"),
    simplified="A small denoiser of one latent frame in place of Stable Video Diffusion.",
    choices="The action's loss also trains the tapped layers.",
)
def vpp() -> DesignConfig:
    """Run a single pass of the video model at every control tick and act on its first hidden state."""
    return p.tapped("VPP", evaluation=1, controller=SingleStep())


@system(
    "Video Policy",
    ("ps.feature-tap", "cp.post-head", "pt.video-cotrain"),
    simplified="A small video network, trained beside the policy but never by it, in place of a pretrained frozen one.",
    choices="Features of the last layer, at the end of the generation.",
)
def video_policy() -> DesignConfig:
    """Leave the video generator as its own loss made it and train only the policy that reads its features."""
    tap = FeatureTapConfig(trunk="video", generator=p.denoiser(), layer=p.DEPTH, evaluation=4)
    policy = replace(p.denoiser(), trunk="policy")
    return p.tapped("Video Policy", estimators={"video": tap, "policy": policy}, factors=FROZEN)


@system(
    "Genie Envisioner",
    ("ps.multiview-4d", "ps.feature-tap", "dp.slow-fast"),
    simplified="The fast loop is a reflex on the planned path, not a second pass of the action network.",
    choices="The views are the cameras of the recording, side by side in one step of latents.",
)
def genie_envisioner() -> DesignConfig:
    """Denoise latents of all views once at a slow rate and decode actions that a fast loop follows from that state."""
    return p.tapped(
        "Genie Envisioner",
        (p.LATENT, (4, 8)),
        evaluation=1,
        controller=SlowFast(execute=p.EXECUTE),
    )


@system(
    "Act2Goal",
    ("oe.goal-conditioner", "mm.sparse-history", "ps.feature-tap"),
    simplified="Gaps grow by a fixed rule in place of a learned hashing.",
    choices="The goal is the last picture of the episode.",
)
def act2goal() -> DesignConfig:
    """Predict the way to a goal picture, near frames densely and far ones sparsely, and act on its features."""
    encoders = {"images": ImagesConfig(), "state": StateConfig(), "goal": GoalImageConfig()}
    return p.tapped(
        "Act2Goal",
        (p.LATENT, (1, 2, 4, 8, 16)),
        evaluation=1,
        encoders=encoders,
        observation=sparse_history(budget=4 * 6, tokens_per_frame=6, dense=2, growth=2.0),
    )


@system(
    "DiT4DiT",
    ("ps.feature-tap", "ss.early-exit"),
    simplified="Two small networks in place of two diffusion transformers.",
    choices="The first evaluation, from the centre of the noise, with a sampled action.",
    departs={
        "substrate": "the survey's table says Pixel (latent), its text features at a fixed denoising step; "
        "a hidden state has no decoder"
    },
)
def dit4dit() -> DesignConfig:
    """Read the video network in one deterministic pass at a fixed step; only the action is sampled."""
    generator = p.denoiser(temperature=0.0)
    policy = p.denoiser(temperature=1.0)
    return p.tapped("DiT4DiT", (p.LATENT, (4, 8)), evaluation=1, generator=generator, policy=policy)


@system(
    "S-VAM",
    ("ps.feature-tap", "ss.distill", "pt.teacher-align"),
    simplified="Own small teachers of meaning and depth; the few-step training is run by the oracle, not stored.",
    choices="Depth and teacher features are both read from the tap, in one pass each.",
)
def s_vam() -> DesignConfig:
    """Distil many denoising steps into one pass whose features also give depth and a teacher's features."""
    places = p.futures({"future": p.LATENT, "meaning": p.QUICK_TEACHER, "depth": DepthMapConfig(grid=4)})
    tap = FeatureTapConfig(trunk="video", generator=p.denoiser(steps=1), layer=1, evaluation=1)
    return p.base(
        "S-VAM",
        **places,
        taps={"tap": "future"},
        trunks={"video": p.transformer(), "foresight": p.transformer(), "policy": p.transformer()},
        estimators={
            "video": tap,
            "foresight": RegressorConfig(trunk="foresight"),
            "policy": p.denoiser(trunk="policy"),
        },
        factors=(
            Factor(("future", "tap"), (), "video"),
            Factor(("meaning", "depth"), ("tap",), "foresight"),
            Factor(("action",), ("tap",), "policy"),
        ),
    )


@system(
    "Fast-WAM",
    ("ps.feature-tap", "cp.action-centric-mask", "ss.future-skip", "pt.video-cotrain"),
    simplified="Video and action have a network each and meet in the tap, not in shared attention.",
)
def fast_wam() -> DesignConfig:
    """Train with a future video and act without one, from a hidden state that only the training has shaped."""
    return p.tapped("Fast-WAM", kind="encoder-only")


@system(
    "VAMPO",
    ("ps.feature-tap", "ss.early-exit"),
    missing=("pt.preference-opt",),
    simplified="The video network is trained by its own loss only, without policy optimisation afterwards.",
    choices="The first evaluation of two video steps.",
)
def vampo() -> DesignConfig:
    """Tap the earliest denoising latents, which policy optimisation against expert video makes fit for control."""
    return p.tapped("VAMPO", (p.LATENT, (4, 8)), evaluation=1, generator=p.denoiser(steps=2))


@system(
    "LaMP",
    ("ps.feature-tap", "cp.cross-stream", "ss.early-exit"),
    simplified="A small mixture in place of a vision-language-action model.",
)
def lamp() -> DesignConfig:
    """Let a motion expert predict scene flow in one step and open its state to the action expert by gates."""
    trunk = p.mixture({"motion": ("future", "tap"), "control": ("action",)}, bridges={"control": ("motion",)})
    tap = FeatureTapConfig(generator=p.denoiser(steps=2), layer=1, evaluation=1)
    return p.tapped(
        "LaMP",
        p.POINT_FLOW,
        trunks={"main": trunk},
        estimators={"video": replace(tap, trunk="main"), "policy": p.denoiser()},
    )
