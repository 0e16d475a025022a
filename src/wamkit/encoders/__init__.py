"""Encoders: observation -> context tokens.

Two lie in rooms that they need more of: ``scene_memory`` (:class:`wamkit.memory.SceneMemoryConfig`), which remembers
voxels, and ``teacher_context`` (:class:`wamkit.design.TeacherContextConfig`), which holds another design.
"""

from wamkit.encoders.audio import AudioConfig, AudioEncoder
from wamkit.encoders.body_sensors import BodySensorEncoder, BodySensorsConfig
from wamkit.encoders.depth import DepthConfig, DepthEncoder
from wamkit.encoders.gestures import GestureEncoder, GesturesConfig
from wamkit.encoders.goal_image import GoalImageConfig, GoalImageEncoder
from wamkit.encoders.images import ImageEncoder, ImagesConfig
from wamkit.encoders.instruction import InstructionConfig, InstructionEncoder
from wamkit.encoders.instruction_bpe import InstructionBPEConfig, InstructionBPEEncoder, train_bpe
from wamkit.encoders.language_model import LanguageModelConfig, LanguageModelEncoder
from wamkit.encoders.masked import MaskedConfig, MaskedEncoder
from wamkit.encoders.metadata import MetadataConfig, MetadataEncoder
from wamkit.encoders.region import RegionConfig, RegionEncoder
from wamkit.encoders.soft_prompt import SoftPrompt, SoftPromptConfig
from wamkit.encoders.state import StateConfig, StateEncoder
from wamkit.encoders.tactile_image import TactileImageConfig, TactileImageEncoder
from wamkit.encoders.vision_language_model import VisionLanguageModelConfig, VisionLanguageModelEncoder
from wamkit.encoders.vision_model import VisionModelConfig, VisionModelEncoder

__all__ = [
    "AudioConfig",
    "AudioEncoder",
    "BodySensorEncoder",
    "BodySensorsConfig",
    "DepthConfig",
    "DepthEncoder",
    "GestureEncoder",
    "GesturesConfig",
    "GoalImageConfig",
    "GoalImageEncoder",
    "ImageEncoder",
    "ImagesConfig",
    "InstructionBPEConfig",
    "InstructionBPEEncoder",
    "InstructionConfig",
    "InstructionEncoder",
    "LanguageModelConfig",
    "LanguageModelEncoder",
    "MaskedConfig",
    "MaskedEncoder",
    "MetadataConfig",
    "MetadataEncoder",
    "RegionConfig",
    "RegionEncoder",
    "SoftPrompt",
    "SoftPromptConfig",
    "StateConfig",
    "StateEncoder",
    "TactileImageConfig",
    "TactileImageEncoder",
    "VisionLanguageModelConfig",
    "VisionLanguageModelEncoder",
    "VisionModelConfig",
    "VisionModelEncoder",
    "train_bpe",
]
