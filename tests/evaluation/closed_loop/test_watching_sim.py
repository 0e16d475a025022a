"""Every controller with a real, untrained design in the real simulator, a few ticks long."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from wamkit.contract.data import DataSpec
from wamkit.contract.types import Observation
from wamkit.controllers import (
    AsyncOverlap,
    Chunked,
    Controller,
    Interactive,
    OnlineAdapt,
    Overlap,
    PhaseTrigger,
    ProgressGate,
    SlowFast,
    VerifierReplan,
)
from wamkit.design import Design, FutureConfig
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, rollout
from wamkit.trunks import TransformerConfig
from wamkit.verbs.load import unit_stats
from wamkit.zoo import recipe

pytestmark = pytest.mark.sim
TICKS = 10
ENV = MetaWorldConfig(image_size=32, action_repeat=4, max_ticks=TICKS)


@pytest.fixture(scope="module")
def design() -> Design:
    config = recipe("joint")
    (substrate,) = config.substrates
    config = dataclasses.replace(
        config,
        width=32,
        trunks={name: TransformerConfig(width=32, depth=1, heads=2) for name in config.trunks},
        futures={"future": FutureConfig(substrate, (2, 4))},
    )
    observation, action = ENV.observation_spec(), ENV.action_spec()
    stats = {"action": unit_stats(action.width), "observation.state": unit_stats(len(observation.state))}
    torch.manual_seed(0)
    return Design(config, DataSpec(observation, action, stats)).eval()


def calls(design: Design, controller: Controller) -> tuple[int, tuple[str, ...]]:
    config = EvaluationConfig(
        tasks=("drawer-open-v3",), episodes=1, env=ENV, controller=controller, workers=1, slots=1, films=0,
        latency_calls=1,
    )  # fmt: skip
    report = rollout(design, config, progress=False).report
    (episode,) = report.episodes
    assert (episode.status, episode.ticks, episode.error) == ("timeout", TICKS, None)
    assert report.calls_per_episode.mean == episode.calls
    allowed = controller.deadline_s(report.control_hz)
    assert allowed is not None
    assert report.deadline.allowed_ms == 1000 * allowed
    return episode.calls, report.notes


@pytest.mark.parametrize(
    ("controller", "expected", "note"),
    [
        (Overlap(5), 2, ""),
        (AsyncOverlap(5, 3), 2, "idle_ticks: mean 0.00"),
        (AsyncOverlap(5, 0), 2, "kinder than this machine"),  # no call takes 0 ms
        (Interactive(5, {3: "close the drawer"}), 3, "inputs: mean 1.00"),
        (PhaseTrigger(5, 1.0), 2, "critical_calls: mean 0.00"),
        (SlowFast(5, gain=0.1), 2, "corrections: mean 10.00"),
        (OnlineAdapt(5, threshold=1.0), 2, "adapted_ticks: mean 0.00"),
        (OnlineAdapt(5, threshold=0.0), 2, "adapted_ticks: mean 9.00"),
        (VerifierReplan(5, "future", 1e9), 2, "early_calls: mean 0.00"),
        (VerifierReplan(5, "future", 0.0), 5, "early_calls: mean 4.00"),  # an untrained design is never right
        (ProgressGate(5, "future", 0.0), 2, "stalled_calls: mean 1.00"),
        (ProgressGate(5, "future", 1e9), TICKS, "waypoints: mean 9.00"),
    ],
    ids=str,
)
def test_controllers_in_the_simulator(
    design: Design, controller: Controller, expected: int, note: str
) -> None:
    made, notes = calls(design, controller)
    assert made == expected
    assert note in " ".join(notes)


def test_what_is_seen_is_encoded_by_the_designs_own_substrate(design: Design) -> None:
    images = {c: torch.randint(0, 256, (1, 1, 3, 32, 32), dtype=torch.uint8) for c in ("scene", "gripper")}
    width = len(design.observation_spec.state)
    seen = Observation(images, torch.zeros(1, 1, width), ("look",), torch.zeros(1, 1, dtype=torch.bool))
    perceived = design.perceived("future")
    assert perceived.offsets == (2, 4)
    (substrate,) = design.substrates.values()
    assert torch.equal(perceived.encode(seen, seen), substrate.encode(seen, seen)[:, 0])
    with pytest.raises(ConfigError, match="Did you mean 'future'"):
        design.perceived("futuer")


def test_a_stream_made_of_extras_is_compared_where_they_are_measured(design: Design) -> None:
    """Depth can be seen while acting; how an episode will end cannot."""
    images = {c: torch.zeros(1, 1, 3, 32, 32, dtype=torch.uint8) for c in ("scene", "gripper")}
    width = len(design.observation_spec.state)
    seen = Observation(images, torch.zeros(1, 1, width), ("look",), torch.zeros(1, 1, dtype=torch.bool))
    measured = dataclasses.replace(seen, extras={"depth": torch.ones(1, 1, 4)})
    (substrate,) = design.substrates.values()
    try:
        substrate.extras = ("depth",)
        perceived = design.perceived("future")
        assert perceived.extras == ("depth",)
        assert torch.equal(perceived.encode(measured, measured), substrate.encode(seen, seen)[:, 0])
        with pytest.raises(SpecError, match=r"observation\.extras has no sensor 'depth'"):
            perceived.encode(seen, measured)
        with pytest.raises(SpecError, match=r"observation at the call\.extras has no sensor 'depth'"):
            perceived.encode(measured, seen)
        substrate.extras = ("depth", "episode_clock")
        with pytest.raises(ConfigError, match="made of episode_clock, which a recording has"):
            design.perceived("future")
    finally:
        del substrate.extras
    assert isinstance(design.controller, Chunked)
