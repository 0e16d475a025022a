"""Storage: files written whole and read with suspicion, fingerprints, and the claim of one process on its output."""

from wamkit.storage.claim import claim
from wamkit.storage.documents import read_json, read_text, write_atomically
from wamkit.storage.fingerprint import require_same

__all__ = ["claim", "read_json", "read_text", "require_same", "write_atomically"]
