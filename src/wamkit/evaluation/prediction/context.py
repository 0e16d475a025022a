"""Features of the context of a design: what its encoders and its trunk pass on, for probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wamkit.contract.types import Observation, to_device
from wamkit.data import Dataset
from wamkit.design import Design

STATE = "state as recorded"
PICTURES = "tokens of the pictures"
TOKENS = "tokens of all encoders"
TRUNK = "last layer of the trunk"


@torch.no_grad()
def context_features(
    design: Design, dataset: Dataset, index: NDArray[np.int64], batch_size: int = 64
) -> dict[str, NDArray[np.float64]]:
    """Features (N, D) of the context at frames, by what they are taken from.

    ``STATE`` is the robot's state alone; ``PICTURES`` are the tokens of the encoders that see pictures, ``TOKENS``
    those of all encoders, ``TRUNK`` the values of the last layer of every trunk, which estimators read. What the
    design does not have is left out.

    Args:
        design: design in evaluation mode.
        dataset: demonstrations as the design sees them, with the extras that it reads.
        index: (N,), frame numbers.
        batch_size: frames per call.
    """
    parts: dict[str, list[NDArray[np.float64]]] = {}
    seeing: tuple[str, ...] | None = None
    for part in np.array_split(index, -(-len(index) // batch_size)):
        observation = dataset.windows(part, design.training_window).acting(design.window)
        observation = to_device(observation, design.device)
        seeing = encoders_of_pictures(design, observation) if seeing is None else seeing
        for name, values in _features(design, observation, seeing).items():
            parts.setdefault(name, []).append(values.flatten(1).double().cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def _features(design: Design, observation: Observation, seeing: Sequence[str]) -> dict[str, Tensor]:
    tokens = {name: _tokens(design, name, observation) for name in dict(design.encoders.items())}
    found: dict[str, Tensor] = {STATE: observation.state}
    if seeing:
        found[PICTURES] = torch.cat([tokens[name] for name in seeing], dim=1)
    found[TOKENS] = torch.cat(list(tokens.values()), dim=1)
    caches = design.encode_context(observation).values()
    if caches:
        found[TRUNK] = torch.cat([cache.values[-1].flatten(1) for cache in caches], dim=1)
    return found


def _tokens(design: Design, name: str, observation: Observation) -> Tensor:
    """Tokens (B, N, D) of one encoder, zero where they must not be read."""
    tokens, pad = design.encoders[name](observation)
    return tokens.masked_fill(pad[..., None], 0.0)


@torch.no_grad()
def encoders_of_pictures(design: Design, observation: Observation) -> tuple[str, ...]:
    """Encoders whose tokens change when the pictures of an observation are inverted."""
    inverted = replace(observation, images={name: 255 - image for name, image in observation.images.items()})
    return tuple(
        name
        for name in dict(design.encoders.items())
        if not torch.equal(_tokens(design, name, observation), _tokens(design, name, inverted))
    )
