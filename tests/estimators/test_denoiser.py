"""Joint denoiser: four modes from one model, exact skipping, budgets, chunk-causal memory."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from estimating import alone, drawn, targets, tiny
from support import ToyWindows, acting_observation, data_spec
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call
from wamkit.contract.data import DataSpec
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design, Factor
from wamkit.errors import ConfigError
from wamkit.estimators import Denoiser, DenoiserConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe


def estimator(design: Design) -> Denoiser:
    found = design.estimators["world"]
    assert isinstance(found, Denoiser)
    return found


def values_of(model: Denoiser, stream: str, rows: int) -> Tensor:
    spec = model.outputs[stream].spec
    return torch.randn(rows, spec.steps, spec.tokens, spec.features)


def test_four_modes_from_one_model(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe("joint"), data).eval()
    design.fit(toy, 0)
    observation = acting_observation(toy, [30, 60], design.window)
    batch = toy.windows(torch.tensor([30, 60]).numpy(), design.training_window)
    known = {name: target.values for name, target in design.targets(batch).items()}
    seeds = [1, 2]
    policy = design.sample(observation, ["action"], seeds=seeds)
    video = design.sample(observation, ["future"], seeds=seeds)
    forward = design.sample(observation, ["future"], given={"action": known["action"]}, seeds=seeds)
    inverse = design.sample(observation, ["action"], given={"future": known["future"]}, seeds=seeds)
    both = design.sample(observation, ["action", "future"], seeds=seeds)
    assert set(policy.values) == {"action"} == set(inverse.values)
    assert set(video.values) == {"future"} == set(forward.values)
    assert set(both.values) == {"action", "future"}
    # Conditioning on a stream changes the other one; leaving it out gives the marginal.
    assert not torch.allclose(forward.values["future"], video.values["future"])
    assert not torch.allclose(inverse.values["action"], policy.values["action"])
    other = {"action": known["action"] + 1}
    moved = design.sample(observation, ["future"], given=other, seeds=seeds)
    assert not torch.allclose(moved.values["future"], forward.values["future"])


def test_a_stream_at_pure_noise_is_exactly_absent(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe("joint"), data).eval()
    design.fit(toy, 0)
    context = design.encode_context(acting_observation(toy, [30, 60], design.window))["main"]
    model = estimator(design)
    action, future = values_of(model, "action", 2), values_of(model, "future", 2)
    half, one = torch.full((2,), 0.5), torch.ones(2)
    with torch.no_grad():
        alone = model._velocity({"action": action}, {"action": half}, context, None)
        beside = model._velocity(
            {"future": future, "action": action}, {"future": one, "action": half}, context, None
        )
        seen = model._velocity(
            {"future": future, "action": action}, {"future": half, "action": half}, context, None
        )
    torch.testing.assert_close(beside["action"], alone["action"], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(seen["action"], alone["action"], atol=1e-4)


def test_gradient_from_an_absent_stream_is_exactly_zero(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe("joint"), data).eval()
    design.fit(toy, 0)
    context = design.encode_context(acting_observation(toy, [30], design.window))["main"]
    future = values_of(estimator(design), "future", 1).requires_grad_()
    action = values_of(estimator(design), "action", 1)
    levels = {"future": torch.ones(1), "action": torch.full((1,), 0.5)}
    velocity = estimator(design)._velocity({"future": future, "action": action}, levels, context, None)
    (gradient,) = torch.autograd.grad(velocity["action"].sum(), future, retain_graph=True)
    assert gradient.abs().max() == 0
    (own,) = torch.autograd.grad(velocity["future"].sum(), future)
    assert own.abs().max() > 0


def calls_of(module: nn.Module) -> list[int]:
    """Counts forward calls of a module into the returned one-element list."""
    count = [0]
    module.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    return count


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_network_calls_equal_the_budget_and_context_is_encoded_once(
    data: DataSpec, toy: ToyWindows, steps: int
) -> None:
    design = Design(recipe("joint"), data).eval()
    design.fit(toy, 0)
    trunk_calls = calls_of(design.trunks["main"])
    encoder_calls = [calls_of(encoder) for encoder in design.encoders.values()]
    observation = acting_observation(toy, [30, 60], design.window)
    budget = Budget(nfe={"action": steps, "future": steps})
    forecast, _ = design.forecast(observation, design.initial_state(2), budget, [1, 2])
    assert forecast.nfe == {"action": steps, "future": steps}
    assert trunk_calls == [steps + 1]  # once for the context, then one per denoising step
    assert encoder_calls == [[1]] * len(encoder_calls)


def test_skipped_future_costs_no_call(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe("joint"), data).eval()
    design.fit(toy, 0)
    reads = calls_of(estimator(design).outputs["future"].outward)
    observation = acting_observation(toy, [30], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(1), Budget(future=False), [1])
    assert reads == [0]
    assert forecast.future == {}
    assert set(forecast.nfe) == {"action"}


class Analytic:
    """Stands for the network: the exact velocity of data ~ N(mean, deviation^2) at each level."""

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.deviation = mean, deviation

    def __call__(
        self, values: dict[str, Tensor], levels: dict[str, Tensor], cache: Cache, times: Tensor | None
    ) -> dict[str, Tensor]:
        found = {}
        for name, x in values.items():
            t = levels[name][:, None, None, None]
            variance = (1 - t) ** 2 * self.deviation**2 + t**2
            slope = (t - (1 - t) * self.deviation**2) / variance
            found[name] = slope * (x - (1 - t) * self.mean) - self.mean
        return found


def one_dimensional(steps: int, mean: float, deviation: float, rows: int) -> tuple[Tensor, Tensor]:
    """Noise and the sample that Euler integration makes of it with the analytic velocity."""
    spec = StreamSpec("action", "action", 1, 1, 1)
    trunk = TransformerConfig(width=8, depth=1, heads=1).build()
    model = DenoiserConfig().build((spec,), (), trunk)
    assert isinstance(model, Denoiser)
    model._velocity = Analytic(mean, deviation)  # type: ignore[method-assign, assignment]
    call = Call(trunk.empty(rows, 1), {}, (), rows)
    noise = RowNoise([0], copies=rows)
    start = RowNoise([0], copies=rows).normal(1, 1, 1)
    made = model.generate(["action"], call, Budget(nfe={"action": steps}), noise)
    return start.flatten(), made.values["action"].flatten()


def test_euler_converges_at_first_order_to_the_analytic_flow() -> None:
    mean, deviation = 2.0, 0.5
    errors = []
    for steps in (8, 16, 32, 64):
        start, sample = one_dimensional(steps, mean, deviation, 64)
        exact = mean + deviation * start  # the probability-flow map of a Gaussian
        errors.append((sample - exact).abs().mean().item())
    orders = [torch.log2(torch.tensor(a / b)).item() for a, b in itertools.pairwise(errors)]
    assert all(0.8 < order < 1.3 for order in orders), (errors, orders)


@settings(max_examples=15, deadline=None)
@given(steps=st.tuples(st.integers(1, 6), st.integers(1, 6)), seed=st.integers(0, 2**31))
def test_streams_have_their_own_steps(steps: tuple[int, int], seed: int) -> None:
    design = Design(recipe("joint"), data_spec()).eval()
    toy = ToyWindows(frames=60)
    observation = acting_observation(toy, [30], design.window)
    budget = Budget(nfe={"action": steps[0], "future": steps[1]})
    trunk_calls = calls_of(design.trunks["main"])
    sampled = design.sample(observation, ["action", "future"], seeds=[seed], budget=budget)
    assert sampled.nfe == {"action": steps[0], "future": steps[1]}
    assert trunk_calls == [1 + max(steps)]
    again = design.sample(observation, ["action", "future"], seeds=[seed], budget=budget)
    assert torch.equal(sampled.values["action"], again.values["action"])


def test_velocity_target_on_a_deterministic_pair() -> None:
    """One datum, one token: the best constant loss is reached when velocity = noise - data."""
    torch.manual_seed(0)
    spec = StreamSpec("action", "action", 1, 1, 2)
    trunk = TransformerConfig(width=32, depth=1, heads=2).build()
    model = DenoiserConfig().build((spec,), (), trunk)
    target = {
        "action": Target(
            torch.tensor([[[[0.7, -0.3]]]]).expand(256, -1, -1, -1), torch.zeros(256, 1, dtype=torch.bool)
        )
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        loss = model.loss(["action"], Call(trunk.empty(256, 1), {}, (), 256), target, None).terms["action"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        made = model.generate(
            ["action"],
            Call(trunk.empty(64, 1), {}, (), 64),
            Budget(nfe={"action": 8}),
            RowNoise([3], copies=64),
        )
    torch.testing.assert_close(
        made.values["action"].mean(dim=(0, 1, 2)), torch.tensor([0.7, -0.3]), atol=0.08, rtol=0
    )


@pytest.mark.learns
def test_both_modes_of_a_bimodal_target_are_sampled_and_their_mean_is_not() -> None:
    torch.manual_seed(0)
    spec = StreamSpec("action", "action", 1, 1, 1)
    trunk = TransformerConfig(width=32, depth=2, heads=2).build()
    model = DenoiserConfig().build((spec,), (), trunk)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rows = 512
    pad = torch.zeros(rows, 1, dtype=torch.bool)
    for _ in range(1200):
        sign = torch.where(torch.rand(rows, 1, 1, 1) < 0.25, -1.0, 1.0)
        loss = model.loss(
            ["action"], Call(trunk.empty(rows, 1), {}, (), rows), {"action": Target(sign, pad)}, None
        )
        optimizer.zero_grad()
        loss.terms["action"].backward()
        optimizer.step()
    with torch.no_grad():
        call = Call(trunk.empty(800, 1), {}, (), 800)
        x = model.generate(["action"], call, Budget(nfe={"action": 20}), RowNoise([5], copies=800)).values[
            "action"
        ]
    assert (x < 0).float().mean().item() == pytest.approx(0.25, abs=0.08)
    assert (x.abs() < 0.5).float().mean().item() < 0.12
    assert x.abs().mean().item() == pytest.approx(1.0, abs=0.12)


# ------------------------------------------------------------------------------------------- chunk-causal


def test_cached_blocks_equal_one_pass_over_all_blocks(data: DataSpec, toy: ToyWindows) -> None:
    """Feeding real blocks one by one leaves the keys and values that a single pass over them computes."""
    design = Design(recipe("chunk_causal"), data).eval()
    design.fit(toy, 0)
    torch.nn.init.normal_(design.trunks["main"].time_bias)  # type: ignore[union-attr, arg-type]
    model = estimator(design)
    assert model.memory is not None
    window = design.training_window
    batch = toy.windows(torch.tensor([40, 80]).numpy(), window)
    past = design._past(batch.observation, batch.action[:, : batch.past], batch.action_pad[:, : batch.past])
    context = design.encode_context(batch.observation.steps([-1]))["main"]
    tokens, pad, clock = model.memory.tokens(past, model._embed)
    with torch.no_grad():
        causal = model.memory.block_causal(clock[0])
        _, whole = model.trunk(tokens, cache=context, pad=pad, times=clock, attend=causal)
        carry = model.initial_carry(2)
        for k in range(past.pad.shape[1]):
            block = replace(
                past,
                values={n: v[:, k : k + 1] for n, v in past.values.items()},
                action=past.action[:, k : k + 1],
                pad=past.pad[:, k : k + 1],
                action_pad=past.action_pad[:, k : k + 1],
            )
            carry = model.observe(carry, context, block)
    for cached, computed in zip(carry["cache"].keys, whole.keys, strict=True):
        torch.testing.assert_close(cached, computed, atol=2e-5, rtol=1e-4)
    assert torch.equal(carry["cache"].times, whole.times)


def test_imagined_blocks_leave_no_trace_after_regrounding(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe("chunk_causal"), data).eval()
    design.fit(toy, 0)
    model = estimator(design)
    first = acting_observation(toy, [40], design.window)
    forecast, state = design.forecast(first, design.initial_state(1), Budget(), [1])
    second = acting_observation(toy, [48], design.window)
    context = design.encode_context(second)
    # Imagine ten blocks from the same state: their values go through the same door as real ones.
    imagined = state
    for _ in range(10):
        imagined = design.imagine(imagined, forecast, context)
    grounded = design.observe(second, state, context)
    afresh = design.observe(second, design.observe(first, design.initial_state(1), context), context)
    assert not torch.equal(imagined["world"]["cache"].keys[0], grounded["world"]["cache"].keys[0])
    for a, b in zip(grounded["world"]["cache"].keys, afresh["world"]["cache"].keys, strict=True):
        assert torch.equal(a, b)
    assert (
        imagined["world"]["cache"].length
        == grounded["world"]["cache"].length
        == (
            model.memory.blocks * model.memory.tokens_per_block  # type: ignore[union-attr]
        )
    )


def test_a_later_block_never_changes_an_earlier_one(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe("chunk_causal"), data).eval()
    design.fit(toy, 0)
    model = estimator(design)
    assert model.memory is not None
    batch = toy.windows(torch.tensor([60]).numpy(), design.training_window)
    past = design._past(batch.observation, batch.action[:, : batch.past], batch.action_pad[:, : batch.past])
    context = design.encode_context(batch.observation.steps([-1]))["main"]
    tokens, pad, clock = model.memory.tokens(past, model._embed)
    n = model.memory.tokens_per_block
    with torch.no_grad():
        causal = model.memory.block_causal(clock[0])
        hidden, _ = model.trunk(tokens, cache=context, pad=pad, times=clock, attend=causal)
        changed = tokens.clone()
        changed[:, 2 * n :] += torch.randn_like(changed[:, 2 * n :])
        other, _ = model.trunk(changed, cache=context, pad=pad, times=clock, attend=causal)
    assert torch.equal(hidden[:, : 2 * n], other[:, : 2 * n])
    assert not torch.allclose(hidden[:, 2 * n :], other[:, 2 * n :])


def test_one_denoiser_cannot_generate_and_read_a_stream(data: DataSpec) -> None:
    """Training would see the stream once, inference twice."""
    config = replace(
        recipe("joint"), factors=(Factor(("future",), (), "world"), Factor(("action",), ("future",), "world"))
    )
    with pytest.raises(ConfigError, match="one factor generates future and another reads it"):
        Design(config, data)


# ------------------------------------------------------------------------------------------- one shared level


def shared(absent: dict[str, float]) -> DenoiserConfig:
    return DenoiserConfig(steps=2, levels="shared", absent=absent)


FUTURE = StreamSpec("future", "future", 1, 2, 3)
ACTION = StreamSpec("action", "action", 2, 1, 2)


def test_a_stream_that_is_absent_some_of_the_time_leaves_one_process(data: DataSpec, toy: ToyWindows) -> None:
    """PAD: the picture is optional, and the design is one diffusion process all the same."""
    recipe_ = replace(recipe("joint"), estimators={"world": shared({"future": 0.4})})
    design = Design(recipe_, data).eval()
    assert (design.cells()["coupling"], design.cells()["backbone"]) == ("Joint generation", "Diffusion")
    design.fit(toy, 0)
    observation = acting_observation(toy, [30, 60], design.window)
    alone = design.sample(observation, ["action"], seeds=[1, 2])
    assert set(alone.values) == {"action"}
    with pytest.raises(ConfigError, match="`clean` shows a stream without noise"):
        Design(replace(recipe_, estimators={"world": replace(shared({}), clean={"future": 0.1})}), data)


def test_the_streams_that_are_there_share_one_level() -> None:
    torch.manual_seed(0)
    model = tiny(shared({"future": 0.4}), [FUTURE, ACTION])
    assert isinstance(model, Denoiser)
    levels = model._draw_levels(["future", "action"], 4000, torch.device("cpu"))
    dropped = levels["future"] == 1
    assert 0.36 < dropped.float().mean() < 0.44
    assert torch.equal(levels["future"][~dropped], levels["action"][~dropped])
    assert bool((levels["action"] < 1).all())
    assert levels["action"][dropped].std() > 0.2  # the others keep the level of the row


def test_without_absent_a_shared_level_draws_what_it_drew_before() -> None:
    values, model = drawn([FUTURE, ACTION], 3), tiny(shared({}), [FUTURE, ACTION])
    torch.manual_seed(3)
    loss = model.loss(["future", "action"], alone(model.trunk, 3), targets(values), None).terms  # type: ignore[arg-type]
    torch.manual_seed(3)
    level = torch.rand(3)
    noise = {name: torch.randn_like(values[name]) for name in ("future", "action")}
    noisy = {n: torch.lerp(values[n], noise[n], level[:, None, None, None]) for n in noise}
    assert isinstance(model, Denoiser)
    field = model._network(noisy, dict.fromkeys(noise, level), model.trunk.empty(3, 1), None)
    for name in noise:
        assert torch.equal(loss[name], (field[name] - (noise[name] - values[name])).square().mean())


def test_nothing_is_learned_of_a_dropped_stream_and_nothing_of_it_reaches_the_others() -> None:
    model = tiny(shared({"future": 0.999}), [FUTURE, ACTION])
    losses = []
    for seed in (1, 2):
        values = drawn([FUTURE, ACTION], 3)
        values["future"] = drawn([FUTURE], 3, seed)["future"]
        torch.manual_seed(0)
        call = alone(model.trunk, 3)  # type: ignore[arg-type]
        losses.append(model.loss(["future", "action"], call, targets(values), None).terms)
    assert losses[0]["future"].item() == 0
    assert torch.equal(losses[0]["action"], losses[1]["action"])
