"""Memory: a spatial memory and past motion as encoders, spacing of the history, a store of solved tasks."""

from wamkit.memory.experience import Experience, ExperienceStore
from wamkit.memory.past_motion import PastMotion, PastMotionConfig
from wamkit.memory.scene import SceneMemory, SceneMemoryConfig
from wamkit.memory.sparse import sparse_history
from wamkit.memory.spatial import DrawnView, SpatialMemory

__all__ = [
    "DrawnView",
    "Experience",
    "ExperienceStore",
    "PastMotion",
    "PastMotionConfig",
    "SceneMemory",
    "SceneMemoryConfig",
    "SpatialMemory",
    "sparse_history",
]
