"""For controllers: what is seen as values of a future stream, and which streams they may supply."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wamkit.compose import DesignConfig
from wamkit.contract.protocols import Substrate
from wamkit.contract.types import Observation, Perceived, to_device
from wamkit.errors import ConfigError, did_you_mean
from wamkit.graph import FactorGraph


def perceived(
    config: DesignConfig, substrates: Mapping[str, Substrate], stream: str, device: torch.device
) -> Perceived:
    """How what is seen becomes values of ``stream``, with the design's own substrate.

    Args:
        config: the design.
        substrates: future stream -> its substrate.
        stream: name of the future stream.
        device: where the substrate lives.

    Raises:
        ConfigError: no such future stream, or its values are made of ground truth that is not there when acting.
    """
    if stream not in config.futures:
        raise ConfigError(
            f"design {config.name!r} has no future stream {stream!r} that a controller could compare with what is "
            f"seen. {did_you_mean(stream, config.futures)}"
        )
    substrate = substrates[stream]
    if config.futures[stream].milestones:
        raise ConfigError(
            f"future {stream!r}: milestones come at no fixed time, so a controller cannot compare them with what is "
            f"seen at one. Compare a stream with offsets."
        )
    if substrate.extras:
        raise ConfigError(
            f"future {stream!r}: its values are made of {', '.join(substrate.extras)}, which exist in training only, "
            f"so a controller cannot compare them with what is seen. Compare another stream."
        )

    @torch.inference_mode()
    def encode(seen: Observation, now: Observation) -> Tensor:
        return substrate.encode(to_device(seen, device), to_device(now, device))[:, 0]

    return Perceived(stream, config.futures[stream].offsets, encode)


def check_given(graph: FactorGraph, stream: str) -> None:
    """Raise :class:`ConfigError` unless ``stream`` is a goal that actions are made from or chosen by."""
    goals = graph.of_role("goal")
    if stream not in goals:
        raise ConfigError(
            f"{graph.formula()} has no goal stream {stream!r} that a controller could supply. "
            f"{did_you_mean(stream, goals)}"
        )
    if stream not in graph.ancestors(graph.of_role("action")) | {graph.goal}:
        raise ConfigError(f"no action of {graph.formula()} is made from the goal stream {stream!r}.")
