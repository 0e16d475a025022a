"""Metadata (`st.context-metadata`): what is read, left open and requested; labelled mistakes help a policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support import data_spec
from wamkit.actions import ChunkConfig
from wamkit.contract import Batch, Budget, Observation, VariableConfig, WindowSpec
from wamkit.contract.specs import CLOCK
from wamkit.controllers import Chunked
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data import data_spec as data_spec_of
from wamkit.design import Design, DesignConfig, Factor
from wamkit.encoders import MetadataConfig, MetadataEncoder, StateConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.estimators import RegressorConfig
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode, observe
from wamkit.evaluation.closed_loop.rollout import choose_senses
from wamkit.trunks import TransformerConfig

H = 4
SHAPES = {"quality": (), "style": (3,), CLOCK: (3,)}
DATA = replace(
    data_spec(), observation=replace(data_spec().observation, cameras={}), extras=SHAPES
)  # this toy robot sees nothing
QUALITY = VariableConfig(values=("low", "high"), request="high", dropout=0.1)
SPEED = VariableConfig(extra="style", entry=1, low=0.5, high=2.0)


def look(state: Tensor, **extras: Tensor) -> Observation:
    rows = len(state)
    pad = torch.zeros(rows, 1, dtype=torch.bool)
    return Observation({}, state[:, None], ("go",) * rows, pad, {n: v[:, None] for n, v in extras.items()})


def encoder(**variables: VariableConfig) -> MetadataEncoder:
    torch.manual_seed(0)
    config = MetadataConfig(variables or {"quality": QUALITY, "speed": SPEED})
    return config.build(DATA, WindowSpec(), 16).eval()


def labelled(quality: float, speed: float = 1.0, rows: int = 1) -> Observation:
    style = torch.tensor([9.0, speed, 9.0]).repeat(rows, 1)
    return look(torch.zeros(rows, 4), quality=torch.full((rows,), quality), style=style)


# ------------------------------------------------------------------------------------------------ what is read


@torch.no_grad()
def test_a_label_is_what_is_read_of_its_entry_and_nothing_else() -> None:
    net = encoder()
    assert net.extras == net.unsensed == ("quality", "style")
    base, pad = net(labelled(1, 1.0))
    assert base.shape == (1, 2, 16)
    assert not pad.any()
    low, slow = net(labelled(0, 1.0))[0], net(labelled(1, 0.5))[0]
    assert (base != low).any(dim=2).tolist() == [[True, False]]
    assert (base != slow).any(dim=2).tolist() == [[False, True]]
    other = labelled(1, 1.0)
    other.extras["style"][..., 0] = 5.0
    assert torch.equal(net(other)[0], base)


@torch.no_grad()
def test_without_labels_the_request_is_read_and_what_is_not_requested_is_open() -> None:
    net = encoder()
    nothing = net(look(torch.zeros(1, 4)))[0]
    assert torch.equal(nothing[:, 0], net(labelled(1))[0][:, 0])  # `request` of the config: high
    assert torch.equal(nothing[0, 1], net.open[1] + net.kind[1])
    flagged = replace(labelled(1), missing={"quality": torch.ones(1, 1, dtype=torch.bool)})
    assert torch.equal(net(flagged)[0][0, 0], net.open[0] + net.kind[0])
    assert torch.equal(net(labelled(-1))[0][0, 0], net.open[0] + net.kind[0])  # recorded, and not labelled


@torch.no_grad()
def test_each_variable_is_dropped_by_itself_in_training() -> None:
    torch.manual_seed(0)
    net = encoder(quality=replace(QUALITY, dropout=0.5), speed=replace(SPEED, dropout=0.2)).train()
    made = net(labelled(1, rows=2000))[0]
    dropped = torch.stack(
        [(made[:, i] == net.open[i] + net.kind[i]).all(dim=1) for i in range(2)], dim=1
    ).float()
    assert dropped.mean(dim=0).tolist() == pytest.approx([0.5, 0.2], abs=0.04)
    assert float((dropped[:, 0] * dropped[:, 1]).mean()) == pytest.approx(0.1, abs=0.03)


@torch.no_grad()
def test_an_outcome_is_a_label_that_every_recording_has() -> None:
    net = MetadataConfig().build(DATA, WindowSpec(), 16).eval()
    clock = torch.tensor([[3.0, 4.0, 1.0], [3.0, 4.0, 0.0]])
    success, failure = net(look(torch.zeros(2, 4), **{CLOCK: clock}))[0]
    requested = net(look(torch.zeros(1, 4)))[0][0]
    assert torch.equal(requested, success)
    assert not torch.equal(requested, failure)


# ---------------------------------------------------------------------------------------------- what is refused


def test_what_is_not_declared_is_refused_with_the_set() -> None:
    with pytest.raises(ConfigError, match=r"request: 'best' is not in the declared set: 'low', 'high'\."):
        replace(QUALITY, request="best")
    with pytest.raises(ConfigError, match=r"'3' is not in the declared set: a number from 0.5 to 2\."):
        replace(SPEED, request="3")
    with pytest.raises(ConfigError, match="lower one first"):
        VariableConfig(low=1.0, high=1.0)
    for wrong, says in (
        (labelled(2), "'quality' is 2, .* 'low', 'high'"),
        (labelled(1, 3.0), "'speed' is 3, .* 0.5"),
    ):
        with pytest.raises(SpecError, match=says):
            encoder()(wrong)
    with pytest.raises(
        ConfigError, match=r"variable 'mistake' needs the extra 'mistake', which the dataset does not"
    ):
        encoder(mistake=QUALITY)
    with pytest.raises(ConfigError, match="entry 3 of 'style', which has 3"):
        encoder(speed=replace(SPEED, entry=3))
    with pytest.raises(ConfigError, match="Rename the variable"):
        encoder(quality=SPEED)
    with pytest.raises(ConfigError, match="`variables` is empty"):
        MetadataConfig({}).build(DATA, WindowSpec(), 16)


# --------------------------------------------------------------------------------------------- in a whole design


def build() -> Design:
    torch.manual_seed(0)
    config = DesignConfig(
        name="labelled",
        horizon=H,
        width=32,
        encoders={"state": StateConfig(), "metadata": MetadataConfig({"quality": QUALITY, "speed": SPEED})},
        action=ChunkConfig(ticks_per_token=H),
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={"policy": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"),),
        controller=Chunked(execute=H),
    )
    return Design(config, DATA).eval()


def test_a_request_reaches_every_call_of_an_evaluation() -> None:
    design = build()
    assert design.extras == ("quality", "style")
    assert design.sensors == ()  # no environment has to report them
    senses = choose_senses(design, (), {"quality": "low", "speed": "0.5"})
    run = EpisodeRun(PlannedEpisode("reach", 0), 0, instruction="go")
    run.frames[0] = {"images": {}, "state": torch.zeros(4).numpy(), "extras": {}, "task": "go"}
    seen = observe([run, run], design.window, 4, senses)
    assert seen.extras["quality"].tolist() == [[0.0], [0.0]]
    asked = design.requests.put(look(torch.zeros(2, 4)), {"quality": "low", "speed": "0.5"})
    acted = [design.forecast(o, design.initial_state(2), Budget(), [1, 2])[0].action for o in (seen, asked)]
    assert torch.equal(*acted)
    plain = observe([run, run], design.window, 4, choose_senses(design, (), {}))
    assert not torch.equal(
        design.forecast(plain, design.initial_state(2), Budget(), [1, 2])[0].action, acted[0]
    )
    with pytest.raises(ConfigError, match=r"request: no variable 'qualty'. Did you mean 'quality'"):
        choose_senses(design, (), {"qualty": "low"})
    with pytest.raises(
        ConfigError, match="request 'quality': 'best' is not in the declared set: 'low', 'high'"
    ):
        choose_senses(design, (), {"quality": "best"})


def test_two_encoders_may_not_share_a_variable() -> None:
    config = build().config
    with pytest.raises(ConfigError, match="two of them have a variable 'quality'"):
        Design(
            replace(config, encoders={**config.encoders, "again": MetadataConfig({"quality": QUALITY})}), DATA
        )


def test_a_label_that_is_stored_as_one_number_is_trained_on(tmp_path: Path) -> None:
    extras = {"quality": ((), "float32"), "style": ((3,), "float32")}
    with DatasetWriter(tmp_path / "data", DATA.observation, DATA.action, extras=extras) as writer:
        rows = np.zeros((20, 4), np.float32)
        recorded = {"quality": np.ones(20, np.float32), "style": np.ones((20, 3), np.float32)}
        writer.add(Episode({}, rows, rows, "go", extras=recorded))
    opened = Dataset(tmp_path / "data", extras=("quality", "style"))
    design = Design(build().config, data_spec_of(opened))
    batch = opened.windows(np.array([3, 5]), design.training_window)
    assert design.loss(batch).total.isfinite()
    seen = design.requests.put(batch.observation, {"quality": "low"})
    assert seen.extras["quality"].shape == batch.observation.extras["quality"].shape


# -------------------------------------------------------------------------------------------------- the oracle

GOOD, BAD, STEPS = 60, 300, 150
MISTAKE = torch.tensor([0.6, -0.6])  # metres beside the goal


def demonstrations(good: int, bad: int, labels: bool) -> tuple[Tensor, Tensor, Tensor]:
    """States (place and goal), labels (-1 without) and actions that reach the goal, or miss it by a mistake."""
    g = torch.Generator().manual_seed(0)
    state = torch.rand(good + bad, 4, generator=g) * 2 - 1
    quality = (torch.arange(good + bad) < good).float()
    move = state[:, 2:] - state[:, :2] + MISTAKE * (1 - quality[:, None])
    action = torch.zeros(good + bad, H, 4)
    action[..., :2] = move[:, None] / H
    return state, quality if labels else torch.full_like(quality, -1), action


def trained(good: int, bad: int, labels: bool = True) -> Design:
    design, g = build(), torch.Generator().manual_seed(1)
    state, quality, action = demonstrations(good, bad, labels)
    optimizer = torch.optim.AdamW(design.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=STEPS)
    design.train()
    for _ in range(STEPS):
        row = torch.randint(len(state), (64,), generator=g)
        seen = look(state[row], quality=quality[row], style=torch.ones(64, 3))
        loss = design.loss(Batch(seen, action[row], torch.zeros(64, H, dtype=torch.bool))).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return design.eval()


def success(design: Design, **said: str) -> float:
    """Share of 200 points that end within 0.2 m of their goal."""
    state = torch.rand(200, 4, generator=torch.Generator().manual_seed(99)) * 2 - 1
    seen = design.requests.put(look(state), said)
    action = design.forecast(seen, design.initial_state(200), Budget(), range(200))[0].action
    end = state[:, :2] + action[..., :2].sum(dim=1)
    return float(((end - state[:, 2:]).norm(dim=1) < 0.2).float().mean())


@pytest.mark.learns
def test_labelled_mistakes_help_unlabelled_ones_harm_and_the_best_is_requested() -> None:
    mixed, clean = trained(GOOD, BAD), trained(GOOD, 0)
    high, low = success(mixed), success(mixed, quality="low")
    assert high > 0.85, "the configured request is high"
    assert low < 0.1
    assert high >= success(clean) - 0.05
    assert success(trained(GOOD, BAD, labels=False)) < high - 0.5
