"""The checks of a system: shared parts, the census cell, the gate by experiment, its oracles, and a reload."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from cases import Case
from oracles import ORACLES

from gates import moved_steps, sharpen, trained_together
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget
from wamkit.design import Design, from_pretrained, save_pretrained
from wamkit.errors import WamkitError
from wamkit.zoo.rows import rows
from wamkit.zoo.states import PASSED, fingerprint

WORLD_KINDS = ("wfm", "video-model", "jepa", "world-model-rl")


def parts_of(value: Any) -> Iterator[type]:
    """Classes of all configs inside a config."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for field in dataclasses.fields(value):
            yield from parts_of(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from parts_of(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from parts_of(item)


def shared_parts(case: Case) -> None:
    """Every part is one that the library shares; none belongs to the zoo."""
    modules = {part.__module__ for part in parts_of(case.config)}
    assert all(m.startswith("wamkit.") and not m.startswith("wamkit.zoo") for m in modules), modules


def census_cell(case: Case) -> None:
    """The computed tuple is the census cell, or the recipe says of each cell that differs why it does."""
    row, departs = rows()[case.system.name], case.system.departs
    design, status = case.design, case.design.graph.wam()
    found = design.cells()
    expected = dict(row.cells)
    if row.kind == "vla":
        expected = {"coupling": "Direct", "substrate": "None"}
    differs = {cell for cell, words in expected.items() if found[cell] != words}
    assert differs == set(departs), (
        f"computed {found}, census {expected}, reasons given for {sorted(departs)}"
    )
    if row.kind == "wam":
        assert status.is_wam, "no path from a future to the action"
    if row.kind == "vla" and not departs:
        assert not status.is_wam, status
    if row.kind in WORLD_KINDS:
        assert design.graph.of_role("future"), "predicts nothing"


def gate(case: Case) -> None:
    """What an executed action step is said to see is what moves it."""
    design = sharpen(case.untrained())
    if not case.acts:
        return
    moved = moved_steps(design, case.cut(design.window))
    graph, status = design.graph, design.graph.wam()
    everywhere = "selects" in status.paths or "tap" in graph.tapped().values()
    said = tuple(everywhere or bool(step) for step in graph.sees(ACTION))
    said = said * len(moved) if len(said) == 1 else said
    assert moved == said, f"moved {moved}, said {said}, paths {status.paths}"
    if status.paths == ("trains",):
        assert trained_together(design, case.batch(design=design)), (
            "the future's loss does not reach the action"
        )


def reload(case: Case) -> None:
    """Trained for two steps, it acts (or predicts), and does so bit-identically after save and reload."""
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(case.design, Path(folder) / "model")
        again = from_pretrained(Path(folder) / "model")
        first, second = (answer(case, design) for design in (case.design, again))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.isfinite().all() if value.is_floating_point() else True, name
        assert torch.equal(value, second[name]), name


def answer(case: Case, design: Design) -> dict[str, torch.Tensor]:
    """What a call returns: the action and the futures, or a world model's predictions."""
    observation = case.observation()
    if case.acts:
        forecast, _ = design.forecast(observation, design.initial_state(1), Budget(), [1])
        return {ACTION: forecast.action, **forecast.future}
    given = {}
    if ACTION in design.streams:  # an action-conditioned world model is given the recorded actions
        given = {ACTION: design.targets(case.batch([12], design))[ACTION].values}
    want = sorted(design.graph.of_role("future"))
    context = design.encode_context(observation)
    carry = design.initial_state(1)
    if design.past_blocks:
        carry = design.observe(observation, carry, context)
    return dict(design.sample(observation, want, seeds=[1], given=given, carry=carry).values)


def checks_of(case: Case) -> dict[str, Any]:
    """Name of each check -> function of the case."""
    own = {f"oracle {block}": ORACLES.get(block, no_oracle) for block in case.system.distinct}
    return {"parts": shared_parts, "tuple": census_cell, "gate": gate, **own, "reload": reload}


def no_oracle(case: Case) -> None:
    """A block without an oracle cannot have passed it."""
    raise AssertionError("no oracle of this block is written")


def result(case: Case) -> dict[str, Any]:
    """Record of a system: what its checks said, and what they were run on."""
    said = {}
    for name, check in checks_of(case).items():
        try:
            check(case)
            said[name] = PASSED
        except (AssertionError, WamkitError, RuntimeError, ValueError, KeyError) as error:
            said[name] = f"{type(error).__name__}: {error}"[:300]
    design = case.untrained()
    status = design.graph.wam()
    return {
        "config": fingerprint(case.config),
        "tuple": design.cells(),
        "formula": design.factorisation(),
        "kind": status.kind,
        "paths": list(status.paths),
        "checks": said,
    }
