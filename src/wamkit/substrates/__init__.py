"""Substrates: representation spaces of predicted futures."""

from wamkit.substrates.codecs import Codec, CodecConfig, PatchPCA, PatchPCAConfig, PatchVQ, PatchVQConfig
from wamkit.substrates.ema_feature import EmaFeature, EmaFeatureConfig
from wamkit.substrates.episode_progress import (
    Progress,
    ProgressConfig,
    Reward,
    RewardConfig,
    Value,
    ValueConfig,
)
from wamkit.substrates.heatmap import Heatmap, HeatmapConfig
from wamkit.substrates.label_maps import DepthMap, DepthMapConfig, Segmentation, SegmentationConfig
from wamkit.substrates.latent_transition import LatentTransition, LatentTransitionConfig
from wamkit.substrates.motion_vectors import MotionVectors, MotionVectorsConfig
from wamkit.substrates.moving_frames import MovingFrames, MovingFramesConfig
from wamkit.substrates.normals import NormalMap, NormalMapConfig
from wamkit.substrates.object_flow import ObjectFlow, ObjectFlowConfig, Tracks, TracksConfig
from wamkit.substrates.optical_flow import OpticalFlow, OpticalFlowConfig
from wamkit.substrates.pixel_latent import PixelLatent, PixelLatentConfig
from wamkit.substrates.pixels import RGBD, Pixels, PixelsConfig, RGBDConfig
from wamkit.substrates.polyline import Polyline, PolylineConfig
from wamkit.substrates.pose_stream import PoseStream, PoseStreamConfig
from wamkit.substrates.pretrained_codec import PretrainedCodec, PretrainedCodecConfig
from wamkit.substrates.proprioception import Proprioception, ProprioceptionConfig
from wamkit.substrates.quantized import Quantized, QuantizedConfig
from wamkit.substrates.sensor_picture import (
    AudioFuture,
    AudioFutureConfig,
    TactileFuture,
    TactileFutureConfig,
)
from wamkit.substrates.sensor_values import SensorValues, SensorValuesConfig
from wamkit.substrates.teacher_feature import TeacherFeature, TeacherFeatureConfig
from wamkit.substrates.teachers import (
    PretrainedTeacher,
    PretrainedTeacherConfig,
    SelfTrained,
    SelfTrainedConfig,
    Teacher,
    TeacherConfig,
)
from wamkit.substrates.touch_divergence import TouchDivergence, TouchDivergenceConfig
from wamkit.substrates.vae import VAE, VAEConfig
from wamkit.substrates.vlm_token import VlmToken, VlmTokenConfig
from wamkit.substrates.wrench import Contact, ContactConfig, Wrench, WrenchConfig

__all__ = [
    "RGBD",
    "VAE",
    "AudioFuture",
    "AudioFutureConfig",
    "Codec",
    "CodecConfig",
    "Contact",
    "ContactConfig",
    "DepthMap",
    "DepthMapConfig",
    "EmaFeature",
    "EmaFeatureConfig",
    "Heatmap",
    "HeatmapConfig",
    "LatentTransition",
    "LatentTransitionConfig",
    "MotionVectors",
    "MotionVectorsConfig",
    "MovingFrames",
    "MovingFramesConfig",
    "NormalMap",
    "NormalMapConfig",
    "ObjectFlow",
    "ObjectFlowConfig",
    "OpticalFlow",
    "OpticalFlowConfig",
    "PatchPCA",
    "PatchPCAConfig",
    "PatchVQ",
    "PatchVQConfig",
    "PixelLatent",
    "PixelLatentConfig",
    "Pixels",
    "PixelsConfig",
    "Polyline",
    "PolylineConfig",
    "PoseStream",
    "PoseStreamConfig",
    "PretrainedCodec",
    "PretrainedCodecConfig",
    "PretrainedTeacher",
    "PretrainedTeacherConfig",
    "Progress",
    "ProgressConfig",
    "Proprioception",
    "ProprioceptionConfig",
    "Quantized",
    "QuantizedConfig",
    "RGBDConfig",
    "Reward",
    "RewardConfig",
    "Segmentation",
    "SegmentationConfig",
    "SelfTrained",
    "SelfTrainedConfig",
    "SensorValues",
    "SensorValuesConfig",
    "TactileFuture",
    "TactileFutureConfig",
    "Teacher",
    "TeacherConfig",
    "TeacherFeature",
    "TeacherFeatureConfig",
    "TouchDivergence",
    "TouchDivergenceConfig",
    "Tracks",
    "TracksConfig",
    "VAEConfig",
    "Value",
    "ValueConfig",
    "VlmToken",
    "VlmTokenConfig",
    "Wrench",
    "WrenchConfig",
]
