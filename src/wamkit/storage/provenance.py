"""Provenance of what is written: versions of the packages that decide it, and the commit."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

PACKAGES = (
    "torch",
    "numpy",
    "mujoco",
    "metaworld",
    "gym-aloha",
    "mink",
    "gymnasium",
    "torchmetrics",
    "wamkit",
)

# Packages whose version decides what happens in an episode.
DECISIVE = ("wamkit", "mujoco", "metaworld", "gym-aloha", "mink")


def decisive(found: Mapping[str, str]) -> dict[str, str]:
    """Those of :func:`versions` without which a result cannot be gone on with: of wamkit and the simulators."""
    return {name: found[name] for name in DECISIVE if name in found}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result, plus the commit if there is one.

    A package that is not installed is left out.
    """
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = git_commit(Path(__file__).parent)
    return installed if commit is None else {**installed, "commit": commit}


def git_commit(folder: Path) -> str | None:
    """Commit checked out at ``folder`` (``+changes`` when tracked files differ), or None outside git."""
    try:
        head = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10
        )
        changed = subprocess.run(
            ["git", "-C", str(folder), "diff", "--quiet", "HEAD"], capture_output=True, timeout=10
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    if head.returncode != 0:
        return None
    return head.stdout.strip() + ("+changes" if changed.returncode == 1 else "")
