"""First systems: one of each coupling, written out as examples for the others."""

from __future__ import annotations

from wamkit.controllers import OpenLoop
from wamkit.design.config import DesignConfig
from wamkit.estimators import InverseDynamicsConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p


@system(
    "UniPi",
    ("ps.pixel-decoded", "ar.inverse-dynamics"),
    simplified="A denoiser of two frames on one small trunk in place of a video diffusion model with super-resolution.",
)
def unipi() -> DesignConfig:
    """Imagine the whole task as frames from text, then turn each pair of neighbouring frames into actions."""
    places = {"future": (p.FRAMES, (8, 16))}
    inverse = InverseDynamicsConfig(pairs=True)
    return p.cascade("UniPi", p.denoiser(), inverse, places, controller=OpenLoop())


@system(
    "mimic-video",
    ("ps.feature-tap", "ss.early-exit"),
    simplified="The tapped video model is small and trained with the policy, not a pretrained one.",
)
def mimic_video() -> DesignConfig:
    """Stop the video model at a chosen state of its generation and let the action read the features there."""
    return p.tapped("mimic-video", evaluation=2)


@system(
    "UWM",
    ("ss.decoupled-times", "ss.future-skip", "cp.joint"),
    simplified="One small trunk on PCA latents of single frames.",
)
def uwm() -> DesignConfig:
    """Give video and action noise levels of their own, so that one network is policy, video and both dynamics."""
    both = {"future": 0.4, "action": 0.1}, {"future": 0.1, "action": 0.1}
    return p.joint("UWM", p.denoiser(absent=both[0], clean=both[1]), {"future": p.LATENT})
