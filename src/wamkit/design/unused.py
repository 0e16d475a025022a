"""Refusal of what a config names and no part of the design uses: it would be built and fitted, and change nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from wamkit.contract.protocols import Substrate, Trunk
from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError


def check_unused(config: DesignConfig) -> None:
    """Raise :class:`ConfigError`, before anything is built, when the design would carry something that nothing uses.

    Futures, goals and taps that no factor generates are refused by the factorisation, a goal that no part reads by
    the windows.
    """
    named = {part.trunk for part in config.estimators.values()}
    fault = "is named by no estimator"
    if "main" in config.trunks and len(config.trunks) == 1:
        fault += " (it is there by default where `trunks` is not given; {} is none at all)"
    _refuse("trunk", config.trunks, named, fault, "`estimators.NAME.trunk`")
    drawn = {config.substrate_of(stream) for stream in (*config.futures, *config.goals)}
    _refuse(
        "substrate", config.substrates, drawn, "represents no stream", "`futures.NAME.substrate` or `goals`"
    )
    modelled = {factor.estimator for factor in config.factors}
    _refuse("estimator", config.estimators, modelled, "is not used by any factor", "`factors`")
    given = {stream for factor in config.factors for stream in factor.given}
    for kind, streams in (("state", config.states), ("tap", config.taps)):
        _refuse(kind, streams, given, "is read by no factor", "`given` of a factor")
    for i, factor in enumerate(config.factors):
        if factor.read == "prediction" and not factor.given:
            raise ConfigError(
                f"factor {i} of {', '.join(factor.generates)}: read 'prediction' is about given streams, and none is "
                f"given. Name them in `given`, or leave `read` out."
            )
    generated = {stream for factor in config.factors for stream in factor.generates}
    for name in config.loss_weights:
        if name in config.taps:
            raise ConfigError(
                f"loss_weights: {name!r} is a tap, a hidden state without a loss of its own. Weigh the future "
                f"{config.taps[name]!r} instead."
            )
        if name not in generated:
            raise ConfigError(
                f"loss_weights: no factor generates {name!r}, so it has no loss. Remove its weight, or name the stream "
                f"in `generates` of a factor."
            )


def check_encoders(config: DesignConfig, substrates: Mapping[str, Substrate]) -> None:
    """Raise :class:`ConfigError` when no trunk reads what the encoders see, and no substrate tracks one of them."""
    if config.encoders and not config.trunks and not any(part.moving for part in substrates.values()):
        raise ConfigError(
            f"encoders {', '.join(config.encoders)}: no estimator runs on a trunk, so nothing reads the context. "
            f"Remove them, or run an estimator on a trunk."
        )


def check_experts(config: DesignConfig, trunks: Mapping[str, Trunk]) -> None:
    """Raise :class:`ConfigError` when a trunk names a stream that never runs on it: its expert would learn nothing."""
    for name, trunk in trunks.items():
        runs = {
            stream
            for factor in config.factors
            if config.estimators[factor.estimator].trunk == name
            for stream in (*factor.generates, *factor.given)
        }
        unused = [stream for stream in trunk.streams if stream not in runs]
        if unused:
            raise ConfigError(
                f"trunk {name!r} names the stream {unused[0]!r}, but no factor on it generates or reads that. It runs "
                f"{', '.join(sorted(runs)) or 'nothing'}. Remove the name, or put a factor of the stream on the trunk."
            )


def _refuse(kind: str, declared: Iterable[str], used: Collection[str | None], fault: str, place: str) -> None:
    for name in declared:
        if name not in used:
            raise ConfigError(f"{kind} {name!r} {fault}. Remove it, or name it in {place}.")
