"""Oracles of futures of the robot's own senses and of scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.drawing import another, graded, sampled, terms
from oracles.registry import oracle
from wamkit.contract.protocols import Substrate
from wamkit.contract.specs import ACTION, CLOCK
from wamkit.contract.streams import Sensor
from wamkit.contract.types import Observation, WindowSpec
from wamkit.design import Design
from wamkit.substrates import AudioFuture


@oracle("ps.sensor-latent")
def sensor_latent(case: Case) -> None:
    """A sensor survives its latent; outcomes that look alike and feel different are two futures and two actions."""
    design = sharpen(case.untrained())
    felt = [
        n for n in case.futures() if design.substrate(n).category == "sensor" and design.substrate(n).extras
    ]
    assert felt, "no future is the signal of a sensor"
    rows = case.data.windows(np.arange(2, 30, 3), WindowSpec()).observation
    for name in felt:
        substrate = design.substrate(name)
        survives(substrate, rows)
        touched = replace(
            rows, extras={**rows.extras, **{k: shaken(rows.extras[k]) for k in substrate.extras}}
        )
        assert not torch.equal(substrate.encode(rows, rows), substrate.encode(touched, rows)), name
        for other in case.futures():
            if not set(design.substrate(other).extras) & set(substrate.extras):
                looks = [design.substrate(other).encode(seen, rows) for seen in (rows, touched)]
                assert torch.equal(*looks), f"{other!r} sees what only {name!r} can feel"
        if case.acts and any(name in step for step in design.graph.sees(ACTION)):
            separated(case, design, name)


def survives(substrate: Substrate, rows: Observation) -> None:
    """Decoded signals are nearer to the true ones than the mean signal is."""
    values = substrate.encode(rows, rows)
    if isinstance(substrate, AudioFuture):
        pairs = [(substrate.level(values), substrate.mel(rows.extras[substrate.config.sensor].float()))]
    else:
        pairs = []
        for reading in substrate.readings(values).values():
            if not isinstance(reading.shows, Sensor):
                continue  # a proxy, which is no signal of its own
            true = rows.extras[reading.shows.name]
            if reading.kind == "picture":
                true = (true.float() / (1.0 if true.is_floating_point() else 255.0)).movedim(-1, 2)
            pairs.append((reading.values, true.float().reshape(reading.values.shape)))
    for decoded, true in pairs:
        error, spread = (decoded - true).square().mean(), (true - true.mean(dim=(0, 1))).square().mean()
        assert error < spread or error < 1e-6, (float(error), float(spread))


def shaken(value: Tensor) -> Tensor:
    """Another signal of the same kind."""
    return 255 - value if not value.is_floating_point() else value.flip(0) + 0.1


def separated(case: Case, design: Design, name: str) -> None:
    """Two futures that differ in this sense only give two actions."""
    names = [n for n in case.futures() if not design.graph.ancestors([n]) & {ACTION}]
    found = sampled(case, design, names).values
    made = {n: found[n] for n in names}
    other = {**made, name: another(made[name], vocabulary=design.streams[name].vocabulary)}
    acts = [sampled(case, design, [ACTION], given=given).values[ACTION] for given in (made, other)]
    assert not torch.equal(*acts), f"the action does not feel {name!r}"


@oracle("pt.value-head")
def value_head(case: Case) -> None:
    """A trained score tells success from failure, rises towards it, and acting uses it."""
    design = case.untrained()
    scores = [n for n in case.futures() if design.substrate(n).standing == "score"]
    assert scores, "the recipe predicts no score"
    rows = case.data.windows(np.arange(0, 38), WindowSpec()).observation
    for name in scores:
        substrate = design.substrate(name)
        values = substrate.encode(rows, rows).flatten()
        assert bool((values.diff() >= 0).all()), "the score does not rise towards success"
        assert values[-1] > values[0]
        separates(substrate, rows)
        assert graded(design.train(), terms(case, design)[name]), f"nothing learns {name!r}"
        used(case, sharpen(design.eval()), name)


def separates(substrate: Substrate, rows: Observation) -> None:
    """Area under the curve of success against failure, over the same moments of an episode: 1 for values."""
    clock = rows.extras[CLOCK].clone()
    failed = replace(
        rows, extras={**rows.extras, CLOCK: torch.cat((clock[..., :2], clock[..., 2:] * 0), dim=-1)}
    )
    good, bad = (substrate.encode(seen, seen).flatten() for seen in (rows, failed))
    if substrate.variant == "value":
        assert bool((good[:, None] > bad[None]).all()), (
            "a failed episode is worth as much as a successful one"
        )


def used(case: Case, design: Design, name: str) -> None:
    """The action reads the score, or a planner or a guide goes by it."""
    planner, guide = design.planner, design.config.guide if "guide" in vars(design.config) else None
    if planner is not None and name in repr(case.config.planner):
        return
    if guide is not None and name in repr(guide):
        return
    assert any(name in step for step in design.graph.sees(ACTION)), f"no action depends on {name!r}"
    separated(case, design, name)
