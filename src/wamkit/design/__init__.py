"""Designs: parts composed by a config into one distribution p(s, a | c), checked, sampled and stored."""

from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.design.command_levels import AxisConfig, MotionConfig, PointConfig, WordsConfig
from wamkit.design.config import DesignConfig, FutureConfig, GuideConfig
from wamkit.design.graph import Factor
from wamkit.design.model import Design

# Imported last: this encoder holds a whole design, so it is registered once designs can be built.
from wamkit.design.teacher_context import TeacherContextConfig  # isort: skip

__all__ = [
    "AxisConfig",
    "Design",
    "DesignConfig",
    "Factor",
    "FutureConfig",
    "GuideConfig",
    "MotionConfig",
    "PointConfig",
    "TeacherContextConfig",
    "WordsConfig",
    "from_pretrained",
    "save_pretrained",
]
