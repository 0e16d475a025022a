"""Devices that torch can use, by name."""

from __future__ import annotations

import torch

from wamkit.errors import ConfigError


def find_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        ConfigError: torch knows no such device, or this machine does not have it.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()  # on `meta` there are no values to move
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        count = torch.cuda.device_count()
        there = ["cpu", *(f"cuda:{i}" for i in range(count))]
        raise ConfigError(f"device: no {name!r} on this machine. Known: {', '.join(there)}.") from error
    return device
