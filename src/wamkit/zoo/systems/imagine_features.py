"""Systems whose action reads hidden states of what imagines, or latent actions read off what is imagined."""

from __future__ import annotations

from wamkit.controllers import Interactive, SingleStep, SlowFast
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.estimators import FeatureTapConfig, LatentActionConfig, SummaryConfig
from wamkit.memory import sparse_history
from wamkit.substrates import DepthMapConfig, OpticalFlowConfig, SegmentationConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

CLIP = (4, 8, 12, 16)


@system(
    "MoLA",
    ("ar.latent-action", "ps.pixel-latent"),
    simplified="Depth and meaning come from the simulator, motion from a flow estimate; codes are continuous.",
    choices="Eight entries per latent action.",
)
def mola() -> DesignConfig:
    """Read latent actions of meaning, depth and motion off an imagined rollout, one each, and mix them to act."""
    kinds = {
        "depth": DepthMapConfig(grid=4),
        "flow": OpticalFlowConfig(grid=4),
        "mask": SegmentationConfig(grid=4),
    }
    readers = {f"z_{kind}": kind for kind in kinds}
    return p.base(
        "MoLA",
        **p.futures({"future": (p.LATENT, (4, 8)), **{k: (place, (4, 8)) for k, place in kinds.items()}}),
        states=dict.fromkeys(readers, 8),
        trunks={name: p.transformer() for name in ("video", *readers, "policy")},
        estimators={
            "world": p.denoiser(trunk="video"),
            **{name: LatentActionConfig(trunk=name) for name in readers},
            "policy": p.denoiser(trunk="policy"),
        },
        factors=(
            Factor(("future",), (), "world"),
            *(Factor((name,), ("future",), name) for name in readers),
            *(Factor((kind,), (name,), name) for name, kind in readers.items()),
            Factor(("action",), tuple(readers), "policy"),
        ),
    )


@system(
    "VAG",
    ("ps.feature-tap", "ss.early-exit"),
    missing=("cp.cross-stream",),
    simplified="The action starts when the clip's latent is clean, not in lockstep with it.",
    choices="Four steps for either stream; the first layer in the last step of the video, pooled into 32 entries.",
)
def vag() -> DesignConfig:
    """Flow video and action in as many steps each, and pass the pooled clean latent of the video on."""
    tap = FeatureTapConfig(trunk="video", generator=p.denoiser(), layer=1, evaluation=4)
    return p.tapped(
        "VAG",
        (p.LATENT, (4, 8, 12, 16)),
        states={"pooled": 32},
        trunks={name: p.transformer() for name in ("video", "pool", "policy")},
        estimators={
            "video": tap,
            "pool": SummaryConfig(trunk="pool"),
            "policy": p.denoiser(trunk="policy"),
        },
        factors=(
            Factor(("future", "tap"), (), "video"),
            Factor(("pooled",), ("tap",), "pool"),
            Factor(("action",), ("pooled",), "policy"),
        ),
    )


@system(
    "VidMan",
    ("ps.feature-tap", "ss.early-exit", "dp.single-step"),
    simplified="A small video network, trained beside the policy but never by it, in place of a pretrained one.",
    choices="The last layer in the first evaluation, two frames ahead.",
)
def vidman() -> DesignConfig:
    """Freeze a video model of the robot's own domain and put a policy head on its features, once per tick."""
    tap = FeatureTapConfig(trunk="video", generator=p.denoiser(), layer=p.DEPTH, evaluation=1)
    return p.tapped(
        "VidMan",
        (p.LATENT, (4, 8)),
        estimators={"video": tap, "policy": p.denoiser(trunk="policy")},
        factors=(
            Factor(("future", "tap"), (), "video"),
            Factor(("action",), ("tap",), "policy", read="prediction"),
        ),
        controller=SingleStep(),
    )


@system(
    "GE-Act",
    ("ps.feature-tap", "cp.cross-stream", "dp.slow-fast"),
    simplified="Small experts in place of LTX-Video; the fast loop is a reflex on the planned path.",
    choices="One evaluation of the video and ten of the action.",
)
def ge_act() -> DesignConfig:
    """Denoise the video once and let an action expert read it layer by layer while it decodes its chunk by a flow."""
    trunk = p.mixture({"video": ("future", "tap"), "control": ("action",)}, bridges={"control": ("video",)})
    tap = FeatureTapConfig(trunk="main", generator=p.denoiser(), layer=1, evaluation=1)
    return p.tapped(
        "GE-Act",
        trunks={"main": trunk},
        estimators={"video": tap, "policy": p.denoiser(steps=10)},
        controller=SlowFast(execute=p.EXECUTE),
    )


@system(
    "EnerVerse",
    ("ps.feature-tap", "mm.sparse-history", "dp.interactive"),
    simplified="Chunks of four latent frames; the memory is what is observed, not what was generated.",
    choices="Gaps of the memory double; a new instruction is answered at once.",
)
def enerverse() -> DesignConfig:
    """Generate the future in chunks with a sparse memory of the past, and act on the generator's features on demand."""
    return p.tapped(
        "EnerVerse",
        (p.LATENT, CLIP),
        evaluation=2,
        observation=sparse_history(budget=24, tokens_per_frame=6, dense=1, growth=2.0),
        controller=Interactive(execute=p.EXECUTE),
    )
