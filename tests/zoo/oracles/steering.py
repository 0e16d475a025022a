"""Oracles of steering by context: commands of several levels, and labels that are requested."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from cases import NOW, Case
from torch import Tensor, nn

from gates import sharpen
from oracles.registry import oracle
from wamkit.contract.types import Batch, Budget, Observation
from wamkit.design import Design
from wamkit.design.command_levels import MotionInWords, PlaceInPicture, SpokenWords
from wamkit.encoders import MetadataEncoder
from wamkit.errors import ConfigError

FRAMES = tuple(range(0, 60, 3))


@oracle("st.command-levels")
def command_levels(case: Case) -> None:
    """Recordings are told at every level as a caller tells them; each level moves the action, and they may change."""
    design = sharpen(case.untrained())
    levels = design.commands.levels
    kinds = {type(level) for level in levels.values()}
    assert kinds == {SpokenWords, MotionInWords, PlaceInPicture}, "words, motion and places are not all there"
    batch = case.batch(FRAMES, design)
    written = design.commands.written(batch, design.training_window)
    said_as_written(design, batch, written)
    drawn_alike(design, batch, written)
    commands = [next(text for text in texts if text is not None) for texts in written.values()]
    obeyed(case, design, commands)
    learned(case, "instruction")


def said_as_written(design: Design, batch: Batch, written: Mapping[str, list[str]]) -> None:
    """What training reads is what a caller says; a place is told to half a cell."""
    assert batch.future is not None
    seen = replace(batch.observation, goal=batch.goal)
    for name, level in design.commands.levels.items():
        if isinstance(level, MotionInWords):
            ahead = batch.future.steps([design.training_window.future.index(level.ahead)])
            changes = (ahead.state[:, -1] - seen.state[:, -1]).tolist()
            entries = {entry: design.data.observation.state.index(entry) for entry in level.config.axes}
            said = [level.say({entry: change[i] for entry, i in entries.items()}) for change in changes]
            assert said == list(written[name])
            assert len(set(said)) > len(said) / 2, "all movements are told alike"
        if isinstance(level, PlaceInPicture):
            places, size = level.points.places(seen)[0], level.points.size
            facts = [dict(zip(("this", "that"), row, strict=True)) for row in places.tolist()]
            assert [level.say(fact) for fact in facts] == list(written[name])
            side = torch.tensor([size.width, size.height]) / level.config.bins
            cells = torch.tensor([[int(n) for n in re.findall(r"\d+", text)][-2:] for text in written[name]])
            assert bool((((cells + 0.5) * side - places[:, 1]).abs() <= side / 2 + 1e-3).all())


def drawn_alike(design: Design, batch: Batch, written: Mapping[str, list[str]]) -> None:
    """Every level is drawn, as often as its share says."""
    torch.manual_seed(0)
    counts: Counter[str] = Counter()
    for _ in range(40):
        told = design.commands.drawn(batch, design.training_window)
        for row, text in enumerate(told):
            counts[next(name for name, texts in written.items() if texts[row] == text)] += 1
    share = design.commands.shares / design.commands.shares.sum()
    for name, expected in zip(written, share.tolist(), strict=True):
        assert abs(counts[name] / counts.total() - expected) < 0.06, counts


def obeyed(case: Case, design: Design, commands: list[str]) -> None:
    """Another command, another action; the same, the same, whatever was told in the call before."""
    observation = case.cut(design.window)

    def call(text: str, state: object) -> tuple[Tensor, object]:
        forecast, after = design.forecast(replace(observation, task=(text,)), state, Budget(), [1])
        return forecast.action, after

    alone = [call(text, design.initial_state(1))[0] for text in commands]
    assert all(not torch.equal(a, b) for a, b in pairwise(alone)), "the words do not move the action"
    state: object = design.initial_state(1)
    for text, action in zip(commands, alone, strict=True):
        mixed, state = call(text, state)
        assert mixed.isfinite().all()
        assert design.past_blocks or torch.equal(mixed, action), "an earlier command is still obeyed"


def learned(case: Case, encoder: str) -> None:
    """The losses of the recipe reach an encoder, those of its actions too."""
    design = case.untrained()
    design.train()
    terms = design.loss(case.batch(FRAMES, design)).terms
    actions = [terms[name] for name in terms if name in design.graph.of_role("action")]
    torch.stack(actions).sum().backward()
    assert reached(design.encoders[encoder]), f"what acts teaches {encoder!r} nothing"
    design.eval()


def reached(part: nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in part.parameters())


@oracle("st.context-metadata")
def context_metadata(case: Case) -> None:
    """Labels that are recorded, requested or left open move the action alike; a request needs no sensor."""
    design = sharpen(case.untrained())
    found = {name: e for name, e in design.encoders.items() if isinstance(e, MetadataEncoder)}
    assert found, "nothing reads labels"
    for name, encoder in found.items():
        recorded = case.cut(design.window)
        bare = replace(
            recorded, extras={n: v for n, v in recorded.extras.items() if n not in encoder.unsensed}
        )
        for variable, config in encoder.config.variables.items():
            requested(case, design, encoder, variable, bare)
            labels_are_requests(case, design, encoder, variable)
            with pytest.raises(ConfigError, match="not in the declared set"):
                design.requests.put(bare, {variable: "unheard of"})
            assert config.dropout > 0, "it was never left open in training"
        learned(case, name)
    sensed = set(design.sensors)
    assert not any(sensed & set(e.unsensed) for e in found.values()), (
        "an environment would have to report labels"
    )


def requested(case: Case, design: Design, encoder: MetadataEncoder, name: str, bare: Observation) -> None:
    """Each value gives an action of its own, and the configured one is what happens without a word."""
    variable = encoder.config.variables[name]
    words = variable.values or tuple(f"{v:g}" for v in (variable.low, variable.high))
    acts = {word: case.act(design, design.requests.put(bare, {name: word})) for word in words}
    assert all(not torch.equal(acts[a], acts[b]) for a, b in pairwise(words)), f"{name} does not matter"
    silent = replace(bare, missing={**bare.missing, name: torch.ones_like(bare.pad)})
    expected = acts[variable.request] if variable.request else case.act(design, silent)
    assert torch.equal(case.act(design, bare), expected)
    assert all(not torch.equal(act, case.act(design, silent)) for act in acts.values())


def labels_are_requests(case: Case, design: Design, encoder: MetadataEncoder, name: str) -> None:
    """A recorded label is read as a request of it is."""
    variable = encoder.config.variables[name]
    recorded = case.cut(design.window, (NOW,))
    label = recorded.extras[variable.extra or name][0, -1].flatten()[variable.entry]
    word = variable.values[int(label)] if variable.values else f"{float(label):g}"
    assert torch.equal(
        case.act(design, recorded), case.act(design, design.requests.put(recorded, {name: word}))
    )
