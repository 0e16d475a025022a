"""Oracle of dp.interactive: what a step costs as the session goes on, in tokens read, for three kinds of memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from toys import MAX_TICKS, ToyPolicy, ToySimulators

from wamkit.contract.cache import Cache
from wamkit.contract.streams import Past, StreamSpec
from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.controllers import Interactive
from wamkit.design.sampling import NO_CONTEXT
from wamkit.estimators import FastWeightsConfig
from wamkit.evaluation.closed_loop.episodes import PlannedEpisode
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.pilot import PolicyPilot
from wamkit.trunks import TransformerConfig

NEW = 3  # tokens that every step adds
KEPT = 12
Forget = Callable[[Cache], Cache]


@dataclasses.dataclass(frozen=True)
class Listener(ToyPolicy):
    """Attends over everything that its cache holds, and adds what it sees; ``forget`` says what is kept."""

    forget: Forget = lambda cache: cache
    read: list[int] = dataclasses.field(default_factory=list, compare=False)
    held: list[int] = dataclasses.field(default_factory=list, compare=False)
    trunk: Any = dataclasses.field(
        default_factory=lambda: TransformerConfig(width=8, depth=1, heads=1).build().eval(), compare=False
    )

    def __post_init__(self) -> None:
        def count(part: Any, given: Any, options: Any) -> None:
            self.read.append(given[0].shape[1] + options["cache"].length)

        self.trunk.register_forward_pre_hook(count, with_kwargs=True)

    def initial_state(self, batch_size: int) -> Any:
        return self.trunk.empty(batch_size, 0)

    def forecast(
        self, observation: Observation, state: Any, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Any]:
        word = torch.tensor([float(len(task)) for task in observation.task])
        seen = torch.stack((observation.state[:, -1, 0], word), dim=1)
        tokens = torch.nn.functional.pad(seen, (0, 6))[:, None].expand(-1, NEW, -1).contiguous()
        hidden, block = self.trunk(tokens, cache=state)
        cache = self.forget(state.append(block))
        self.held.append(cache.length)
        action = (0.1 * torch.tanh(hidden[:, -1, :1])).expand(-1, self.window.horizon * 2)
        return Forecast(action.reshape(len(seeds), self.window.horizon, 2)), cache


def session(forget: Forget) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens read per step, tokens held after it, and actions of one interactive session with a word at tick 6."""
    torch.manual_seed(0)
    policy = Listener(forget=forget)
    pilot = PolicyPilot(policy, Interactive(1, {6: "left"}), Budget(), MAX_TICKS)
    loop = ClosedLoop(ToySimulators(1), 1, 1, pilot, MAX_TICKS)
    (run,) = loop.run([PlannedEpisode("a", 0)]).runs
    assert run.calls == MAX_TICKS
    return np.array(policy.read), np.array(policy.held), np.concatenate([b.actions for b in run.blocks])


def test_a_step_reads_linearly_more_with_plain_attention_and_a_constant_with_bounded_memory() -> None:
    plain, grown, _ = session(lambda cache: cache)
    np.testing.assert_array_equal(plain, NEW * np.arange(1, MAX_TICKS + 1))
    np.testing.assert_array_equal(grown, plain)
    bounded, held, _ = session(lambda cache: cache.last(KEPT))
    np.testing.assert_array_equal(bounded, np.minimum(NEW * np.arange(1, MAX_TICKS + 1), KEPT + NEW))
    assert held.max() == KEPT
    forgetful, _, _ = session(lambda cache: cache.last(0))
    assert (forgetful == NEW).all()


@pytest.mark.parametrize("kept", [None, KEPT])
def test_the_memory_lives_through_new_words(kept: int | None) -> None:
    """What was said before "left" is still held after it: words drop the chunk, not the cache."""
    _, held, _ = session(lambda cache: cache if kept is None else cache.last(kept))
    assert (np.diff(held) >= 0).all()
    assert held[6] > held[0]


def test_fast_weights_write_the_same_number_of_tokens_at_every_step() -> None:
    memory = FastWeightsConfig(stream="s", shape=(NEW, 2), width=4).build(
        [StreamSpec("memory", "state", 1, 1, 4)], [], None
    )
    written: list[int] = []
    memory.key.register_forward_hook(lambda part, given, made: written.append(made.shape[1]))
    carry, sizes = memory.initial_carry(1), set()
    pad = torch.zeros(1, 1, dtype=torch.bool)
    for _ in range(MAX_TICKS):
        past = Past({"s": torch.randn(1, 1, NEW, 2)}, torch.zeros(1, 1, 1, 1, 1), pad, pad)
        carry = memory.observe(carry, NO_CONTEXT, past)
        sizes.add(sum(value.numel() for value in carry.values()))
    assert written == [NEW] * MAX_TICKS
    assert len(sizes) == 1
