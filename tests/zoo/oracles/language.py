"""Oracles of language models: as a trunk with an expert, as an encoder of words, as a writer of tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from cases import Case
from torch import Tensor, nn

from gates import moved_steps, sharpen
from oracles.registry import calls, oracle
from wamkit.contract.cache import Cache
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget, Observation, WindowSpec
from wamkit.design import Design
from wamkit.geometry.cameras import project
from wamkit.substrates.latent_transition import LatentTransition
from wamkit.substrates.vlm_token import VlmToken
from wamkit.trunks.vlm_expert import VlmExpert


def language_trunk(case: Case, design: Design) -> VlmExpert:
    """The language trunk, the action's own where there are several."""
    facts = design.graph.estimators
    names = [facts[design.graph.factor_of(ACTION).estimator].trunk] if case.acts else []
    found = [
        design.trunks[n] for n in (*names, *design.trunks) if n is not None and design.trunks[n].language
    ]
    assert found, "no trunk is a language model"
    assert isinstance(found[0], VlmExpert)
    return found[0]


def other_pictures(observation: Observation) -> Observation:
    """The observation with its pictures turned upside down."""
    return replace(observation, images={name: p.flip(-2) for name, p in observation.images.items()})


def same_cache(a: Cache, b: Cache) -> bool:
    """True when two caches hold the same keys and values."""
    return all(torch.equal(x, y) for x, y in zip((*a.keys, *a.values), (*b.keys, *b.values), strict=True))


@oracle("bb.vlm-expert")
def vlm_expert(case: Case) -> None:
    """The model reads the context once per call; a kept prefix stands for it; the expert leaves it as it is."""
    design = sharpen(case.untrained())
    trunk = language_trunk(case, design)
    observation = case.cut(design.window)
    made = calls(trunk.model, "forward")
    context = design.encode_context(observation)
    assert len(made) == 1, "the context does not pass through the model exactly once"
    if not case.acts:
        return
    seeds = [1]
    fresh = design.sample(observation, [ACTION], seeds=seeds).values[ACTION]
    kept = design.sample(observation, [ACTION], seeds=seeds, context=context).values[ACTION]
    blind = design.sample(other_pictures(observation), [ACTION], seeds=seeds, context=context).values[ACTION]
    assert torch.equal(fresh, kept)
    assert torch.equal(kept, blind), "something besides the prefix is read from the observation"
    if not set(trunk.config.expert) & set(design.streams):
        written(design, trunk, observation)
        return
    own = {id(p) for p in trunk.layers.parameters()}
    assert not own & {id(p) for p in trunk.model.parameters()}, "expert and model share weights"
    before = {name: value.clone() for name, value in trunk.model.state_dict().items()}
    with torch.no_grad():
        for parameter in trunk.layers.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    again = design.encode_context(observation)
    assert all(same_cache(context[name], again[name]) for name in context), "the model reads its expert"
    assert all(torch.equal(before[name], value) for name, value in trunk.model.state_dict().items())
    moved = design.sample(observation, [ACTION], seeds=seeds, context=context).values[ACTION]
    if moved.is_floating_point():
        assert not torch.equal(moved, kept), "the expert does not make the action"
    gradients(case)


def written(design: Design, trunk: VlmExpert, observation: Observation) -> None:
    """The model itself computes the streams: it runs again for them."""
    made = calls(trunk.model, "forward")
    wanted = next(name for name in trunk.config.language if name in design.streams)
    design.sample(observation, [wanted], seeds=[1])
    assert len(made) >= 2, "the model reads the context and writes nothing"


