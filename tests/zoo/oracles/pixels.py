"""Oracles of futures in pictures, and of actions that are read off them."""

from __future__ import annotations

import numpy as np
import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.probes import drawn
from oracles.registry import calls, oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import WindowSpec
from wamkit.design import Design
from wamkit.estimators import InverseDynamics


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
    """The action joins now to the predicted future: another future, another action; what is masked has no effect."""
    design = sharpen(case.untrained())
    factor = design.graph.factor_of(ACTION)
    assert design.graph.ancestors([ACTION]) & design.graph.futures(), "the action is given no future"
    observation = case.cut(design.window)
    made = design.sample(observation, list(factor.given), seeds=[1]).values
    other = {name: drawn(design, name, 4) for name in made}
    first = case.act(design, observation, given=made)
    assert not torch.equal(first, case.act(design, observation, given=other))
    assert torch.equal(first, case.act(design, observation, given=made))
    now, later = case.observation(), case.observation((30,))
    trained = [case.act(case.design, seen, given=made) for seen in (now, later)]
    assert not torch.equal(*trained), "the action does not depend on now"
    part = case.estimator_of(ACTION, design)
    if isinstance(part, InverseDynamics):
        as_configured(case, design, part, made, other)


def as_configured(
    case: Case, design: Design, part: InverseDynamics, made: dict[str, Tensor], other: dict[str, Tensor]
) -> None:
    """What the variants promise: tokens cut off by the mask, neighbouring pairs, a base action."""
    observation = case.cut(design.window)
    if part.config.pairs:
        name = part.names[0]
        steps = part.given[name].spec.steps
        changed = {**made, name: made[name].clone()}
        changed[name][:, -1] = other[name][:, -1]
        first, second = (case.act(design, observation, given=g) for g in (made, changed))
        moved = (first != second).flatten(2).any(dim=2)[0].unflatten(0, (steps, -1)).any(dim=1)
        assert moved.tolist() == [False] * (steps - 1) + [True], "not a pair of neighbouring frames"
    if part.config.residual:
        fresh = case.untrained()
        inverse = case.estimator_of(ACTION, fresh)
        flat = torch.cat([made[name].flatten(1) for name in part.names], dim=1)
        base = inverse.base(flat)  # type: ignore[operator]
        said = case.act(fresh, observation, given=made)
        assert torch.allclose(said.flatten(1), base, atol=1e-5), "the correction does not start at nothing"
    for keeps in (False, True) if part.config.mask else ():
        for mask in part.masks.values():
            torch.nn.init.zeros_(mask.network[-1].weight)
            torch.nn.init.constant_(mask.network[-1].bias, 5.0 if keeps else -5.0)
        first, second = (case.act(design, observation, given=g) for g in (made, other))
        assert torch.equal(first, second) != keeps, "the mask does not decide what is read"
