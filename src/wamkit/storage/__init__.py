"""Storage: files written whole and read with suspicion, and the claim of one process on what it writes."""

from wamkit.storage.claim import claim
from wamkit.storage.documents import read_json, read_text, write_atomically

__all__ = ["claim", "read_json", "read_text", "write_atomically"]
