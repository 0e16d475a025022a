"""Pasts: several factors that keep one, calls at any tick, and a state that is a function of what happened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows
from wamkit.actions import ChunkConfig
from wamkit.contract.calls import Call
from wamkit.contract.data import DataSpec
from wamkit.contract.rows import join_observations, join_rows
from wamkit.contract.types import Budget, Carries, Observation, map_tensors
from wamkit.controllers import Interactive, SingleStep
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.errors import ConfigError
from wamkit.estimators import Denoiser, DenoiserConfig, StagedConfig
from wamkit.evaluation.closed_loop.tree import signature
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

STRIDE = 8


def cascade(**changes: object) -> DesignConfig:
    """Video with a cache of real blocks, then inverse dynamics with one of its own (LingBot-VA)."""
    config = replace(
        recipe("chunk_causal"),
        name="cascade",
        substrates={"video": PixelLatentConfig(PatchPCAConfig(patch=32, features=16))},
        futures={"future": FutureConfig("video", (STRIDE,))},
        trunks={"main": TransformerConfig(width=128, depth=2, heads=4, time_range=8)},
        estimators={
            "video": DenoiserConfig(steps=2, history=3, remembers=("action",)),
            "inverse": DenoiserConfig(steps=2, history=3),
        },
        factors=(Factor(("future",), (), "video"), Factor(("action",), ("future",), "inverse")),
        controller=Interactive(execute=STRIDE),
        loss_weights={},
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def stages() -> DesignConfig:
    """Both in one factor, each stage with a past of its own."""
    part = DenoiserConfig(steps=2, history=3)
    world = StagedConfig(
        parts={"video": part, "inverse": part}, streams={"video": ("future",), "inverse": ("action",)}
    )
    return cascade(estimators={"world": world}, factors=(Factor(("future", "action"), (), "world"),))


def chunk_of_many() -> DesignConfig:
    """Predict a chunk of 8, execute one, with a block per tick (DreamZero's cell)."""
    return cascade(
        stride=1,
        action=ChunkConfig(ticks_per_token=1),
        estimators={"world": DenoiserConfig(steps=2, history=4, levels="shared")},
        factors=(Factor(("future", "action"), (), "world"),),
        controller=SingleStep(),
    )


def ready(config: DesignConfig, data: DataSpec, toy: ToyWindows) -> Design:
    torch.manual_seed(0)
    design = Design(config, data).eval()
    design.fit(toy, 0)
    for name in design.trunks:
        if config.trunks[name].time_range:  # type: ignore[attr-defined]
            torch.nn.init.normal_(design.trunks[name].time_bias)  # type: ignore[union-attr, arg-type]
    return design


def at(design: Design, toy: ToyWindows, tick: int, words: str = "push it") -> Observation:
    """What a runner shows at ``tick`` of an episode that is the toy's own recording."""
    batch = toy.windows(np.array([tick]), design.window)
    stride = design.config.stride
    done = tick % stride or min(tick, stride)
    pad = torch.arange(stride)[None] >= done
    action = torch.zeros(1, stride, 4)
    action[0, :done] = torch.from_numpy(toy.action[tick - done : tick])
    return replace(batch.observation, task=(words,), past_action=action, past_action_pad=pad)


def equal(one: Carries, other: Carries) -> bool:
    """Whether two states are bit-equal: of one structure, with equal tensors."""
    found: list[list[Tensor]] = [[], []]
    for tensors, state in zip(found, (one, other), strict=True):
        map_tensors(state, lambda t, tensors=tensors: tensors.append(t) or t)  # type: ignore[func-returns-value]
    same = all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    return same and signature(one) == signature(other)


DESIGNS = {
    "cascade": cascade,
    "one factor": lambda: recipe("chunk_causal"),
    "stages": stages,
    "state space": lambda: recipe("recurrent"),
}


@pytest.mark.parametrize("make", DESIGNS.values(), ids=DESIGNS)
def test_the_state_does_not_depend_on_when_the_design_was_called(
    make: object, data: DataSpec, toy: ToyWindows
) -> None:
    """Calls inside blocks, imagined blocks and blocks without a call leave what the trajectory alone leaves."""
    design = ready(make(), data, toy)  # type: ignore[operator]
    scratch = [design.initial_state(1)]
    for tick in range(0, 41, STRIDE):
        scratch.append(design.remember(at(design, toy, tick), scratch[-1]))
    state = design.initial_state(1)
    for tick in range(41):
        seen = at(design, toy, tick)
        if tick in (0, 3, 4, 15, 16, 33, 40):
            forecast, state = design.forecast(seen, state, Budget(), [tick])
            imagined = design.imagine(state, forecast, design.encode_context(seen))
            assert not equal(imagined, state)
        elif tick % STRIDE == 0:
            state = design.remember(seen, state)
        if tick % STRIDE == 0:
            assert equal(state, scratch[1 + tick // STRIDE]), tick
    assert not equal(scratch[-1], scratch[-2])


@pytest.mark.parametrize("make", DESIGNS.values(), ids=DESIGNS)
def test_a_call_inside_a_block_sees_now_and_the_memory_before(
    make: object, data: DataSpec, toy: ToyWindows
) -> None:
    design = ready(make(), data, toy)  # type: ignore[operator]
    state = design.initial_state(1)
    for tick in (0, 8):
        state = design.remember(at(design, toy, tick), state)
    seen = at(design, toy, 11)
    now = design.forecast(seen, state, Budget(), [1])[0].action
    other = at(design, toy, 200)
    moved = replace(seen, images=other.images, state=other.state)
    assert not torch.equal(design.forecast(moved, state, Budget(), [1])[0].action, now)
    fresh = design.remember(at(design, toy, 0), design.initial_state(1))
    assert not torch.equal(design.forecast(seen, fresh, Budget(), [1])[0].action, now)


def test_rows_at_different_places_of_their_blocks_keep_their_own(data: DataSpec, toy: ToyWindows) -> None:
    design = ready(cascade(), data, toy)
    start = design.remember(at(design, toy, 8), design.initial_state(1))
    seen = [at(design, toy, tick) for tick in (16, 19)]
    alone = [design.forecast(one, start, Budget(), [7])[1] for one in seen]
    _, state = design.forecast(join_observations(seen), join_rows([start, start]), Budget(), [7, 7])
    counts = state["inverse"]["count"]
    assert counts.tolist() == [2, 1] == [a["inverse"]["count"].item() for a in alone]
    for row, mine in enumerate(alone):
        for cached, own in zip(state["inverse"]["cache"].keys, mine["inverse"]["cache"].keys, strict=True):
            torch.testing.assert_close(cached[row], own[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["video", "inverse"])
def test_every_factor_remembers_what_it_needs(name: str, data: DataSpec, toy: ToyWindows) -> None:
    """Blocks fed one by one are one pass over them all; past actions and past pictures both reach each factor."""
    design = ready(cascade(), data, toy)
    model = design.estimators[name]
    assert isinstance(model, Denoiser)
    assert model.memory is not None
    assert model.memory.layout(1) == [("action", 2), ("future", design.streams["future"].tokens)]
    batch = toy.windows(np.array([40, 80]), design.training_window)
    past = design._past(batch.observation, batch.action[:, : batch.past], batch.action_pad[:, : batch.past])
    context = design.encode_context(batch.observation.steps([-1]))["main"]
    tokens, pad, clock = model.memory.tokens(past, model._embed)
    with torch.no_grad():
        causal = model.memory.block_causal(clock[0])
        _, whole = model.trunk(tokens, cache=context, pad=pad, times=clock, attend=causal)
        carry = model.initial_carry(2)
        for k in range(past.pad.shape[1]):
            one = slice(k, k + 1)
            values = {n: v[:, one] for n, v in past.values.items()}
            block = replace(
                past,
                values=values,
                action=past.action[:, one],
                pad=past.pad[:, one],
                action_pad=past.action_pad[:, one],
            )
            carry = model.observe(carry, context, block)
    for cached, computed in zip(carry["cache"].keys, whole.keys, strict=True):
        torch.testing.assert_close(cached, computed, atol=2e-5, rtol=1e-4)


def test_training_reads_the_past_as_acting_does(data: DataSpec, toy: ToyWindows) -> None:
    """Memory of a factor with a given stream: the current future, which acting cannot know yet, is not in its keys."""
    design = ready(cascade(), data, toy)
    model = design.estimators["inverse"]
    assert isinstance(model, Denoiser)
    batch = toy.windows(np.array([40]), design.training_window)
    past = design._past(batch.observation, batch.action[:, : batch.past], batch.action_pad[:, : batch.past])
    context = design.encode_context(batch.observation.steps([-1]))["main"]
    known = design.targets(batch)
    caches = []
    model.trunk.register_forward_hook(lambda _, args, kwargs, out: caches.append(out[1]), with_kwargs=True)
    with torch.no_grad():
        for shift in (0.0, 5.0):
            given = {"future": known["future"].values + shift}
            model.loss(["action"], Call(context, given, (), 1), known, past)
    assert len(caches) == 6  # given, history, network; twice
    assert not torch.equal(caches[0].keys[0], caches[3].keys[0])
    for one, other in zip(caches[1].keys, caches[4].keys, strict=True):
        assert torch.equal(one, other)


def test_the_cascade_trains_and_reads_as_its_own_cell(data: DataSpec, toy: ToyWindows) -> None:
    design = ready(cascade(), data, toy)
    assert design.factorisation() == "p(s|c) p(a|s,c)"
    cells = design.cells()
    assert (cells["coupling"], cells["backbone"]) == ("Post-prediction head", "Hybrid")
    losses = design.loss(toy.windows(np.arange(40, 48), design.training_window))
    assert set(losses.terms) == {"future", "action"}
    losses.total.backward()
    remembered = design.estimators["video"].remembered["action"].inward.weight.grad  # type: ignore[union-attr, index]
    assert bool(remembered.abs().sum() > 0)  # the executed actions reach the video


def test_a_chunk_is_predicted_and_one_action_of_it_executed(data: DataSpec, toy: ToyWindows) -> None:
    design = ready(chunk_of_many(), data, toy)
    cells = design.cells()
    assert (cells["coupling"], cells["backbone"]) == ("Joint generation", "AR / Diffusion")
    design.loss(toy.windows(np.arange(40, 44), design.training_window)).total.backward()
    state = design.initial_state(1)
    for tick in range(6):
        forecast, state = design.forecast(at(design, toy, tick), state, Budget(), [tick])
        assert forecast.action.shape == (1, 8, 4)
        assert state["world"]["count"].item() == tick + 1


def test_stages_keep_their_pasts_and_train_through_them(data: DataSpec, toy: ToyWindows) -> None:
    design = ready(stages(), data, toy)
    assert design.past_blocks == 3
    assert set(design.initial_state(1)["world"]) == {"video", "inverse"}
    losses = design.loss(toy.windows(np.arange(40, 44), design.training_window))
    losses.total.backward()
    assert set(losses.terms) == {"future", "action"}
    part = DenoiserConfig(history=3, remembers=("action",))
    config = replace(design.config.estimators["world"], parts={"video": part, "inverse": part})  # type: ignore[type-var, call-arg]
    with pytest.raises(ConfigError, match="stage 'video' has `remembers`"):
        Design(replace(design.config, estimators={"world": config}), data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 4}, "a block of 8 ticks is not a whole number of up to 1 steps"),
        ({"stride": 2}, "not a whole number of up to 2 steps of stream 'action', 4 ticks"),
        (
            {"estimators": {"video": DenoiserConfig(history=3, remembers=("actoin",))}},
            "Did you mean 'action'",
        ),
        (
            {"estimators": {"video": DenoiserConfig(history=3, remembers=("future",))}},
            "generates or is given",
        ),
        ({"estimators": {"video": DenoiserConfig(remembers=("action",))}}, "without `history`"),
    ],
)
def test_pasts_that_do_not_fit_are_refused(changes: dict[str, object], message: str, data: DataSpec) -> None:
    if "estimators" in changes:
        changes = {**changes, "estimators": {**cascade().estimators, **changes["estimators"]}}  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=message):
        Design(cascade(**changes), data)
