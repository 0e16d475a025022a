"""A policy that keeps its past under every controller: what it remembers is the trajectory, not the calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import ACTION, MAX_TICKS, OBSERVATION, ToySimulators, ToyWorld

from wamkit.actions import ChunkConfig
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Budget, Carries, Forecast, Observation
from wamkit.controllers import (
    AsyncOverlap,
    Chunked,
    Controller,
    Interactive,
    OpenLoop,
    Overlap,
    SingleStep,
    VerifierReplan,
)
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import InstructionConfig
from wamkit.estimators import DenoiserConfig
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.pilot import UNCALLED, PolicyPilot
from wamkit.substrates import ProprioceptionConfig
from wamkit.trunks import TransformerConfig
from wamkit.verbs.load import unit_stats

BLOCK = 4
CONTROLLERS = [
    Chunked(BLOCK),
    Chunked(3),
    SingleStep(),
    Overlap(2),
    OpenLoop(),
    AsyncOverlap(3, 2),
    Interactive(BLOCK, {5: "go left", 8: "go right", 14: "stop"}),
    VerifierReplan(BLOCK, "body", 0.0),
]


@dataclass
class Watched:
    """A design whose kept states are written down: seed of the episode's first noise -> its newest state."""

    design: Design
    states: list[Carries] = field(default_factory=list)
    places: list[float] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.design, name)

    def forecast(
        self, observation: Observation, state: Carries, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Carries]:
        made, state = self.design.forecast(observation, state, budget, seeds)
        self._keep(observation, state)
        return made, state

    def remember(self, observation: Observation, state: Carries) -> Carries:
        state = self.design.remember(observation, state)
        self._keep(observation, state)
        return state

    def _keep(self, observation: Observation, state: Carries) -> None:
        self.states.append(state)
        self.places.append(observation.state[0, -1, 0].item())


def policy() -> Design:
    """Next state of the body and the action in one factor, with a block of 4 ticks and a chunk of 8."""
    config = DesignConfig(
        horizon=8,
        stride=BLOCK,
        width=16,
        encoders={"instruction": InstructionConfig()},
        substrates={"body": ProprioceptionConfig()},
        futures={"body": FutureConfig("body", (2, BLOCK))},
        action=ChunkConfig(ticks_per_token=2),
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2, time_range=4)},
        estimators={"world": DenoiserConfig(steps=1, history=3)},
        factors=(Factor(("body", "action"), (), "world"),),
    )
    stats = {"action": unit_stats(2), "observation.state": unit_stats(1)}
    torch.manual_seed(0)
    return Design(config, DataSpec(OBSERVATION, ACTION, stats)).eval()


def play(design: Watched, controller: Controller, seed: int) -> EpisodeRun:
    pilot = PolicyPilot(design, controller, Budget(), MAX_TICKS)
    (run,) = ClosedLoop(ToySimulators(1), 1, 1, pilot, MAX_TICKS).run([PlannedEpisode("a", seed)]).runs
    assert (UNCALLED in pilot.notes) == (len(design.states) > run.calls)
    return run


def afresh(design: Design, run: EpisodeRun, seed: int) -> tuple[Carries, int]:
    """State from the whole blocks of the trajectory alone, replayed in a world of its own; and how many there are."""
    world = ToyWorld(seed, None)
    actions = np.concatenate([block.actions for block in run.blocks])[: run.tick]
    state = design.initial_state(1)
    starts = range(0, run.tick, BLOCK)  # the last block may end with the episode, when nobody asks any more
    for tick in starts:
        block = actions[max(tick - BLOCK, 0) : tick]
        world.step(block, ())
        seen = world.see()
        padded = np.zeros((1, BLOCK, 2), np.float32)
        padded[0, : len(block)] = block
        observation = Observation(
            images={"scene": torch.from_numpy(seen["images"]["scene"]).permute(2, 0, 1)[None, None]},
            state=torch.from_numpy(seen["state"])[None, None],
            task=(run.instruction,),
            pad=torch.zeros(1, 1, dtype=torch.bool),
            past_action=torch.from_numpy(padded),
            past_action_pad=torch.full((1, BLOCK), not len(block)),
        )
        state = design.remember(observation, state)
    return state, len(starts)


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda c: type(c).__name__)
def test_a_state_is_a_function_of_the_trajectory_alone(controller: Controller) -> None:
    design = policy()
    watched = Watched(design)
    run = play(watched, controller, seed=2)
    assert run.error is None
    state, blocks = afresh(design, run, seed=2)
    carried: Any = watched.states[-1]["world"]
    wanted: Any = state["world"]
    assert carried["count"].item() == wanted["count"].item() == blocks
    assert isinstance(carried["count"], Tensor)
    if isinstance(controller, Interactive):  # a block reads the words that were said when it ended
        return
    for one, other in zip(carried["cache"].keys, wanted["cache"].keys, strict=True):
        assert torch.equal(one, other)


def test_a_controller_that_calls_once_per_block_calls_as_it_did() -> None:
    """No extra step of the simulator and nothing taken in beside the calls."""
    watched = Watched(policy())
    run = play(watched, Chunked(BLOCK), seed=2)
    assert len(watched.states) == run.calls
    assert [len(block.actions) for block in run.blocks[:-1]] == [BLOCK] * (len(run.blocks) - 1)


def test_early_calls_happen_and_see_now() -> None:
    watched = Watched(policy())
    run = play(watched, Interactive(BLOCK, {5: "go left"}), seed=2)
    assert run.early_calls == 1
    other = Watched(policy())
    plain = play(other, dataclasses.replace(Interactive(BLOCK), inputs={}), seed=2)
    first, second = (np.concatenate([b.actions for b in r.blocks]) for r in (run, plain))
    assert np.array_equal(first[:5], second[:5])
    assert not np.array_equal(first[5:8], second[5:8])
