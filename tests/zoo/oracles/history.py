"""Oracles of the past: blocks that are kept and denoised after, spaced history, a memory of places."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from cases import NOW, Case
from torch import Tensor

from gates import sharpen
from oracles.probes import drawn
from oracles.registry import calls, oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import Past
from wamkit.contract.types import Observation
from wamkit.design import Design
from wamkit.design.sampling import context_of
from wamkit.estimators import Denoiser
from wamkit.memory import SceneMemory, SpatialMemory

FRAMES = 32  # of the first recording, all before its end


# ------------------------------------------------------------------------------------------------ blocks
def blockwise(design: Design) -> dict[str, Denoiser]:
    """Denoisers that keep blocks of the past, by the names of their estimators."""
    found = {}
    for name, estimator in design.estimators.items():
        for part in estimator.modules():
            if isinstance(part, Denoiser) and part.memory is not None:
                found[name] = part
    return found


@oracle("bb.ar-diffusion")
def ar_diffusion(case: Case) -> None:
    """A block is denoised after clean past ones, which no later block changes, at a cost that does not grow."""
    design = sharpen(case.untrained())
    parts = blockwise(design)
    assert parts, "no denoiser keeps blocks of the past"
    for name, part in parts.items():
        causal(case, design, name, part)
    constant_cost(case, design)
    reads_the_past(case, design)


def causal(case: Case, design: Design, name: str, part: Denoiser) -> None:
    """What is kept of the blocks before is the same whatever comes after, and the same as when taken in one by one."""
    context = context_of(name, design.graph, design.encode_context(case.cut(design.window)))
    kept = []
    for last in (1, 2):
        carry, caches = part.initial_carry(1), []
        for draw in (11, last):
            carry = part.observe(carry, context, block_of(case, design, draw))
            caches.append(carry["cache"])
        kept.append(caches)
    size = part.memory.tokens_per_block  # type: ignore[union-attr]
    first = [one.keys[-1][:, :, -size:] for one, _ in kept]
    assert torch.equal(*first)
    if part.memory.blocks > 1:  # type: ignore[union-attr]
        moved_on = [two.keys[-1][:, :, -2 * size : -size] for _, two in kept]
        assert torch.equal(moved_on[0], first[0]), "a later block changes an earlier one"
        assert torch.equal(*moved_on)
    assert not torch.equal(*(two.keys[-1][:, :, -size:] for _, two in kept)), "the block is not kept"


def block_of(case: Case, design: Design, draw: int) -> Past:
    """A past of one block with random values."""
    futures = sorted(design.graph.of_role("future"))
    values = {name: drawn(design, name, draw)[:, :1] for name in futures}
    batch = case.batch([NOW], design)
    stride = design.config.stride
    action = design.action.encode(batch.action[:, batch.past :]) if batch.action.shape[1] else None
    assert action is not None
    steps = max(1, stride // design.streams[ACTION].ticks_per_step) if ACTION in design.streams else 1
    told = torch.zeros(1, 1, dtype=torch.bool)
    return Past(values, action[:, None, :steps] + 0.1 * draw, told, told)


def constant_cost(case: Case, design: Design) -> None:
    """A call late in an episode runs the networks as often, over as many remembered tokens, as an early one."""
    state, costs, sizes = design.initial_state(1), [], []
    for frame in range(8, FRAMES, 4):
        observation = case.cut(design.window, (frame,))
        counters = [calls(trunk, "forward") for trunk in design.trunks.values()]
        context = design.encode_context(observation)
        state = design.observe(observation, state, context)
        generated(case, design, observation, state)
        costs.append(sum(map(len, counters)))
        sizes.append(kept_tokens(design, state))
        for trunk in design.trunks.values():
            del trunk.forward
    assert len(set(costs)) == 1, f"a block costs {costs} passes"
    assert len(set(sizes)) == 1, f"the memory grows: {sizes}"


def kept_tokens(design: Design, state: object) -> int:
    """Tokens in the caches of a carried state."""
    return sum(state[name]["cache"].length for name in blockwise(design))  # type: ignore[index]


def reads_the_past(case: Case, design: Design) -> None:
    """Another past, another block."""
    observation = case.cut(design.window)
    shown = []
    for frame in (9, 30):
        before = case.cut(design.window, (frame,))
        state = design.observe(before, design.initial_state(1), design.encode_context(before))
        state = design.observe(observation, state, design.encode_context(observation))
        shown.append(generated(case, design, observation, state))
    assert not torch.equal(*shown), "the past is not read"


def generated(case: Case, design: Design, observation: Observation, state: object) -> Tensor:
    """The action, or the future of a design that does not act."""
    wanted = ACTION if case.acts else case.futures()[0]
    given = {}
    if not case.acts and ACTION in design.streams:
        given = {ACTION: drawn(design, ACTION, 3)}
    return design.sample(observation, [wanted], seeds=[1], given=given, carry=state).values[wanted]  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ spacing
@oracle("mm.sparse-history")
def sparse_history(case: Case) -> None:
    """A fixed number of tokens, dense near now and sparse before; a frame on a kept slot counts, no other is read."""
    design = sharpen(case.untrained())
    offsets = design.window.observation
    assert len(offsets) > 2 or design.past_blocks > 1, "nothing before the last step is kept"
    sizes = {context_tokens(case, design, frame) for frame in (0, 1, 12, 30)}
    assert len(sizes) == 1, f"the context has {sorted(sizes)} tokens"
    if design.past_blocks:
        constant_cost(case, design)
        reads_the_past(case, design)
        return
    gaps = [late - early for early, late in pairwise(offsets)][::-1]
    assert gaps == sorted(gaps), f"gaps, from now on backwards: {gaps}"
    observation = case.cut(design.window, (NOW + 12,))
    assert observation.pad.shape[1] == len(offsets), "more steps are read than are kept"
    before = answered(case, design, observation)
    for slot in range(len(offsets)):
        images = {name: view.clone() for name, view in observation.images.items()}
        for view in images.values():
            view[:, slot] = 255 - view[:, slot]
        changed = answered(case, design, replace(observation, images=images))
        assert not torch.equal(before, changed), f"the frame at {offsets[slot]} is kept and not read"


def context_tokens(case: Case, design: Design, frame: int) -> int:
    """Tokens of the context at a frame."""
    observation = case.cut(design.window, (frame,))
    with torch.no_grad():
        caches = design.encode_context(observation)
    return sum(cache.length for cache in caches.values())


def answered(case: Case, design: Design, observation: Observation) -> Tensor:
    """The action, or the future of a design that does not act."""
    return generated(case, design, observation, design.initial_state(1))


# ------------------------------------------------------------------------------------------------ places
@oracle("mm.spatial-memory")
def spatial_memory(case: Case) -> None:
    """What was seen and is hidden now stays at its place and reaches the action; seeing it again adds nothing."""
    design = sharpen(case.untrained())
    memories = [e for e in design.encoders.values() if isinstance(e, SceneMemory)]
    assert memories, "nothing is stored by its place"
    window = replace(design.window, observation=tuple(sorted({*design.window.observation, 0})))
    assert len(window.observation) > 1, "the memory sees nothing but now"
    observation = case.cut(window, (NOW + 12,))
    for memory in memories:
        hidden_and_kept(design, case, memory, observation)
        grows_with_content(memory, observation)


def hidden_and_kept(design: Design, case: Case, memory: SceneMemory, observation: Observation) -> None:
    """Blind now, and the scene is still drawn; another past is another picture and another action."""
    blind = hide(memory, observation, slice(-1, None))
    nothing = hide(memory, observation, slice(None))
    drawn_now, empty = memory.drawn(blind), memory.drawn(nothing)
    assert drawn_now[:, -1].any(), "what was seen before is gone"
    assert not empty[:, -1].any(), "something is drawn that was never seen"
    repainted = {k: v.clone() for k, v in blind.images.items()}
    for view in repainted.values():
        view[:, :-1] = 255 - view[:, :-1]
    other = replace(blind, images=repainted)
    assert torch.equal(memory.drawn(other)[:, -1], drawn_now[:, -1]), "another colour, another place"
    assert not torch.equal(memory.drawn(other)[:, :3], drawn_now[:, :3])
    assert not torch.equal(memory(other)[0], memory(blind)[0])
    assert not torch.equal(*(case.act(design, some) for some in (blind, nothing))), "the memory is not read"


def hide(memory: SceneMemory, observation: Observation, steps: slice) -> Observation:
    """The observation with the memory's sensors missing at some steps."""
    missing = dict(observation.missing)
    for name in memory.extras:
        flags = torch.zeros(observation.pad.shape, dtype=torch.bool)
        flags[:, steps] = True
        missing[name] = flags
    return replace(observation, missing=missing)


def grows_with_content(memory: SceneMemory, observation: Observation) -> None:
    """The same view again stores nothing new; a view of something else does."""
    store = SpatialMemory(memory.config.voxel_m, memory.config.far_m)
    sizes = []
    for step in (0, 0, 0, 0, -1):
        for camera in memory.config.cameras:
            store.see(observation.steps([step]), camera)
        sizes.append(len(store))
    assert sizes[0] > 0
    assert len(set(sizes[:4])) == 1, f"the memory grows with time: {sizes}"
