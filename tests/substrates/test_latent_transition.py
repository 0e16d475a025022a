"""Latent transitions: codes lead to the frame after, compose and reverse, and are fitted without actions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from support import ToyWindows, data_spec
from wamkit.contract.types import WindowSpec
from wamkit.errors import ConfigError
from wamkit.substrates import LatentTransition, LatentTransitionConfig

CONFIG = LatentTransitionConfig(features=8, side=4, steps=200, gap=3)


def fitted(**changes: float) -> LatentTransition:
    torch.manual_seed(0)
    part = replace(CONFIG, **changes).build(data_spec())
    part.fit(ToyWindows(), seed=0)
    return part


def triple(part: LatentTransition) -> list[torch.Tensor]:
    spec = WindowSpec(observation=(-6, -3, 0), horizon=1)
    frames = part.frames(ToyWindows().windows(np.arange(20, 380, 12), spec).observation)
    return [frames[:, i] for i in range(3)]


def test_a_code_leads_to_the_frame_after_it() -> None:
    part = fitted()
    first, _, third = triple(part)
    code = part.code(first, third)
    right = (part.reached(first, code) - third).square().mean()
    assert right < 0.5 * (part.reached(first, code.roll(5, 0)) - third).square().mean()
    assert right < 0.8 * (first - third).square().mean()


def test_codes_compose_and_reverse_because_they_are_made_to() -> None:
    errors = []
    for algebra in (0.0, 1.0):
        part = fitted(algebra=algebra)
        errors.append(float(part.terms(*triple(part))[1]))
    assert errors[1] < 0.3 * errors[0]


def test_it_is_frozen_and_relative_to_now() -> None:
    part = fitted()
    assert not any(p.requires_grad for p in part.parameters())
    now = ToyWindows().windows(np.array([5, 50]), WindowSpec(horizon=1)).observation
    later = ToyWindows().windows(np.array([9, 54]), WindowSpec(horizon=1)).observation
    values = part.encode(later, now)
    assert values.shape == (2, 1, 1, 8)
    assert not torch.equal(values, part.encode(later, later))
    with pytest.raises(ConfigError, match="no camera 'nowhere'"):
        replace(CONFIG, cameras=("nowhere",)).build(data_spec())
