"""Memory: history offsets, spatial memory in voxels, and solved tasks as warm starts."""

from wamkit.memory.experience import Experience, ExperienceStore
from wamkit.memory.scene import SceneMemory, SceneMemoryConfig
from wamkit.memory.sparse import sparse_history
from wamkit.memory.spatial import DrawnView, SpatialMemory

__all__ = [
    "DrawnView",
    "Experience",
    "ExperienceStore",
    "SceneMemory",
    "SceneMemoryConfig",
    "SpatialMemory",
    "sparse_history",
]
