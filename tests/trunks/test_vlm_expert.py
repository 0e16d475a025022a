"""A language model with an attached expert: parity with the library, what runs how often, who is trained by whom."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import ChunkConfig
from wamkit.config import decode, encode
from wamkit.contract.data import DataSpec
from wamkit.contract.specs import ActionSpec
from wamkit.contract.types import Budget, Losses
from wamkit.design import Design, DesignConfig, Factor, from_pretrained, save_pretrained
from wamkit.errors import ConfigError
from wamkit.estimators import AutoregressorConfig, DenoiserConfig
from wamkit.substrates import PatchVQConfig, PixelLatentConfig
from wamkit.training import OptimConfig
from wamkit.trunks import VlmExpert, VlmExpertConfig
from wamkit.zoo import recipe

transformers = pytest.importorskip("transformers")
KINDS = ("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt2")
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SMALL = {
    **TINY,
    "head_dim": 8,
    "intermediate_size": 48,
    "vocab_size": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ACTION, TEXT = ("action", 2), ("text", 3)


def architecture(kind: str = "llama") -> str:
    return json.dumps({"config": {"model_type": kind, "pad_token_id": 0, **SMALL}})


def trunk(kind: str = "llama", **options: object) -> VlmExpert:
    torch.manual_seed(0)
    options = {"width": 16, "language": ("text",), **options}
    model = VlmExpertConfig(architecture=architecture(kind), **options).build().eval()  # type: ignore[arg-type]
    for parameter in model.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # a fresh model is nearly the identity
    return model


def worst(one: Tensor, two: Tensor) -> float:
    return (one - two).abs().max().item()


# --------------------------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_context_goes_through_the_model_as_the_library_runs_it(kind: str) -> None:
    model = trunk(kind, prefix="causal")
    context = torch.randn(2, 6, 32)
    hidden, cache = model(context)
    whole = model.model.decoder(
        inputs_embeds=context, past_key_values=transformers.DynamicCache(), use_cache=True
    )
    assert worst(hidden, whole.last_hidden_state) < 1e-5
    for layer, keys, values in zip(whole.past_key_values.layers, cache.keys, cache.values, strict=True):
        assert worst(layer.keys, keys) < 1e-5
        assert worst(layer.values, values) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_the_model_writes_after_a_cached_context_equals_one_pass_over_both(kind: str) -> None:
    model = trunk(kind, prefix="causal")
    context, text = torch.randn(2, 6, 32), torch.randn(2, 3, 16)
    cache = model(context)[1]
    causal = torch.ones(3, 3, dtype=torch.bool).tril()
    hidden, fresh = model(text, cache=cache, attend=causal, layout=[TEXT])
    embeds = torch.cat((context, model.inward(text)), dim=1)
    whole = model.model.decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state
    assert worst(hidden, model.outward(whole[:, 6:])) < 1e-5
    one, cache = model(text[:, :1], cache=cache, layout=[("text", 1)])[1], cache
    second, _ = model(text[:, 1:2], cache=cache.append(one), layout=[("text", 1)])
    assert worst(second, hidden[:, 1:2]) < 1e-5  # token by token
    assert fresh.owners.eq(0).all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_expert_turns_its_keys_as_the_model_turns_those_of_its_next_token(kind: str) -> None:
    model = trunk(kind)
    if model.model.rotary is None:
        assert worst(model.model.rotate(torch.ones(1, 2, 1, 8), 6, 0), torch.ones(1, 2, 1, 8)) == 0
        return
    token = torch.randn(2, 1, 32)
    kept = transformers.DynamicCache()
    embeds = torch.cat((torch.randn(2, 6, 32), token), dim=1)
    model.model.decoder(inputs_embeds=embeds, past_key_values=kept, use_cache=True)
    first = model.model.decoder.layers[0]
    attention = first.self_attn
    keys = attention.k_proj(first.input_layernorm(token)).unflatten(2, (-1, 8))
    if kind in ("qwen3", "gemma3_text"):
        keys = attention.k_norm(keys)
    assert worst(model.model.rotate(keys.transpose(1, 2), 6, 0), kept.layers[0].keys[:, :, 6:]) < 1e-5


@torch.no_grad()
def test_a_bidirectional_context_lets_everyone_read_everyone() -> None:
    model = trunk()
    context = torch.randn(1, 5, 32)
    edited = context.clone()
    edited[:, -1] += 1
    assert worst(model(context)[0][:, 0], model(edited)[0][:, 0]) > 1e-3
    causal = trunk(prefix="causal")
    assert torch.equal(causal(context)[0][:, 0], causal(edited)[0][:, 0])
    hidden = context  # the library's own layers, one after the other, under no mask
    place = model.model.decoder.rotary_emb(context, torch.arange(5)[None])
    for layer in model.model.decoder.layers:
        hidden = layer(hidden, attention_mask=torch.zeros(1, 1, 5, 5), position_embeddings=place)
    assert worst(model(context)[0], model.model.decoder.norm(hidden)) < 1e-5


@torch.no_grad()
def test_padded_tokens_are_read_by_nobody() -> None:
    model = trunk()
    context = torch.randn(2, 5, 32)
    pad = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    edited = context.clone()
    edited[1, 3:] += 1
    tokens = torch.randn(2, 2, 16)
    caches = [model(c, pad=pad)[1] for c in (context, edited)]
    one, two = (model(tokens, cache=cache, layout=[ACTION])[0] for cache in caches)
    assert torch.equal(one, two)
    assert torch.equal(caches[0].keys[1][1, :, :3], caches[1].keys[1][1, :, :3])


@torch.no_grad()
def test_expert_tokens_that_nobody_reads_move_no_other() -> None:
    model = trunk(expert=("action", "future"))
    cache = model(torch.randn(2, 5, 32))[1]
    future, action = torch.randn(2, 4, 16), torch.randn(2, 2, 16)
    apart = torch.block_diag(torch.ones(4, 4), torch.ones(2, 2)).bool()
    both, _ = model(torch.cat((future, action), 1), cache=cache, attend=apart, layout=[("future", 4), ACTION])
    alone, fresh = model(action, cache=cache, layout=[ACTION])
    torch.testing.assert_close(both[:, 4:], alone)
    assert len(fresh.keys) == 2
    memory = cache.append(model.empty(2, 3))
    torch.testing.assert_close(model(action, cache=memory, layout=[ACTION])[0], alone)
    stopped, part = model(action, cache=cache, layout=[ACTION], layers=1)
    assert len(part.keys) == 1
    assert worst(stopped, alone) > 1e-3


@torch.no_grad()
def test_every_layer_of_the_expert_reads_the_same_layer_of_the_model() -> None:
    model = trunk()
    cache = model(torch.randn(1, 5, 32))[1]
    action = torch.randn(1, 2, 16)
    plain, made = model(action, cache=cache, layout=[ACTION])
    last = replace(cache, values=(cache.values[0], cache.values[1] + 1))
    after, unmoved = model(action, cache=last, layout=[ACTION])
    assert torch.equal(made.keys[1], unmoved.keys[1])  # the second layer's input does not know of it
    assert worst(plain, after) > 1e-3


# --------------------------------------------------------------------------------------------------------- designs


def design(**options: object) -> DesignConfig:
    """Like pi0: a language model reads the context, an expert denoises the action."""
    vlm = VlmExpertConfig(architecture=architecture(), width=16, **options)  # type: ignore[arg-type]
    return replace(recipe("direct"), width=24, trunks={"main": vlm})


def thinking(**options: object) -> DesignConfig:
    """Like CoT-VLA: the model itself writes the future in tokens, the expert acts on them."""
    vlm = VlmExpertConfig(architecture=architecture(), width=16, language=("future",), **options)  # type: ignore[arg-type]
    base = recipe("autoregressive")
    return replace(
        base,
        width=24,
        horizon=8,
        action=ChunkConfig(ticks_per_token=4),
        substrates={"video": PixelLatentConfig(PatchVQConfig(patch=16, features=8, vocabulary=16))},
        futures={"future": replace(base.futures["future"], offsets=(8,))},
        trunks={"main": vlm},
        estimators={"writer": AutoregressorConfig(), "policy": DenoiserConfig(steps=3)},
        factors=(Factor(("future",), (), "writer"), Factor(("action",), ("future",), "policy")),
    )


def built(config: DesignConfig, data: DataSpec, toy: ToyWindows) -> Design:
    torch.manual_seed(0)
    model = Design(config, data)
    model.fit(toy, 0)
    return model


def losses_of(model: Design, toy: ToyWindows) -> Losses:
    return model.loss(toy.windows(np.arange(40, 56), model.training_window))


def train(model: Design, toy: ToyWindows, steps: int) -> list[float]:
    optimizer = OptimConfig(lr=2e-3).build(model)
    totals = []
    for _ in range(steps):
        total = losses_of(model, toy).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    model.eval()
    return totals


def touched(module: torch.nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


def vlm(model: Design) -> torch.nn.Module:
    found = model.trunks["main"]
    assert isinstance(found, VlmExpert)
    return found.model


def test_the_survey_tuple_is_computed(data: DataSpec) -> None:
    direct, cot = Design(design(), data), Design(thinking(), data)
    assert tuple(direct.cells().values()) == ("None", "Direct", "LLM/VLM", "Chunked")
    assert direct.graph.wam().kind == "VLA"
    assert tuple(cot.cells().values()) == ("Pixel (latent)", "Post-prediction head", "LLM/VLM", "Chunked")
    assert cot.graph.wam().paths == ("produces",)
    assert Design(recipe("direct"), data).cells()["backbone"] == "Diffusion"
    beside = replace(recipe("joint"), width=24, trunks=design(expert=("action", "future")).trunks)
    assert Design(beside, data).cells()["backbone"] == "Hybrid"  # two clocks on one model


@pytest.mark.parametrize("config", [design(), thinking()], ids=["pi0", "cot"])
def test_trains_acts_and_reloads(
    config: DesignConfig, data: DataSpec, toy: ToyWindows, tmp_path: Path
) -> None:
    assert decode(DesignConfig, encode(config), "test") == config
    model = built(config, data, toy)
    totals = train(model, toy, 20)
    assert np.mean(totals[-3:]) < 0.9 * np.mean(totals[:3])
    seen = acting_observation(toy, [40, 90], model.window)
    made, _ = model.forecast(seen, model.initial_state(2), Budget(), [1, 2])
    save_pretrained(model, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    repeated, _ = again.forecast(seen, again.initial_state(2), Budget(), [1, 2])
    assert torch.equal(made.action, repeated.action)


def test_the_model_runs_once_per_chunk_and_its_cached_prefix_stands_for_it(
    data: DataSpec, toy: ToyWindows
) -> None:
    model = built(design(), data, toy).eval()
    calls = []
    vlm(model).decoder.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    seen = acting_observation(toy, [40, 90], model.window)
    for nfe in (1, 7):
        calls.clear()
        made, _ = model.forecast(seen, model.initial_state(2), Budget(nfe={"action": nfe}), [1, 2])
        assert (len(calls), made.nfe["action"]) == (1, nfe)
    with torch.no_grad():
        prefix = model.encode_context(seen)
        fresh = model.sample(seen, ["action"], seeds=[1, 2]).values["action"]
        for parameter in vlm(model).parameters():
            parameter.fill_(float("nan"))  # the model is gone
        calls.clear()
        cached = model.sample(seen, ["action"], seeds=[1, 2], context=prefix).values["action"]
    assert torch.equal(fresh, cached)
    assert calls == []


def test_another_embodiment_trains_an_expert_and_leaves_the_model_as_it_is(toy: ToyWindows) -> None:
    first = built(design(learning="frozen"), data_spec(), toy)
    other = replace(data_spec(), action=ActionSpec(("x", "y"), (-1.0,) * 2, (1.0,) * 2, 40.0))
    other = replace(
        other, stats={**other.stats, "action": {k: v[:2] for k, v in other.stats["action"].items()}}
    )
    torch.manual_seed(5)
    second = Design(design(learning="frozen"), other)
    vlm(second).load_state_dict(vlm(first).state_dict())
    before = {k: v.clone() for k, v in vlm(second).state_dict().items()}
    expert = {k: v.clone() for k, v in second.trunks["main"].layers.state_dict().items()}  # type: ignore[union-attr]
    optimizer = OptimConfig(lr=1e-2).build(second)
    for _ in range(5):
        batch = toy.windows(np.arange(40, 56), second.training_window)
        optimizer.zero_grad()
        second.loss(replace(batch, action=batch.action[..., :2])).total.backward()
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in vlm(second).state_dict().items())
    assert all(
        not torch.equal(v, expert[k])
        for k, v in second.trunks["main"].layers.state_dict().items()  # type: ignore[union-attr]
    )
    seen = acting_observation(toy, [40], second.window)
    for model, width in ((first.eval(), 4), (second.eval(), 2)):
        made, _ = model.forecast(seen, model.initial_state(1), Budget(), [1])
        assert made.action.shape == (1, 16, width)


@pytest.mark.parametrize(
    ("learning", "model_learns", "encoders_learn"),
    [("all", True, True), ("frozen", False, True), ("insulated", False, False)],
)
def test_what_the_action_trains(
    learning: str, model_learns: bool, encoders_learn: bool, data: DataSpec, toy: ToyWindows
) -> None:
    model = built(thinking(learning=learning), data, toy)
    losses_of(model, toy).terms["action"].backward()
    assert touched(model.trunks["main"].layers)  # type: ignore[union-attr, arg-type]
    assert touched(vlm(model)) == model_learns
    assert touched(model.encoders["images"]) == encoders_learn
    model.zero_grad()
    losses_of(model, toy).terms["future"].backward()
    assert not touched(model.trunks["main"].layers)  # type: ignore[union-attr, arg-type]
    assert touched(vlm(model)) == (learning != "frozen")


def test_weights_come_from_a_folder_and_go_with_the_checkpoint(
    data: DataSpec, toy: ToyWindows, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    settings = transformers.AutoConfig.for_model("qwen2", **SMALL)
    source = transformers.AutoModelForCausalLM.from_config(settings)
    source.save_pretrained(tmp_path / "qwen")
    config = replace(design(), trunks={"main": VlmExpertConfig(model=str(tmp_path / "qwen"), width=16)})
    model = built(config, data, toy).eval()
    own = vlm(model).state_dict()
    for name, weight in source.model.state_dict().items():
        if not name.startswith("embed_tokens"):
            assert torch.equal(own[f"decoder.{name}"], weight), name
    seen = acting_observation(toy, [40, 90], model.window)
    made, _ = model.forecast(seen, model.initial_state(2), Budget(), [1, 2])
    save_pretrained(model, tmp_path / "model")
    shutil.rmtree(tmp_path / "qwen")
    again = from_pretrained(tmp_path / "model")
    repeated, _ = again.forecast(seen, again.initial_state(2), Budget(), [1, 2])
    assert torch.equal(made.action, repeated.action)
    bare = config.trunks["main"].build()
    with pytest.raises(ConfigError, match="cannot load the model"):
        bare(torch.zeros(1, 2, 32))


# -------------------------------------------------------------------------------------------------------- refusals


def test_what_does_not_fit_is_refused(data: DataSpec) -> None:
    with pytest.raises(ConfigError, match="name a `model`"):
        VlmExpertConfig().build()
    with pytest.raises(ConfigError, match="are in both `expert` and `language`"):
        trunk(expert=("text",))
    with pytest.raises(ConfigError, match="stream 'future' is neither the expert's nor the model's"):
        Design(replace(recipe("joint"), trunks=design().trunks), data)
    model = trunk()
    with pytest.raises(ConfigError, match="cannot go side by side"):
        model(torch.zeros(1, 5, 16), layout=[ACTION, TEXT])
    with pytest.raises(ConfigError, match="the model itself cannot stop after layer 1 of 2"):
        model(torch.zeros(1, 5, 32), layers=1)
    recurrent = {"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 32}
    with pytest.raises(ConfigError, match="does not keep keys and values"):
        VlmExpertConfig(architecture=json.dumps({"config": recurrent})).build()
