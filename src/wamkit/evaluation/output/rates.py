"""Rates and counts of ticks in words, where a policy acts less often than its robot's control ticks."""

from __future__ import annotations


def rate(hz: float, every: float) -> str:
    """Ticks per second of a policy, and of its robot where it has more: one action lasts ``every`` control ticks."""
    if every == 1:
        return f"{hz:.3g} Hz"
    return f"{hz:.3g} Hz (the robot {hz * every:.3g} Hz: an action lasts {every:.3g} control ticks)"


def steps(count: str | int, every: float) -> str:
    """A number of actions, and the control ticks of the robot that they last where these are more."""
    if every == 1 or isinstance(count, str):
        return str(count)
    return f"{count} ({count * every:.4g} control ticks)"
