"""Features of the context of a design: what its encoders and its trunk pass on, for probes.

Beside them, what the encoders of pictures pass on once they are trained for the probed values and for nothing else: an
error that remains then is one of the pictures or of the architecture, not of what the policy's training asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.contract.types import Observation, to_device
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.errors import ConfigError

STATE = "state as recorded"
PICTURES = "tokens of the pictures"
TOKENS = "tokens of all encoders"
TRUNK = "last layer of the trunk"
TUNED = "pictures, encoders trained for positions"


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
        observation = _observed(design, dataset, part)
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


Frames = tuple[Dataset, NDArray[np.int64]]


def tuned_features(
    design: Design,
    shown: tuple[Dataset, NDArray[np.int64], NDArray[np.float64]],
    unseen: Frames,
    steps: int,
    seed: int,
    batch_size: int = 64,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (N, D) of the pictures at shown and unseen frames, from encoders trained for ``values``.

    Copies of the design's encoders go on from its weights, without their augmentation, with a linear head (Adam with a
    cosine schedule, squared error of standardised values). The design stays as it is.

    Args:
        design: design in evaluation mode.
        shown: dataset, frames (N,) and values (N, K) to train on.
        unseen: dataset and frames.
        steps: steps of training.
        seed: seed of head and batches.
        batch_size: frames per step.

    Raises:
        ConfigError: no encoder of the design sees pictures.
    """
    dataset, index, values = shown
    seeing = encoders_of_pictures(design, _observed(design, dataset, index[:1]))
    if not seeing:
        raise ConfigError(f"design {design.name!r} has no encoder that sees pictures")
    encoders = nn.ModuleList(copy.deepcopy(design.encoders[name]) for name in seeing).eval()
    rng = np.random.default_rng(seed)
    target = torch.from_numpy((values - values.mean(0)) / values.std(0).clip(1e-9)).float().to(design.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = _pictures(encoders, _observed(design, dataset, index[:1]))
        head = nn.Linear(first.shape[1], target.shape[1]).to(design.device)
    optimiser = torch.optim.Adam([*encoders.parameters(), *head.parameters()], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = rng.integers(len(index), size=batch_size)
        optimiser.zero_grad()
        read = head(_pictures(encoders, _observed(design, dataset, index[rows])))
        F.mse_loss(read, target[rows]).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        found = [
            np.concatenate([
                _pictures(encoders, _observed(design, data, part)).double().cpu().numpy()
                for part in np.array_split(frames, -(-len(frames) // batch_size))
            ])
            for data, frames in ((dataset, index), unseen)
        ]  # fmt: skip
    return found[0], found[1]


def _observed(design: Design, dataset: Dataset, index: NDArray[np.int64]) -> Observation:
    """What the design observes at frames when it acts."""
    return to_device(dataset.windows(index, design.window).acting(design.window), design.device)


def _pictures(encoders: nn.ModuleList, observation: Observation) -> Tensor:
    """Tokens of encoders as one row per frame (B, D), zero where they must not be read."""
    tokens, pads = zip(*(encoder(observation) for encoder in encoders), strict=True)
    return torch.cat(tokens, dim=1).masked_fill(torch.cat(pads, dim=1)[..., None], 0.0).flatten(1)
