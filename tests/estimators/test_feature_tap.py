"""Feature taps: what is handed on, what is not executed, what it owes to the future's training, what it counts as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.config import decode, encode
from wamkit.contract.calls import Call, Generated
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Exposure, Trunk
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design, DesignConfig, Factor, from_pretrained, save_pretrained
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators import DenoiserConfig, FeatureTap, FeatureTapConfig, RegressorConfig
from wamkit.training import OptimConfig
from wamkit.trunks import MixtureConfig, TransformerConfig
from wamkit.zoo import recipe

FUTURE, TAP = StreamSpec("future", "future", 2, 3, 4), StreamSpec("tap", "state", 2, 3, 16)
KINDS: tuple[Exposure, ...] = ("tap", "encoder-only")


def tapped(trunk: Trunk | None = None, **options: object) -> FeatureTap:
    torch.manual_seed(0)
    trunk = trunk or TransformerConfig(width=16, depth=3, heads=2).build()
    options = {"generator": DenoiserConfig(steps=4), "layer": 2, **options}
    return FeatureTapConfig(**options).build((FUTURE, TAP), (), trunk).eval()  # type: ignore[arg-type]


def call_of(model: FeatureTap, rows: int = 2) -> Call:
    context = torch.randn(rows, 4, 16, generator=torch.Generator().manual_seed(3))
    return Call(model.listener.trunk(context)[1], {}, (), rows)


def count_layers(trunk: Trunk) -> list[int]:
    """How often each layer ran from now on."""
    ran = [0] * trunk.depth
    for i, block in enumerate(trunk.blocks):  # type: ignore[arg-type]
        block.register_forward_hook(lambda *_, i=i: ran.__setitem__(i, ran[i] + 1))
    return ran


# ------------------------------------------------------------------------------------------------ what it returns


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("evaluation", [1, 3])
@torch.no_grad()
def test_the_tap_is_the_hidden_state_of_the_named_layer_and_evaluation(layer: int, evaluation: int) -> None:
    model = tapped(layer=layer, evaluation=evaluation)
    call = call_of(model)
    found = model.generate(["tap"], call, Budget(), RowNoise([1, 2]))
    assert found.values["tap"].shape == (2, FUTURE.steps, FUTURE.tokens, 16)
    assert found.nfe == {"tap": evaluation}
    # The same by hand: Euler steps of 1/4, then the first layers of the trunk on what they lead to.
    torch.manual_seed(0)
    trunk = TransformerConfig(width=16, depth=3, heads=2).build()
    plain = DenoiserConfig(steps=4).build((FUTURE,), (), trunk).eval()
    start = RowNoise([1, 2])
    value, level = start.normal(FUTURE.steps, FUTURE.tokens, FUTURE.features), 1.0
    for _ in range(evaluation - 1):
        told = {"future": torch.full((2,), level)}
        value = value - 0.25 * plain._velocity({"future": value}, told, call.context, None)["future"]
        level -= 0.25
    hidden = plain._embed("future", value, torch.full((2,), level))
    for block, keys, values in zip(
        trunk.blocks[:layer], call.context.keys, call.context.values, strict=False
    ):
        hidden, _, _ = block(hidden, (keys, values), None)
    hidden = trunk.norm(hidden) if layer == 3 else hidden
    torch.testing.assert_close(found.values["tap"].flatten(1, 2), hidden, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_call_chooses_the_evaluation_and_the_future_beside_it_changes_nothing() -> None:
    model = tapped()
    call = call_of(model)
    taps = {}
    for at in (1, 2, 4):
        taps[at] = model.generate(["tap"], call, Budget(exit={"tap": at}), RowNoise([1, 2])).values["tap"]
        fixed = tapped(evaluation=at).generate(["tap"], call, Budget(), RowNoise([1, 2])).values["tap"]
        beside = model.generate(["future", "tap"], call, Budget(exit={"tap": at}), RowNoise([1, 2]))
        assert torch.equal(taps[at], fixed)
        torch.testing.assert_close(beside.values["tap"], taps[at])
        alone = model.generate(["future"], call, Budget(), RowNoise([1, 2]))
        assert torch.equal(beside.values["future"], alone.values["future"])
    assert not torch.allclose(taps[1], taps[2], atol=1e-4)


@torch.no_grad()
def test_a_generator_that_settles_before_the_evaluation_is_tapped_where_it_settled() -> None:
    lazy = DenoiserConfig(prediction="equilibrium", steps=6, tolerance=1e9)
    model = tapped(generator=lazy, evaluation=5)
    call = call_of(model)
    first = tapped(generator=lazy, evaluation=1).generate(["tap"], call, Budget(), RowNoise([1, 2]))
    late = model.generate(["tap"], call, Budget(), RowNoise([1, 2]))
    assert torch.equal(late.values["tap"], first.values["tap"])
    assert late.nfe == {"tap": 1}


@pytest.mark.parametrize("outputs", [["tap"], ["future", "tap"]])
@torch.no_grad()
def test_calls_that_interleave_do_not_disturb_each_other(outputs: list[str]) -> None:
    """The second call runs from start to end between two evaluations of the first."""
    model = tapped(evaluation=3)
    call, budget = call_of(model), Budget(exit={"tap": 2})
    first = model.generate(outputs, call, Budget(), RowNoise([1, 2]))
    second = model.generate(["tap"], call, budget, RowNoise([3, 4]))
    inner: list[Generated | None] = []

    def interrupt(*_: object) -> None:
        if not inner:
            inner.append(None)
            inner[0] = model.generate(["tap"], call, budget, RowNoise([3, 4]))

    hook = model.listener.trunk.register_forward_hook(interrupt)
    outer = model.generate(outputs, call, Budget(), RowNoise([1, 2]))
    hook.remove()
    for alone, interleaved in ((first, outer), (second, inner[0])):
        assert interleaved is not None
        assert interleaved.nfe == alone.nfe
        assert all(torch.equal(interleaved.values[name], alone.values[name]) for name in alone.values)


# ---------------------------------------------------------------------------------------- what is not executed


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_tail_of_the_network_is_not_executed(kind: Exposure) -> None:
    model = tapped(kind=kind, layer=1)
    call = call_of(model)
    ran = count_layers(model.listener.trunk)
    model.generate(["tap"], call, Budget(), RowNoise([1, 2]))
    assert ran == [1, 0, 0]
    ran[:] = [0, 0, 0]
    model.generate(["future", "tap"], call, Budget(), RowNoise([1, 2]))
    assert ran == (
        [5, 4, 4] if kind == "tap" else [6, 5, 5]
    )  # four evaluations; encoder-only also its queries
    if kind == "tap":
        ran[:] = [0, 0, 0]
        model.generate(["tap"], call, Budget(exit={"tap": 3}), RowNoise([1, 2]))
        assert ran == [3, 2, 2]


@torch.no_grad()
def test_an_encoder_only_tap_has_no_noise_in_it() -> None:
    model = tapped(kind="encoder-only")
    call = call_of(model)
    one, two = (model.generate(["tap"], call, Budget(), RowNoise([s, s])).values["tap"] for s in (1, 2))
    assert torch.equal(one, two)
    future = [model.generate(["future"], call, Budget(), RowNoise([s, s])).values["future"] for s in (1, 2)]
    assert not torch.equal(*future)


# ---------------------------------------------------------------------------- what it owes to the future's loss


def error(kind: Exposure, mode: str, seed: int = 0) -> float:
    """Held-out error of a linear read-out of the action from the tap; the action is linear in the future.

    The future is a product of waves of what is seen, which no linear read-out of the context gives.
    """
    torch.manual_seed(seed)
    future, tap = StreamSpec("future", "future", 1, 1, 1), StreamSpec("tap", "state", 1, 1, 32)
    trunk = TransformerConfig(width=32, depth=2, heads=2).build()
    see = torch.nn.Linear(2, 32)
    config = FeatureTapConfig(generator=DenoiserConfig(steps=4, emphasis=0.3), kind=kind, layer=2)
    model = config.build((future, tap), (), trunk)
    rows = 128
    pad = torch.zeros(rows, 1, dtype=torch.bool)

    def draw(n: int) -> tuple[Tensor, Call, Tensor]:
        seen = torch.rand(n, 2) * 2 - 1
        cache = trunk(see(seen)[:, None])[1]
        return seen, Call(cache, {}, (), n), (2 * (4 * seen).sin().prod(dim=1)).view(n, 1, 1, 1)

    optimizer = torch.optim.Adam([*model.parameters(), *see.parameters()], lr=3e-3)
    for _ in range(0 if mode == "untrained" else 250):
        _, call, truth = draw(rows)
        if mode == "shuffled":
            truth = truth[torch.randperm(rows)]
        loss = model.loss(["future", "tap"], call, {"future": Target(truth, pad)}, None).terms["future"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def features(n: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            _, call, truth = draw(n)
            made = model.generate(["tap"], call, Budget(), RowNoise([0], copies=n)).values["tap"]
        return torch.cat((made.view(n, -1), torch.ones(n, 1)), dim=1).double(), truth.view(n, 1).double()

    x, y = features(1024)
    weights = torch.linalg.solve(x.T @ x + 1e-2 * torch.eye(33).double(), x.T @ y)
    x, y = features(1024)
    return ((x @ weights - y).square().mean() / y.var()).item()


@pytest.mark.learns
@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_futures_remove_the_gain_over_an_untrained_trunk(kind: Exposure) -> None:
    true, shuffled, untrained = (error(kind, mode) for mode in ("true", "shuffled", "untrained"))
    print(kind, f"true {true:.3f} shuffled {shuffled:.3f} untrained {untrained:.3f}")
    assert true < 0.5 * untrained
    assert shuffled - true > 0.8 * (untrained - true)


# ------------------------------------------------------------------------------------------------------- designs


def design(kind: Exposure = "tap", **changes: object) -> DesignConfig:
    """Like VPP (or Fast-WAM): a video denoiser whose hidden state a policy reads; its loss stays out of the video."""
    base = recipe("joint")
    small = TransformerConfig(width=32, depth=3, heads=2)
    tap = FeatureTapConfig(trunk="video", generator=DenoiserConfig(steps=4), kind=kind, layer=2)
    config = replace(
        base,
        width=32,
        taps={"tap": "future"},
        trunks={"video": small, "policy": replace(small, depth=2)},
        estimators={"video": tap, "policy": DenoiserConfig(trunk="policy", steps=4, temperature=0.0)},
        factors=(
            Factor(("future", "tap"), (), "video"),
            Factor(("action",), ("tap",), "policy", read="prediction"),
        ),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "paths"), [("tap", ("produces",)), ("encoder-only", ("trains",))])
def test_the_survey_tuple_is_computed(kind: Exposure, paths: tuple[str, ...], data: DataSpec) -> None:
    model = Design(design(kind), data)
    cells = (f"Feature ({kind})", "Post-prediction head", "Diffusion", "Chunked")
    assert tuple(model.cells().values()) == cells
    assert model.factorisation() == "p(s,z|c) p(a|z,c)"
    assert model.graph.wam().paths == paths
    assert model.streams["tap"].features == 32


def test_the_cell_follows_what_the_action_reads(data: DataSpec) -> None:
    config = design()
    unread = replace(config, factors=(config.factors[0], Factor(("action",), (), "policy")))
    with pytest.raises(ConfigError, match="tap 'tap' is read by no factor"):
        Design(unread, data)
    both = replace(config, factors=(config.factors[0], Factor(("action",), ("future", "tap"), "policy")))
    assert Design(both, data).cells()["substrate"] == "Pixel (latent) ∧ Feature (tap)"


@pytest.mark.parametrize("kind", KINDS)
def test_trains_acts_and_reloads(kind: Exposure, data: DataSpec, toy: ToyWindows, tmp_path: Path) -> None:
    assert decode(DesignConfig, encode(design(kind)), "test") == design(kind)
    torch.manual_seed(0)
    model = Design(design(kind), data)
    model.fit(toy, 0)
    optimizer = OptimConfig(lr=2e-3).build(model)
    rng, totals = np.random.default_rng(0), []
    for _ in range(25):
        losses = model.loss(toy.windows(rng.integers(toy.num_frames, size=16), model.training_window))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        totals.append(losses.total.item())
    assert np.mean(totals[-5:]) < np.mean(totals[:3])
    model.eval()
    seen = acting_observation(toy, [40, 90], model.window)
    ran = count_layers(model.trunks["video"])  # type: ignore[arg-type]
    quick, _ = model.forecast(seen, model.initial_state(2), Budget(future=False), [1, 2])
    assert ran == [2, 2, 1]  # the context through all of them, the tap through two
    assert quick.future == {}
    assert set(quick.nfe) == {"tap", "action"}
    whole, _ = model.forecast(seen, model.initial_state(2), Budget(), [1, 2])
    assert set(whole.future) == {"future"}
    save_pretrained(model, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    repeated, _ = again.forecast(seen, again.initial_state(2), Budget(future=False), [1, 2])
    assert torch.equal(quick.action, repeated.action)


@pytest.mark.parametrize("kind", KINDS)
def test_the_factor_that_reads_the_tap_decides_who_trains_the_video(
    kind: Exposure, data: DataSpec, toy: ToyWindows
) -> None:
    for read, reached in (("prediction", False), ("target", True)):
        base = design(kind)
        action = replace(base.factors[1], read=read)  # type: ignore[arg-type]
        model = Design(replace(base, factors=(base.factors[0], action)), data)
        model.fit(toy, 0)
        losses = model.loss(toy.windows(np.arange(40, 44), model.training_window))
        losses.terms["action"].backward()
        layers = model.trunks["video"].blocks
        got = [any(p.grad is not None and p.grad.any() for p in b.parameters()) for b in layers]  # type: ignore[union-attr]
        assert got == [reached, reached, False]


def test_a_mixture_needs_no_expert_for_what_it_only_hands_on(data: DataSpec, toy: ToyWindows) -> None:
    video = MixtureConfig(experts={"video": ("future",)}, width=32, depth=3, heads=2)
    model = Design(
        design(trunks={"video": video, "policy": TransformerConfig(width=32, depth=2, heads=2)}), data
    )
    model.fit(toy, 0)
    losses = model.loss(toy.windows(np.arange(40, 44), model.training_window))
    assert set(losses.terms) == {"future", "action"}
    video, policy = model.trunks["video"], model.trunks["policy"]
    losses.terms["action"].backward(retain_graph=True)  # it reads the hidden states as values
    assert not any(p.grad is not None and p.grad.any() for p in video.parameters())
    assert any(p.grad is not None and p.grad.any() for p in policy.parameters())
    losses.terms["future"].backward()
    learned = {name for name, p in video.named_parameters() if p.grad is not None and p.grad.any()}
    assert {name.split(".")[1] for name in learned} == {
        "context",
        "video",
    }  # one expert, and none for the tap
    assert all(f"experts.video.layers.{layer}.qkv.weight" in learned for layer in range(3))


# ------------------------------------------------------------------------------------------------------ refusals


def test_what_makes_no_sense_is_refused(data: DataSpec) -> None:
    with pytest.raises(ConfigError, match="layer 4 of a trunk that has layers 1 to 3"):
        tapped(layer=4)
    with pytest.raises(ConfigError, match="cannot be stopped at an evaluation"):
        tapped(generator=RegressorConfig())
    with pytest.raises(BudgetError, match=r"tap 'tap' at evaluation 5 of 'future'.*its nfe, which is 4"):
        tapped(evaluation=5)
    with pytest.raises(ConfigError, match=r"unknown future 'futur'.*future"):
        Design(design(taps={"tap": "futur"}), data)
    reads_tap = Factor(("action",), ("tap",), "policy")
    with pytest.raises(ConfigError, match="no factor generates it together with 'future'"):
        Design(design(factors=(Factor(("future",), (), "video"), reads_tap)), data)
    plain = {"video": DenoiserConfig(trunk="video"), "policy": DenoiserConfig(trunk="policy")}
    with pytest.raises(ConfigError, match="exposes no hidden state"):
        Design(design(estimators=plain), data)
    model = Design(design(), data)
    with pytest.raises(BudgetError, match="at evaluation 5"):
        model.check_budget(Budget(exit={"tap": 5}))
    with pytest.raises(BudgetError, match="after the exit of 'future' at 2"):
        model.check_budget(Budget(exit={"tap": 3, "future": 2}))
    with pytest.raises(BudgetError, match="no evaluation leads to it"):
        Design(design("encoder-only"), data).check_budget(Budget(exit={"tap": 1}))


@pytest.mark.parametrize("layers", [0, 4])
def test_a_trunk_says_which_layers_it_has(layers: int) -> None:
    for config in (TransformerConfig(width=16, depth=3, heads=2), MixtureConfig(width=16, depth=3, heads=2)):
        with pytest.raises(ConfigError, match=f"cannot stop after layer {layers}; it has layers 1 to 3"):
            config.build()(torch.zeros(1, 2, 16), layers=layers)  # type: ignore[attr-defined]
