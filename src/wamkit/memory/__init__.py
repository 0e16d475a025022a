"""Memory: which old frames a design sees, and which solved tasks a new one starts from."""

from wamkit.memory.experience import Experience, ExperienceStore
from wamkit.memory.sparse import sparse_history

__all__ = ["Experience", "ExperienceStore", "sparse_history"]
