"""Memory: a spatial memory as an encoder, spacing of the observed history, and a store of solved tasks."""

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
