"""Mixture of transformers: disjoint weights, declared attention, stand-alone experts, insulation, gated bridges."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support import ToyWindows, acting_observation, data_spec
from wamkit.config import decode, encode
from wamkit.contract.types import Budget
from wamkit.design import Design, DesignConfig
from wamkit.errors import ConfigError
from wamkit.estimators.joint import StreamReads, run_joint
from wamkit.trunks import Mixture, MixtureConfig, Transformer, TransformerConfig
from wamkit.zoo import recipe

EXPERTS = {"video": ("future",), "act": ("action",)}
APART: dict[str, tuple[str, ...]] = {"context": (), "video": (), "act": ()}
READ = torch.linspace(-1, 2, 16) ** 3
VIDEO, ACT = ("future", 3), ("action", 2)


def trunk(**changes: object) -> Mixture:
    torch.manual_seed(0)
    config = MixtureConfig(experts=EXPERTS, width=16, depth=2, heads=2)
    return dataclasses.replace(config, **changes).build().eval()  # type: ignore[arg-type]


def alone(model: Mixture, name: str) -> Transformer:
    """A plain transformer with the weights of one expert."""
    expert = model.experts[name]
    hidden = expert.layers[0].mlp[0].out_features  # type: ignore[union-attr, index]
    config = TransformerConfig(
        width=16, depth=2, heads=2, expansion=hidden / 16, time_range=model.config.time_range
    )
    plain = config.build().eval()
    weights = {k.replace("layers.", "blocks."): v for k, v in expert.state_dict().items()}
    missing, extra = plain.load_state_dict(weights, strict=False)
    assert not missing
    assert all("bridge" in key or "gate" in key for key in extra)
    return plain


def slopes(output: Tensor, inputs: Sequence[Tensor]) -> list[float]:
    grads = torch.autograd.grad((output @ READ).sum(), list(inputs), retain_graph=True, allow_unused=True)
    return [0.0 if g is None else g.abs().max().item() for g in grads]


def test_parameter_groups_are_disjoint_and_one_loss_trains_its_own() -> None:
    model = trunk()
    groups = [{id(p) for p in e.parameters()} for e in model.experts.values()]
    assert len(groups) == 3
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(list(model.parameters()))
    hidden, _ = trunk_step(apart := trunk(reads=APART))
    (hidden[:, 3:] @ READ).sum().backward()
    trained = {
        n
        for n, e in apart.experts.items()
        if any(p.grad is not None and p.grad.any() for p in e.parameters())
    }
    assert trained == {"act"}


def trunk_step(model: Mixture) -> tuple[Tensor, Tensor]:
    tokens = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return model(tokens, layout=[VIDEO, ACT])[0], tokens


@pytest.mark.parametrize("span", [0, 2])
def test_without_cross_attention_every_expert_equals_its_stand_alone_model(span: int) -> None:
    model = trunk(reads=APART, time_range=span, expansions={"act": 1.5})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    context, tokens = torch.randn(2, 4, 16), torch.randn(2, 7, 16)
    times = torch.tensor([0, 0, 1, 1, 1, 0, 2]).expand(2, -1)
    _, cache = model(context)
    hidden, _ = model(tokens, cache=cache, times=times, layout=[ACT, VIDEO, ACT])
    act = [0, 1, 5, 6]
    for name, rows in (("act", act), ("video", [2, 3, 4])):
        expected, _ = alone(model, name)(tokens[:, rows], times=times[:, rows])
        torch.testing.assert_close(hidden[:, rows], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(context)[0], alone(model, "context")(context)[0], atol=1e-5, rtol=1e-4)


def test_equal_weights_in_all_experts_are_one_transformer() -> None:
    model = trunk()
    for name in ("video", "act"):
        model.experts[name].load_state_dict(model.experts["context"].state_dict())
    plain = alone(model, "context")
    context, tokens = torch.randn(2, 4, 16), torch.randn(2, 6, 16)
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    pad = torch.tensor([[False] * 6, [False, True] + [False] * 4])
    layout = [("action", 1), ("future", 2), ("action", 2), ("future", 1)]
    hidden, _ = model(tokens, cache=model(context)[1], attend=causal, pad=pad, layout=layout)
    expected, _ = plain(tokens, cache=plain(context)[1], attend=causal, pad=pad)
    torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=1e-5)


def test_decoding_from_the_cache_equals_one_causal_pass() -> None:
    model = trunk(reads={"act": ("context",)})
    tokens = torch.randn(2, 6, 16)
    names = ["action", "future", "future", "action", "future", "action"]
    context = model(torch.randn(2, 3, 16))[1]
    with torch.no_grad():
        mask = torch.ones(6, 6, dtype=torch.bool).tril()
        whole, _ = model(tokens, cache=context, attend=mask, layout=[(n, 1) for n in names])
        cache, steps = context, []
        for i, name in enumerate(names):
            hidden, fresh = model(tokens[:, i : i + 1], cache=cache, layout=[(name, 1)])
            cache = cache.append(fresh)
            steps.append(hidden)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-5, rtol=1e-5)
    assert cache.owners[0].tolist() == [0, 0, 0, 2, 1, 1, 2, 1, 2]


def test_an_expert_reads_exactly_what_is_declared() -> None:
    model = trunk(reads={"act": ("context",)})  # the video reads the action, not the reverse
    context = torch.randn(1, 3, 16, requires_grad=True)
    video, action = (torch.randn(1, n, 16, requires_grad=True) for n in (3, 2))
    hidden, _ = model(torch.cat((video, action), 1), cache=model(context)[1], layout=[VIDEO, ACT])
    to_act = slopes(hidden[:, 3:], (context, video, action))
    assert to_act[1] == 0
    assert min(to_act[0], to_act[2]) > 0
    assert min(slopes(hidden[:, :3], (context, video, action))) > 0


def test_insulated_expert_sends_exactly_no_gradient_into_the_others() -> None:
    model, free = trunk(insulated=("act",)), trunk()
    context, tokens = torch.randn(1, 3, 16, requires_grad=True), torch.randn(1, 5, 16, requires_grad=True)
    hidden, _ = model(tokens, cache=model(context)[1], layout=[VIDEO, ACT])
    expected, _ = free(tokens, cache=free(context)[1], layout=[VIDEO, ACT])
    torch.testing.assert_close(hidden, expected)  # it reads the same
    others = [*model.experts["context"].parameters(), *model.experts["video"].parameters()]
    assert max(slopes(hidden[:, 3:], [context, *others])) == 0
    assert max(slopes(hidden[:, 3:], list(model.experts["act"].parameters()))) > 0
    assert slopes(hidden[:, :3], [context])[0] > 0  # the video expert still trains the context
    assert slopes(expected[:, 3:], [context])[0] > 0


def test_closed_bridge_is_the_stand_alone_expert_and_open_bridge_is_not() -> None:
    model = trunk(bridges={"act": ("video",)})
    tokens = torch.randn(2, 5, 16)
    cache = model(torch.randn(2, 3, 16))[1]

    def run() -> Tensor:
        return model(tokens, cache=cache, layout=[VIDEO, ACT])[0][:, 3:]

    with torch.no_grad():
        closed = run()
        without, _ = model(tokens[:, 3:], cache=cache, layout=[ACT])
        torch.testing.assert_close(closed, without, atol=1e-6, rtol=1e-6)
        edited = tokens.clone()
        edited[:, :3] += 1
        assert torch.equal(
            model(edited, cache=cache, layout=[VIDEO, ACT])[0][:, 3:], closed
        )  # exactly nothing
        for layer in model.experts["act"].layers:  # type: ignore[union-attr]
            layer.gate.fill_(1.0)  # type: ignore[union-attr, operator]
        assert not torch.allclose(run(), closed, atol=1e-3)


def test_every_layer_of_a_bridge_reads_the_same_layer_of_the_other_expert() -> None:
    model = trunk(bridges={"act": ("video",)}, reads={"video": ()})
    with torch.no_grad():
        model.experts["act"].layers[1].gate.fill_(1.0)  # type: ignore[union-attr, index, operator]
    video = torch.randn(1, 3, 16)
    cache = model(video, layout=[VIDEO])[1]
    keys = [k.clone().requires_grad_() for k in cache.keys]
    values = [v.clone().requires_grad_() for v in cache.values]
    cache = dataclasses.replace(cache, keys=tuple(keys), values=tuple(values))
    hidden, _ = model(torch.randn(1, 2, 16), cache=cache, layout=[ACT])
    first, second = slopes(hidden, values)
    assert first == 0
    assert second > 0
    blocked = torch.zeros(2, 5, dtype=torch.bool)
    blocked[:, 3:] = True
    both = torch.ones(5, 5, dtype=torch.bool)
    both[3:] = blocked
    apart, _ = model(torch.randn(1, 5, 16), attend=both, layout=[VIDEO, ACT])
    assert apart.isfinite().all()  # a bridge with nothing to read


@torch.no_grad()
def test_streams_of_two_experts_that_read_each_other_one_way_keep_their_experts() -> None:
    """What goes first is kept for the others as what it is: a video that the action expert may not read."""
    model = trunk(reads={"act": ("context",), "video": ("context",)})
    streams = StreamReads(("future", "action"), {"future": ()}, "test")
    cache = model(torch.randn(2, 4, 16))[1]
    tokens = {"future": torch.randn(2, 3, 16), "action": torch.randn(2, 2, 16)}
    shown = dict.fromkeys(tokens, torch.zeros(2, dtype=torch.bool))
    one = run_joint(model, streams, tokens, shown, cache, None)["action"]
    two = run_joint(model, streams, {**tokens, "future": tokens["future"] + 1}, shown, cache, None)["action"]
    assert torch.equal(one, two)


# -------------------------------------------------------------------------------------------------- in a design


def design(**changes: object) -> DesignConfig:
    mixture = MixtureConfig(experts=EXPERTS, width=32, depth=2, heads=2, expansions={"act": 1.0})
    mixture = dataclasses.replace(mixture, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(recipe("joint"), width=32, trunks={"main": mixture})


def test_dropping_the_video_leaves_the_action_expert_alone() -> None:
    windows = ToyWindows()
    model = Design(design(), data_spec())
    model.fit(windows, 0)
    model.eval()
    ran = dict.fromkeys(("context", "video", "act"), 0)
    for name in ran:
        layer = model.trunks["main"].experts[name].layers[0].mlp  # type: ignore[union-attr, index]
        layer.register_forward_hook(lambda *_, name=name: ran.__setitem__(name, ran[name] + 1))
    seen = acting_observation(windows, [40, 60], model.window)
    forecast, _ = model.forecast(seen, model.initial_state(2), Budget(future=False), [0, 1])
    assert ran == {"context": 1, "video": 0, "act": 4}
    assert forecast.nfe == {"action": 4}
    assert model.cells()["backbone"] == "Hybrid"


def test_a_mixture_trains_and_survives_its_config() -> None:
    config = design(reads={"act": ("context",)}, bridges={"video": ("act",)}, insulated=("act",))
    assert decode(DesignConfig, encode(config), "test") == config
    windows = ToyWindows()
    model = Design(config, data_spec())
    model.fit(windows, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = windows.windows(np.arange(40, 72), model.training_window)
    losses = []
    for _ in range(30):
        loss = model.loss(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 10, "heads": 4}, "not a multiple"),
        ({"experts": {"a": ("action",), "b": ("action",)}}, "'action' belongs to two experts"),
        ({"experts": {"context": ("action",)}}, "'context' always exists"),
        ({"reads": {"act": ("vidio",)}}, "`reads` names 'vidio'.*video"),
        ({"insulated": ("actor",)}, "`insulated` names 'actor'"),
        ({"bridges": {"act": ("act",)}}, "bridge to itself"),
    ],
)
def test_wrong_names_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trunk(**changes)


def test_a_stream_without_an_expert_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="stream 'future' does not have an expert"):
        Design(design(experts={"act": ("action",)}, expansions={}), data_spec())
