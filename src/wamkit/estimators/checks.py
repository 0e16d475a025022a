"""Checks of the streams and the trunk that several estimators are built with."""

from __future__ import annotations

from collections.abc import Sequence

from wamkit.contract.protocols import Trunk
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError


def require_trunk(trunk: Trunk | None, reader: str) -> Trunk:
    """Return the trunk; raises :class:`ConfigError` when the estimator was configured without one."""
    if trunk is None:
        raise ConfigError(
            f"{reader} runs on a trunk: set its `trunk` to the name of one of the design's trunks"
        )
    return trunk


def require_disjoint(outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], reader: str) -> None:
    """Raise :class:`ConfigError` when one factor generates a stream that another of the same estimator reads.

    Training would contain the stream once and inference twice.
    """
    both = sorted({s.name for s in outputs} & {s.name for s in given})
    if both:
        raise ConfigError(
            f"{reader}: one factor generates {', '.join(both)} and another reads it. Name all streams in one "
            f"factor, or use two estimators on one trunk."
        )
