"""Memory: which old frames a design sees, where things were, and which solved tasks a new one starts from."""

from wamkit.memory.experience import Experience, ExperienceStore
from wamkit.memory.scene import SceneMemory, SceneMemoryConfig
from wamkit.memory.sparse import sparse_history
from wamkit.memory.spatial import SpatialMemory, View

__all__ = [
    "Experience",
    "ExperienceStore",
    "SceneMemory",
    "SceneMemoryConfig",
    "SpatialMemory",
    "View",
    "sparse_history",
]
