"""What the results of verbs are made of: values that are stored beside a result and compared with the next ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wamkit.config import encode
from wamkit.data import Dataset
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.storage.fingerprint import ALGORITHM, file_digest
from wamkit.storage.provenance import decisive, versions
from wamkit.views import ViewConfig

NOT_OF_THE_RESULT = ("image_memory_gb", "out", "overwrite")


def inputs_of(config: Any, **sources: Any) -> dict[str, Any]:
    """Everything that determines a result.

    Args:
        config: config of the verb.
        sources: field of the config that names a file or folder -> what stands for its content.

    Returns:
        the config's plain values without its output, content in place of names, and the versions of what simulates.
    """
    plain = {name: value for name, value in encode(config).items() if name not in NOT_OF_THE_RESULT}
    if plain.get("view") == encode(
        ViewConfig()
    ):  # results from before there was one are those of the default
        del plain["view"]
    return {**plain, **sources, "versions": decisive(versions())}


def checkpoint_mark(name: str | Path) -> str:
    """Digest of a checkpoint; raises :class:`wamkit.errors.ConfigError` where there is none."""
    return ALGORITHM + checkpoint_digest(find_checkpoint(name))


def dataset_mark(path: Path | None) -> str | None:
    """Fingerprint of a dataset, or None where none is named."""
    return None if path is None else ALGORITHM + Dataset(path).fingerprint()


def file_marks(files: Sequence[Path] | Mapping[str, Path]) -> dict[str, str]:
    """Digest of every file, by name; files without one are named by their order."""
    named = (
        files if isinstance(files, Mapping) else {f"run {i}": file for i, file in enumerate(files, start=1)}
    )
    return {name: file_digest(file) for name, file in named.items()}
