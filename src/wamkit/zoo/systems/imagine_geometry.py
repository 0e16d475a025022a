"""Systems that imagine geometry or maps beside frames: depth, flow, heatmaps, a scene in space."""

from __future__ import annotations

from wamkit.actions import PaintedConfig
from wamkit.design.config import DesignConfig
from wamkit.encoders import DepthConfig, ImagesConfig, InstructionConfig, StateConfig
from wamkit.estimators import ProposerConfig, RegressorConfig
from wamkit.memory import SceneMemoryConfig
from wamkit.planners import TreeSearchConfig
from wamkit.substrates import DepthMapConfig, HeatmapConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

VIEWS = {"heat": HeatmapConfig(grid=8), "wrist": HeatmapConfig(grid=8, camera="gripper")}


@system(
    "DriveDreamer-Policy",
    ("ps.multiview-4d", "cp.joint", "bb.mot"),
    simplified="Depth of the scene camera and small frames in place of driving video.",
    choices="Four noise steps for every expert; depth is a map of 4 x 4 cells.",
)
def drive_dreamer_policy() -> DesignConfig:
    """Let depth shape the video and both shape the action: three experts, each reading those before it, in one pass."""
    reads = {"depth": ("depth",), "video": ("depth", "video"), "action": ("depth", "video", "action")}
    experts = {"geometry": ("depth",), "pictures": ("video",), "control": ("action",)}
    return p.joint(
        "DriveDreamer-Policy",
        p.denoiser(reads=reads),
        {"depth": DepthMapConfig(grid=4), "video": p.FRAMES},
        trunks={"main": p.mixture(experts)},
        encoders={**p.base("base").encoders, "points": DepthConfig(grid=4)},
    )


@system(
    "MV-VDP",
    ("ps.multiview-4d", "ps.task-map", "cp.joint"),
    simplified="Small frames of two views in place of renderings of a point cloud by a Wan-class model.",
    choices="The maps that are read off show the action from three sides, a token each.",
)
def mv_vdp() -> DesignConfig:
    """Diffuse frames and gripper heatmaps of several views in one run and read the 3D action off the peaks of maps."""
    return p.joint(
        "MV-VDP",
        p.denoiser(levels="shared"),
        {"video": p.FRAMES, **VIEWS},
        encoders={**p.base("base").encoders, "points": DepthConfig(grid=4)},
        action=PaintedConfig(grid=8, ticks_per_token=4),
    )


@system(
    "ActionImages",
    ("ps.multiview-4d", "ps.task-map", "cp.joint"),
    simplified="Small frames of two views in place of video by a Wan-class model.",
    choices="A tick of the action is two RGB patches of the size of the video's own.",
)
def action_images() -> DesignConfig:
    """Paint the action as colour patches of the video, generate it with all views, and read it back."""
    return p.joint(
        "ActionImages",
        p.denoiser(levels="shared"),
        {"video": p.FRAMES, **VIEWS},
        action=PaintedConfig(grid=8, channels=3, ticks_per_token=4),
    )


@system(
    "3D-ALP",
    ("pl.tree-search", "mm.spatial-memory", "cp.rollout"),
    simplified="A learned predictor of pictures in place of a renderer; the memory is what it reads.",
    choices="A chunk in two pieces, three branches, nine simulations; the memory reaches back sixteen ticks.",
)
def alp_3d() -> DesignConfig:
    """Search a tree of actions, each rolled out in pictures of two views from a persistent memory of the scene."""
    encoders = {
        "images": ImagesConfig(),
        "state": StateConfig(),
        "instruction": InstructionConfig(),
        "scene": SceneMemoryConfig(),
    }
    return p.rollout(
        "3D-ALP",
        p.FRAMES,
        ProposerConfig(max_std=0.5),
        RegressorConfig(),
        TreeSearchConfig(candidates=3, pieces=2, iterations=9, separation=1e-6),
        shared=True,
        encoders=encoders,
        observation=(-16, -8, 0),
    )
