"""One example per substrate: the joint denoiser of `couplings`, its substrate exchanged.

Everything else is the same, so a difference in the table of ``make table`` is one of the substrate.
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


def foreseen(name: str, place: SubstrateConfig) -> DesignConfig:
    """Joint design ``p(s,a|c)`` with its future in the given substrate."""
    shared = joint()
    futures = {stream: FutureConfig("place", future.offsets) for stream, future in shared.futures.items()}
    return replace(shared, name=name, substrates={"place": place}, futures=futures)


def pixels() -> DesignConfig:
    """Future RGB frames, generated as pixels (survey eq. 13)."""
    return foreseen("pixels", PixelsConfig(shrink=4, patch=8))


def rgbd() -> DesignConfig:
    """Future colour and depth of both views in one latent grid (as TesserAct)."""
    return foreseen("rgbd", RGBDConfig(codec=PatchPCAConfig(patch=32, features=64)))


def teacher() -> DesignConfig:
    """Future features of a frozen teacher, generated together with the action (survey eq. 14)."""
    return foreseen("teacher", TeacherFeatureConfig(features=24, grid=2))


def force() -> DesignConfig:
    """Future contact forces (as AdaWorldPolicy)."""
    return foreseen("force", WrenchConfig())


def contact() -> DesignConfig:
    """Future contact of each part of the hand with the object (survey eq. 16)."""
    return foreseen("contact", ContactConfig())


def object_flow() -> DesignConfig:
    """Exact flow of the object's pixels, with visibility (as Dream2Flow)."""
    return foreseen("object_flow", ObjectFlowConfig(grid=8))


def optical_flow() -> DesignConfig:
    """Dense flow, estimated from the pictures alone (as AVDC)."""
    return foreseen("optical_flow", OpticalFlowConfig(grid=8))


def tracks() -> DesignConfig:
    """Tracked points on the object, with visibility (as Im2Flow2Act)."""
    return foreseen("tracks", TracksConfig())


def polyline() -> DesignConfig:
    """The gripper's path in the picture (as TraceGen)."""
    return foreseen("polyline", PolylineConfig())


def pose_stream() -> DesignConfig:
    """Poses of gripper and objects (as 3DFlowAction)."""
    return foreseen("pose_stream", PoseStreamConfig())


def depth() -> DesignConfig:
    """Future depth of the scene (survey eq. 15)."""
    return foreseen("depth", DepthMapConfig())


def segmentation() -> DesignConfig:
    """Future masks of arm, gripper and object (survey eq. 16)."""
    return foreseen("segmentation", SegmentationConfig())


def heatmap() -> DesignConfig:
    """Future position of the end effector as a heat map over the picture (survey eq. 16)."""
    return foreseen("heatmap", HeatmapConfig())


def progress() -> DesignConfig:
    """Future progress of the task (survey eq. 16)."""
    return foreseen("progress", ProgressConfig())


def motion_vectors() -> DesignConfig:
    """Block motion since now, as a video codec finds it (as HiF-VLA)."""
    return foreseen("motion_vectors", MotionVectorsConfig())


def normals() -> DesignConfig:
    """Future surface normals of the scene (as TesserAct)."""
    return foreseen("normals", NormalMapConfig())


def keyframes() -> DesignConfig:
    """The next milestone of the task and the progress that it stands for (as SWEET, GR-MG)."""
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