def gradients(case: Case) -> None:
    """The action's loss trains the model as ``learning`` says: all of it, not at all, or only through its writing."""
    design = case.untrained()
    trunk = language_trunk(case, design)
    design.train()
    design.loss(case.batch(design=design)).terms[ACTION].backward()
    norm = sum(float(p.grad.abs().sum()) for p in trunk.model.parameters() if p.grad is not None)
    expert = sum(float(p.grad.abs().sum()) for p in trunk.layers.parameters() if p.grad is not None)
    if ACTION not in trunk.config.expert:
        return
    assert expert > 0
    assert (norm > 0) == (trunk.config.learning == "all"), (norm, trunk.config.learning)


@oracle("oe.text-vlm")
def instruction(case: Case) -> None:
    """Other words, another context with the same pictures; the context of the same words is the same."""
    design = sharpen(case.untrained())
    observation = case.cut(design.window)
    told = replace(observation, task=("close the red drawer slowly",))
    first, again, other = (design.encode_context(o) for o in (observation, observation, told))
    assert all(same_cache(first[name], again[name]) for name in first)
    assert not all(same_cache(first[name], other[name]) for name in first), "the words are not read"
    assert any(act_differs(design, observation, told, seed) for seed in range(4)), (
        "the words do not reach the action"
    )


def act_differs(design: Design, first: Observation, second: Observation, seed: int) -> bool:
    """True when the action of two observations differs under one seed."""
    want = [ACTION] if ACTION in design.streams else sorted(design.graph.of_role("future"))
    budget = Budget()
    values: list[list[Tensor]] = []
    for seen in (first, second):
        made = design.sample(seen, want, seeds=[seed], budget=budget).values
        values.append([made[name] for name in want])
    return any(not torch.equal(a, b) for a, b in zip(*values, strict=True))


@oracle("ps.vlm-token")
def vlm_token(case: Case) -> None:
    """Tokens of a language model's space say where the next stage ends, and the action reads them."""
    design = case.design
    names = [n for n in case.futures() if dict(design.substrate(n).cell()).get("Feature") == "VLM token"]
    assert names, "no future in the tokens of a language model"
    assert ACTION not in design.graph.futures(), "action tokens are no future"
    assert design.graph.futures() >= set(names)
    for name in names:
        part: nn.Module = design.substrate(name)
        if isinstance(part, VlmToken):
            located(case, part)
        if isinstance(part, LatentTransition):
            led(case, part)
    if case.acts:
        tried = sharpen(case.untrained())
        assert any(moved_steps(tried, case.cut(tried.window), seeds=8)), (
            "without the tokens the action is the same"
        )


def located(case: Case, part: VlmToken) -> None:
    """The tokens name the place of the body within half a bin, read back as text, and other places differ."""
    seen = case.data.windows(np.array([2, 20]), WindowSpec()).observation
    ids = part.encode(seen)
    for row in ids[:, 0]:
        assert torch.equal(part.parse(part.text(row)), row)
    for i, body in enumerate(part.config.bodies):
        pose = seen.extras[f"{body}_pose"].float()
        pose = pose if pose.dim() == 3 else pose[..., 0, :]
        camera = seen.extras[f"camera.{part.config.camera}"].float()
        true = project(pose[:, :, None, :3], camera, part.height, part.width)[0][:, :, 0]
        said = part.points(ids)[:, :, i]
        close = (said - true).abs() <= 0.5 * part.width / part.config.bins + 1e-3
        assert (close | said.isnan()).all(), (said, true)
    assert not torch.equal(ids[0], ids[1]), "the tokens are the same at the start and on the way"


def led(case: Case, part: LatentTransition) -> None:
    """The code of a change leads to the frame after it better than the code of another change does."""
    seen = case.data.windows(np.arange(2, 30, 3), WindowSpec(observation=(0,))).observation
    later = case.data.windows(np.arange(10, 38, 3), WindowSpec()).observation
    before, after = part.frames(seen.steps([0])), part.frames(later)
    code = part.code(before, after)
    right = (part.reached(before, code) - after).square().mean()
    wrong = (part.reached(before, code.roll(4, dims=0)) - after).square().mean()
    assert right < wrong, (float(right), float(wrong))
