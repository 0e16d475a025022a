"""What several estimators require of the streams and the trunk they are built with."""

from __future__ import annotations

from collections.abc import Sequence

from wamkit.errors import ConfigError
from wamkit.protocols import Trunk
from wamkit.streams import StreamSpec


def require_trunk(trunk: Trunk | None, reader: str) -> Trunk:
    """Return the trunk, or raise :class:`ConfigError` for an estimator that was configured without one."""
    if trunk is None:
        raise ConfigError(
            f"{reader} runs on a trunk: set its `trunk` to the name of one of the design's trunks"
        )
    return trunk


def require_disjoint(outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], reader: str) -> None:
    """Raise :class:`ConfigError` when one factor generates a stream that another factor of the same estimator reads.

    Training would see the stream once and inference twice.
    """
    both = sorted({s.name for s in outputs} & {s.name for s in given})
    if both:
        raise ConfigError(
            f"{reader}: one factor generates {', '.join(both)} and another reads it. Name all streams in one "
            f"factor, or use two estimators on one trunk."
        )
