"""Faults of the operating system while a file is written: which file, and on a full disk how many bytes it needs."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Libraries that write files in native code put the system's error number into the text of an error of their own.
NUMBER_IN_TEXT = re.compile(r"os error (\d+)")
WRITERS = ("safetensors_rust", "safetensors")  # modules of such errors
TORCH_WRITER = (
    "inline_container.cc"  # place that torch names when it cannot write a file; the number is not told
)


def system_fault(error: BaseException) -> OSError | None:
    """The error of the operating system that ``error`` is or tells of, or None."""
    if isinstance(error, OSError):
        return error
    number = NUMBER_IN_TEXT.search(str(error))
    if number is not None and type(error).__module__.split(".")[0] in WRITERS:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    if isinstance(error, RuntimeError) and TORCH_WRITER in str(error):
        return OSError(errno.ENOSPC, "a file could not be written, as when the disk is full")
    return None


@contextmanager
def writing(path: Path, needed: int) -> Iterator[None]:
    """Name a file in the errors of the operating system that occur while it is written.

    Args:
        path: the file or folder as the user knows it; the system names a temporary one, or none when a disk is full.
        needed: bytes that it needs, which are named beside those that are free when the disk is full.

    Raises:
        OSError: the operating system refused something; those that libraries report as errors of their own included.
    """
    from safetensors import SafetensorError  # only who writes weights pays for it

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        named = _named(error, path, needed)
        if named is not None:
            raise named from error
        raise


def _named(error: BaseException, path: Path, needed: int) -> OSError | None:
    fault = system_fault(error)
    if fault is None or fault.errno is None:
        return None
    text = fault.strerror or os.strerror(fault.errno)
    if fault.errno in FULL:
        text = f"{text} ({needed} bytes needed, {free_bytes(path)} free)"
    return OSError(fault.errno, text, str(path))


def free_bytes(path: Path) -> int:
    """Bytes that are free where ``path`` lies or will lie."""
    there = next(p for p in (path, *Path(os.path.abspath(path)).parents) if p.exists())
    return shutil.disk_usage(there).free
