"""What several estimators require of the streams and the trunk they are built with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wamkit.contract.protocols import Trunk
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError


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


def require_levels(
    outputs: Sequence[StreamSpec],
    given: Sequence[StreamSpec],
    named: Mapping[str, Mapping[str, float]],
    *,
    discrete: bool,
    shared: str | None,
    reader: str,
) -> None:
    """What every estimator with a noise level per stream requires; raises :class:`ConfigError`.

    Args:
        outputs: streams it generates, all discrete or all continuous.
        given: streams it reads.
        named: settings ``nfe``, ``absent`` and ``clean``, each by stream name.
        discrete: which of both the outputs have to be.
        shared: the setting that gives all streams one level, or None when each draws its own.
        reader: who asks.
    """
    require_disjoint(outputs, given, reader)
    for spec in outputs:
        spec.require(discrete=discrete, reader=reader)
    names = sorted(spec.name for spec in outputs)
    for key, mapping in named.items():
        for name in mapping:
            if name not in names:
                raise ConfigError(f"{reader}: `{key}` names stream {name!r}, but it generates {names}")
    if shared is not None and (named["absent"] or named["clean"]):
        raise ConfigError(f"{reader}: `absent` and `clean` need {shared}: independent")
