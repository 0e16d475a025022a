"""A stand-in for the four names of torchvision that LeRobot's dataset module uses (docs/interop_lerobot.md).

It is put on the path of the LeRobot interpreter alone, and only where torchvision is not installed there.
"""

from torchvision import io, transforms

__all__ = ["io", "set_video_backend", "transforms"]


def set_video_backend(backend: str) -> None:
    """There is one backend here."""
    if backend != "pyav":
        raise ValueError(f"only the backend 'pyav' is available, not {backend!r}")
