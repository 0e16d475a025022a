"""Registry of the oracles."""

from __future__ import annotations

from collections.abc import Callable

from cases import Case

Oracle = Callable[[Case], None]
ORACLES: dict[str, Oracle] = {}


def oracle(block: str) -> Callable[[Oracle], Oracle]:
    """Register a function as the oracle of a building block."""

    def register(check: Oracle) -> Oracle:
        assert block not in ORACLES, block
        ORACLES[block] = check
        return check

    return register


def calls(part: object, method: str) -> list[int]:
    """Count the calls of a method of one object from now on: a list that grows by one per call."""
    made: list[int] = []
    inner = getattr(part, method)

    def counted(*args: object, **more: object) -> object:
        made.append(1)
        return inner(*args, **more)

    setattr(part, method, counted)
    return made
