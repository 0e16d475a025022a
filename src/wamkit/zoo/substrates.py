"""Substrates: the joint denoiser of `couplings` with one other substrate per recipe.

Everything else is the same, so that differences in the table of ``make table`` come from the substrate.
"""

from __future__ import annotations

from dataclasses import replace

from wamkit.contract.protocols import SubstrateConfig
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.substrates import (
    ContactConfig,
    DepthMapConfig,
    HeatmapConfig,
    MotionVectorsConfig,
    NormalMapConfig,
    ObjectFlowConfig,
    OpticalFlowConfig,
    PatchPCAConfig,
    PixelsConfig,
    PolylineConfig,
    PoseStreamConfig,
    ProgressConfig,
    RGBDConfig,
    SegmentationConfig,
    TeacherFeatureConfig,
    TracksConfig,
    WrenchConfig,
)
from wamkit.zoo.couplings import joint, joint_denoiser


def joint_in(name: str, substrate: SubstrateConfig) -> DesignConfig:
    """Joint denoiser ``p(s,a|c)`` whose future is a stream of ``substrate``."""
    shared = joint()
    futures = {stream: FutureConfig("place", future.offsets) for stream, future in shared.futures.items()}
    return replace(shared, name=name, substrates={"place": substrate}, futures=futures)


def pixels() -> DesignConfig:
    """Joint denoiser of action and future RGB frames as raw pixels (survey eq. 13)."""
    return joint_in("pixels", PixelsConfig(shrink=4, patch=8))


def rgbd() -> DesignConfig:
    """Joint denoiser of action and future colour and depth of all cameras in one latent grid (as TesserAct)."""
    return joint_in("rgbd", RGBDConfig(codec=PatchPCAConfig(patch=32, features=64)))


def teacher() -> DesignConfig:
    """Joint denoiser of action and future features of a frozen teacher (survey eq. 14)."""
    return joint_in("teacher", TeacherFeatureConfig(features=24, grid=2))


def force() -> DesignConfig:
    """Joint denoiser of action and future contact forces (as AdaWorldPolicy)."""
    return joint_in("force", WrenchConfig())


def contact() -> DesignConfig:
    """Joint denoiser of action and future contacts between hand and object (survey eq. 16)."""
    return joint_in("contact", ContactConfig())


def object_flow() -> DesignConfig:
    """Joint denoiser of action and the exact flow of the object's pixels, with visibility (as Dream2Flow)."""
    return joint_in("object_flow", ObjectFlowConfig(grid=8))


def optical_flow() -> DesignConfig:
    """Joint denoiser of action and dense optical flow, estimated from pictures alone (as AVDC)."""
    return joint_in("optical_flow", OpticalFlowConfig(grid=8))


def tracks() -> DesignConfig:
    """Joint denoiser of action and future tracks of points on the object, with visibility (as Im2Flow2Act)."""
    return joint_in("tracks", TracksConfig())


def polyline() -> DesignConfig:
    """Joint denoiser of action and the gripper's future path in the picture (as TraceGen)."""
    return joint_in("polyline", PolylineConfig())


def pose_stream() -> DesignConfig:
    """Joint denoiser of action and future poses of gripper and objects (as 3DFlowAction)."""
    return joint_in("pose_stream", PoseStreamConfig())


def depth() -> DesignConfig:
    """Joint denoiser of action and future depth maps of the scene (survey eq. 15)."""
    return joint_in("depth", DepthMapConfig())


def segmentation() -> DesignConfig:
    """Joint denoiser of action and future masks of arm, gripper and object (survey eq. 16)."""
    return joint_in("segmentation", SegmentationConfig())


def heatmap() -> DesignConfig:
    """Joint denoiser of action and a heatmap of the future end effector over the picture (survey eq. 16)."""
    return joint_in("heatmap", HeatmapConfig())


def progress() -> DesignConfig:
    """Joint denoiser of action and future task progress (survey eq. 16)."""
    return joint_in("progress", ProgressConfig())


def motion_vectors() -> DesignConfig:
    """Joint denoiser of action and block motion vectors as in a video codec (as HiF-VLA)."""
    return joint_in("motion_vectors", MotionVectorsConfig())


def normals() -> DesignConfig:
    """Joint denoiser of action and future surface normals of the scene (as TesserAct)."""
    return joint_in("normals", NormalMapConfig())


def keyframes() -> DesignConfig:
    """Joint denoiser of action, the task's next key frame and its progress (as SWEET, GR-MG)."""
    shared = joint()
    streams = {
        "future": FutureConfig("video", milestones=1),
        "reached": FutureConfig("progress", milestones=1),
    }
    world = joint_denoiser()
    return replace(
        shared,
        name="keyframes",
        substrates={**shared.substrates, "progress": ProgressConfig()},
        futures=streams,
        estimators={"world": replace(world, absent={**world.absent, "reached": 0.4})},
        factors=(Factor(("future", "reached", "action"), (), "world"),),
        loss_weights={"future": 0.25, "reached": 0.25},
    )
