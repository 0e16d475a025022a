"""Oracles of futures in pictures, and of actions that are read off them."""

from __future__ import annotations

import numpy as np
import torch
from cases import Case

from oracles.registry import calls, oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import WindowSpec


def pictured(case: Case) -> list[str]:
    """Futures that can be decoded into pictures."""
    found = [name for name in case.futures() if case.design.substrate(name).decodable]
    found += [g for g in case.config.goals if case.design.substrate(g).decodable]
    assert found, "no future of the recipe can be decoded"
    return found


def round_trip(case: Case, name: str) -> None:
    """Frames survive the representation better than their mean picture does."""
    substrate = case.design.substrate(name)
    seen = case.data.windows(np.arange(2, 30, 7), WindowSpec()).observation
    shown = substrate.decode(substrate.encode(seen, seen))
    for camera, pictures in shown.items():
        true = seen.images[camera].float()
        assert pictures.shape == true.shape
        assert pictures.dtype == torch.uint8
        error = (pictures.float() - true).square().mean()
        flat = (true.mean(dim=(3, 4), keepdim=True) - true).square().mean()
        assert error < flat, (name, camera, float(error), float(flat))


@oracle("ps.pixel-decoded")
def decoded_frames(case: Case) -> None:
    """The future is frames at image resolution, and frames survive it."""
    for name in pictured(case):
        round_trip(case, name)
        assert "decoded" in dict(case.design.substrate(name).cell()).values(), "not frames but their latents"


@oracle("ps.pixel-latent")
def latent_frames(case: Case) -> None:
    """The future is a codec's grid that could be shown, and control never calls the decoder."""
    names = [n for n in pictured(case) if ("Pixel", "latent") in case.design.substrate(n).cell()]
    assert names, "no latent of pictures"
    design = case.untrained()
    decoded = [calls(design.substrate(name), "decode") for name in names]
    if case.acts:
        case.act(design, case.cut(design.window))
    assert not any(decoded), "control decodes the latents"
    for name in names:
        round_trip(case, name)


@oracle("ar.inverse-dynamics")
def inverse_dynamics(case: Case) -> None:
    """The action joins now to the predicted future: another future, another action."""
    design = case.design
    factor = design.graph.factor_of(ACTION)
    assert factor.given, "the action is given no future"
    observation = case.observation()
    made = design.sample(observation, list(factor.given), seeds=[1]).values
    actions = []
    for scale in (0.0, 3.0):
        given = {
            k: v if not v.is_floating_point() else v + scale * torch.randn_like(v) for k, v in made.items()
        }
        actions.append(case.act(design, observation, given=given))
    assert not torch.equal(*actions)
    assert torch.equal(case.act(design, observation, given=made), actions[0])
