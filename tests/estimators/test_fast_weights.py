"""Oracles of mm.ttt-memory: constant size, recall of an early cue, exact reset; and how it composes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import ChunkConfig
from wamkit.contract.calls import Call
from wamkit.contract.streams import Past, RowNoise, StreamSpec
from wamkit.contract.types import Budget
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.design.sampling import NO_CONTEXT
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import DenoiserConfig, FastWeights, FastWeightsConfig
from wamkit.substrates import ProprioceptionConfig
from wamkit.trunks import TransformerConfig

CUES = 4
STATE = StreamSpec("memory", "state", 1, 1, 8)
CONFIG = FastWeightsConfig(stream="s", shape=(1, CUES + 2), width=16, queries=2)


def past(values: Tensor) -> Past:
    """(B, K, D) -> K real blocks."""
    pad = torch.zeros(values.shape[:2], dtype=torch.bool)
    return Past({"s": values[:, :, None]}, values.new_zeros(*values.shape[:2], 1, 1, 1), pad, pad)


def episodes(rows: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """A cue at the first step, then noise that wears another mark: values (B, K, D) and cues (B,)."""
    g = torch.Generator().manual_seed(seed)
    cue = torch.randint(CUES, (rows,), generator=g)
    values = torch.zeros(rows, steps, CUES + 2)
    values[:, 1:, :CUES] = torch.rand(rows, steps - 1, CUES, generator=g)
    values[:, 0, :CUES] = F.one_hot(cue, CUES).float()
    values[:, 0, CUES], values[:, 1:, CUES + 1] = 1.0, 1.0
    return values, cue


def recall(memory: FastWeights, carry: dict[str, Tensor]) -> Tensor:
    call = Call(NO_CONTEXT, {}, carry, len(carry["weights"]))
    return memory.generate(["memory"], call, Budget(), RowNoise([0])).values["memory"][:, 0, 0]


@pytest.fixture(scope="module")
def trained() -> tuple[FastWeights, nn.Linear]:
    """Learns to tell the cue after eight steps."""
    torch.manual_seed(0)
    memory, head = CONFIG.build([STATE], [], None), nn.Linear(8, CUES)
    optimizer = torch.optim.Adam([*memory.parameters(), *head.parameters()], lr=1e-2)
    for step in range(160):
        values, cue = episodes(64, 8, step)
        made = memory.loss(["memory"], Call(NO_CONTEXT, {}, (), 64), {}, past(values))
        assert made.terms == {}
        loss = F.cross_entropy(head(made.inferred["memory"][:, 0, 0]), cue)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return memory.eval(), head


@pytest.mark.learns
@pytest.mark.parametrize("steps", [8, 80])
@torch.no_grad()
def test_a_cue_seen_at_the_first_step_is_recalled(trained: tuple[FastWeights, nn.Linear], steps: int) -> None:
    """Chance is a quarter; training saw eight steps, so 80 are ten times as many."""
    memory, head = trained
    values, cue = episodes(200, steps, 10_000 + steps)
    carry = memory.observe(memory.initial_carry(200), NO_CONTEXT, past(values))
    share = (head(recall(memory, carry)).argmax(dim=1) == cue).float().mean().item()
    print(f"recall after {steps} steps: {share:.3f}, n = 200, chance 0.25")
    assert share > (0.95 if steps == 8 else 0.4)
    blind = memory.observe(memory.initial_carry(200), NO_CONTEXT, past(values[:, 1:]))
    assert (head(recall(memory, blind)).argmax(dim=1) == cue).float().mean().item() < 0.4


@pytest.mark.learns
@torch.inference_mode()
def test_the_memory_has_as_many_bytes_after_10_000_steps_as_after_10() -> None:
    memory = FastWeightsConfig(stream="s", shape=(1, CUES + 2), width=4, queries=1).build([STATE], [], None)
    values, _ = episodes(1, 50, 0)
    carry, sizes = memory.initial_carry(1), {}
    for step in range(1, 10_001):
        at = step % 50
        carry = memory.observe(carry, NO_CONTEXT, past(values[:, at : at + 1]))
        if step in (10, 100, 10_000):
            sizes[step] = sum(t.untyped_storage().nbytes() for t in carry.values())
    assert sizes[10] == sizes[100] == sizes[10_000] == 4 * (4 * 4 + 4)
    assert all(bool(t.isfinite().all()) for t in carry.values())


@pytest.mark.learns
@torch.inference_mode()
def test_a_reset_is_exactly_the_initial_state(trained: tuple[FastWeights, nn.Linear]) -> None:
    memory, _ = trained
    (first, _), (second, _) = episodes(3, 5, 0), episodes(3, 5, 1)
    fresh = memory.observe(memory.initial_carry(3), NO_CONTEXT, past(second))
    memory.observe(memory.initial_carry(3), NO_CONTEXT, past(first))
    again = memory.observe(memory.initial_carry(3), NO_CONTEXT, past(second))
    for name in fresh:
        assert torch.equal(fresh[name], again[name])
        assert not memory.initial_carry(3)[name].any()


@torch.inference_mode()
def test_the_update_is_a_gradient_step_and_blocks_before_the_episode_write_nothing() -> None:
    torch.manual_seed(1)
    memory = CONFIG.build([STATE], [], None)
    values, _ = episodes(2, 3, 2)
    start = torch.randn(2, 16, 16)
    tokens = memory._tokens(values[:, :1])
    key, value = F.normalize(memory.key(tokens), dim=-1)[:, 0], memory.value(tokens)[:, 0]
    with torch.inference_mode(False), torch.enable_grad():
        weights = start.clone().requires_grad_()
        error = (weights @ key.clone()[..., None])[..., 0] - value.clone()
        (gradient,) = torch.autograd.grad(0.5 * error.square().sum(), weights)
    rate = torch.sigmoid(memory.rate(tokens))
    written = memory._write(start, tokens, torch.tensor([False, True]))
    torch.testing.assert_close(written[0], (start - rate * gradient)[0])
    assert torch.equal(written[1], start[1])


def design(stream: str = "future", shape: tuple[int, int] = (1, 4)) -> Design:
    config = DesignConfig(
        horizon=4,
        stride=4,
        width=32,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig()},
        futures={"future": FutureConfig("body", (4,))},
        states={"memory": 8},
        action=ChunkConfig(ticks_per_token=4),
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={
            "memory": FastWeightsConfig(stream=stream, shape=shape, width=8, past=3),
            "world": DenoiserConfig(steps=2),
        },
        factors=(Factor(("memory",), (), "memory"), Factor(("future", "action"), ("memory",), "world")),
        controller=Chunked(execute=4),
    )
    torch.manual_seed(0)
    return Design(config, data_spec())


def test_a_design_with_fast_weights_trains_through_them_and_acts() -> None:
    made, toy = design(), ToyWindows()
    assert made.factorisation() == "p(z|c) p(s,a|z,c)"
    assert made.past_blocks == 3
    batch = toy.windows(torch.arange(20, 28).numpy(), made.training_window)
    made.loss(batch).total.backward()
    for name, parameter in made.estimators["memory"].named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name
    made.eval()
    state, sizes = made.initial_state(2), []
    for call in range(4):
        seen = acting_observation(toy, [40 + 4 * call, 80 + 4 * call], made.window)
        forecast, state = made.forecast(seen, state, Budget(), seeds=[1, 2])
        sizes.append(state["memory"]["weights"].shape)
        assert forecast.action.shape == (2, 4, 4)
    assert sizes == [(2, 8, 8)] * 4
    seen = acting_observation(toy, [60, 60], made.window)
    now, _ = made.forecast(seen, state, Budget(), seeds=[3, 3])
    assert not torch.allclose(now.action[0], now.action[1])  # what was seen before differs, nothing else


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs one factor p\(state \| c\)"):
        CONFIG.build([StreamSpec("action", "action", 1, 1, 2)], [], None)
    with pytest.raises(ConfigError, match=r"FastWeightsConfig\.width: must be at least 1 .*got 0"):
        FastWeightsConfig(width=0)
    batch = ToyWindows().windows(torch.arange(20, 22).numpy(), design().training_window)
    with pytest.raises(ConfigError, match=r"has \(1, 4\) .* `shape` says \(2, 4\)"):
        design(shape=(2, 4)).loss(batch)
    with pytest.raises(ConfigError, match="not a future stream of the design"):
        design(stream="video").loss(batch)
