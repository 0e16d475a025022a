"""Systems with equal tuples differ in what they do, measured on an untrained design of each, and the test says in what.

Measured are: what a call returns and in which shapes, evaluations per stream, calls of every trunk, which losses there
are, which futures every executed action step sees, when the controller calls, which sensors are read, and whether
another picture, state, instruction or seed changes the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import Case
from oracles.registry import calls
from zoo_recordings import case_of

from wamkit.contract.specs import ACTION
from wamkit.contract.types import Observation
from wamkit.design import Design
from wamkit.zoo.registry import systems
from wamkit.zoo.rows import rows

pytestmark = [pytest.mark.sim, pytest.mark.long]
TICKS = 60
# Neighbours that all of this measures alike; an experiment in tests/zoo/test_*_differences.py tells them apart.
TOLD_APART = (
    {"AVDC", "Dreamitate"},
    {"V-JEPA", "V-JEPA 2.1"},
    {"CKT-WAM", "CoVAR"},
    {"CogVideoX", "Latte", "AnimateDiff", "Vidu"},
    {"OpenVLA", "RT-1", "RT-2", "RT-X"},
    {"Wan2.1-14B", "Cosmos-Predict2"},
    {"Cosmos-Predict2.5", "Stable Video Diffusion (SVD)"},
    {"Video Policy", "mimic-video"},
)


def sampled(case: Case, design: Design, seen: Observation, seed: int = 1) -> Any:
    """What a call returns: the action and the futures, or what follows from the recorded action."""
    futures = sorted(design.graph.of_role("future"))
    given = {}
    if not case.acts and ACTION in design.streams:
        given = {ACTION: design.targets(case.batch([12], design))[ACTION].values}
    carry = design.initial_state(1)
    if design.past_blocks:
        carry = design.observe(seen, carry, design.encode_context(seen))
    want = [ACTION, *futures] if case.acts else futures
    return design.sample(seen, want, seeds=[seed], given=given, carry=carry)


def others(seen: Observation) -> Mapping[str, Observation]:
    """The same observation with another picture, state and instruction."""
    source = torch.Generator().manual_seed(0)
    noise = {
        k: torch.randint(256, v.shape, generator=source, dtype=torch.uint8) for k, v in seen.images.items()
    }
    return {
        "picture": replace(seen, images=noise),
        "state": replace(seen, state=seen.state + 0.1),
        "words": replace(seen, task=tuple("close the window" for _ in seen.task)),
    }


def measured(case: Case) -> dict[str, Any]:
    """What a system does, as plain values that can be compared."""
    design = case.original()  # nothing else is asked of the case
    torch.manual_seed(0)
    graph, seen, controller = design.graph, case.cut(design.window), case.config.controller
    runs = {name: calls(trunk, "forward") for name, trunk in design.trunks.items()}
    made = sampled(case, design, seen)
    trunks = {name: len(count) for name, count in runs.items()}

    def changes(answer: Any) -> bool:
        return any(not torch.equal(value, answer.values[name]) for name, value in made.values.items())

    answers = {name: partial(sampled, case, design, other) for name, other in others(seen).items()}
    moved = {name: changes(answer()) for name, answer in answers.items()}
    moved["seed"] = changes(sampled(case, design, seen, seed=2))
    losses = sorted(design.train().loss(case.batch(design=design)).terms)
    return {
        "shapes": {name: tuple(value.shape) for name, value in made.values.items()},
        "evaluations": dict(made.nfe),
        "calls of trunks": trunks,
        "losses": losses,
        "sees": [sorted(step) for name in sorted(graph.acting()) for step in graph.sees(name)],
        "calls": controller.calls(TICKS) if case.acts else (),
        "sensors": design.sensors,
        "moved by": moved,
    }


def test_systems_of_one_tuple_differ_in_what_they_do(folder: Path) -> None:
    alike: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in systems():
        row = rows()[name]
        said = measured(case_of(name, folder))
        alike[(row.kind, *row.cells.values())][repr(sorted(said.items()))].append(name)
    groups = [set(names) for cell in alike.values() for names in cell.values() if len(names) > 1]
    untold = [sorted(group) for group in groups if not any(group <= told for told in TOLD_APART)]
    assert not untold, f"nothing measured tells these apart: {untold}"
