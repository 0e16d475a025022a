"""Machine of a measurement: device, threads, memory."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

import torch


def device_names(device: torch.device) -> dict[str, str]:
    """Name of the processor, number of usable cores, and name of the GPU if one is used."""
    names = {"policy": str(device), "cpu": _cpu_name(), "cores": str(len(os.sched_getaffinity(0)))}
    if device.type == "cuda":
        names["gpu"] = torch.cuda.get_device_name(device)
    return names


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_memory_mb(device: torch.device) -> dict[str, float]:
    """Peak memory in MB: of this process, of its largest finished child, and on the GPU.

    Peaks of the process and the GPU count from :func:`restart_peak_memory`, or from the start.
    """
    own = _peak_since_restart()
    # Linux counts ru_maxrss in KiB.
    peak = {
        "process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 if own is None else own,
        "largest_worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6,
    }
    if device.type == "cuda":
        peak["gpu"] = torch.cuda.max_memory_allocated(device) / 1e6
    return peak


def restart_peak_memory(device: torch.device) -> bool:
    """Reset the peaks of this process and of the GPU that :func:`peak_memory_mb` reports.

    Returns:
        true if the system supports it for the process (Linux does, if ``/proc/self/clear_refs`` can be written).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _peak_since_restart() is not None


def _peak_since_restart() -> float | None:
    """Peak resident memory as the kernel tracks it, MB; None if it does not."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peaks[0]) * 1024 / 1e6 if peaks else None


def device_of(policy: object) -> torch.device:
    """Device of a policy: that of its first parameter, or the CPU without parameters."""
    parameter = next(policy.parameters(), None) if isinstance(policy, torch.nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work, so that a clock measures the work and not its launch."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
