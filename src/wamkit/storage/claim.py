"""Claim of one process on an output, so that two runs never write into one place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wamkit.errors import BusyError


def claim_file(target: Path) -> Path:
    """File whose lock stands for ``target``; it lies beside it, because ``target`` itself may be replaced."""
    full = Path(os.path.abspath(target))
    return full.with_name(f".{full.name}.lock")


@contextmanager
def claim(target: Path) -> Iterator[None]:
    """Hold ``target`` (a file or a folder, which need not exist) for this process while the context lasts.

    The operating system frees the claim when the process ends, however it ends: a killed run leaves nothing to clear.
    A second claim is refused in the same process as well.

    Raises:
        BusyError: another run holds ``target``; the message names its process.
    """
    import platform  # only who writes pays for these: help starts without

    from filelock import FileLock, Timeout

    file = claim_file(target)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        holder = file.read_text(encoding="utf-8").strip() or "another process"
        raise BusyError(
            f"{target} is being written by {holder}. Wait until it ends, or choose another output."
        ) from error
    try:
        file.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()
