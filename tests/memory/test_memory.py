"""Oracles of mm.sparse-history and mm.experience-store."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from support import ToyWindows, acting_observation, data_spec
from wamkit.design import Design
from wamkit.errors import ConfigError, DataError
from wamkit.memory import Experience, ExperienceStore, sparse_history
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

# ---------------------------------------------------------------------------------------------- sparse history


@given(
    budget=st.integers(1, 400),
    tokens=st.integers(1, 40),
    dense=st.integers(1, 6),
    growth=st.floats(1, 4),
    reach=st.none() | st.integers(0, 300),
)
def test_the_budget_is_never_exceeded_and_the_gaps_follow_the_law(
    budget: int, tokens: int, dense: int, growth: float, reach: int | None
) -> None:
    if budget < tokens:
        with pytest.raises(ConfigError, match="too small"):
            sparse_history(budget, tokens, dense=dense, growth=growth, reach=reach)
        return
    offsets = sparse_history(budget, tokens, dense=dense, growth=growth, reach=reach)
    assert len(offsets) * tokens <= budget
    assert offsets[-1] == 0
    gaps = -np.diff(np.array(offsets)[::-1])  # from "now" backwards
    law = [1] * (dense - 1) + [round(growth**k) for k in range(1, 400)]
    assert gaps.tolist() == law[: len(gaps)]
    if reach is None:
        assert len(offsets) == budget // tokens
    else:
        assert -offsets[0] <= reach
        assert len(offsets) == budget // tokens or -offsets[0] + law[len(gaps)] > reach


def test_examples() -> None:
    assert sparse_history(60, 10) == (-31, -15, -7, -3, -1, 0)
    assert sparse_history(40, 10, growth=1.0) == (-3, -2, -1, 0)
    assert sparse_history(1000, 10, reach=20) == (-15, -7, -3, -1, 0)
    with pytest.raises(ConfigError, match="growth"):
        sparse_history(10, 1, growth=0.5)


@pytest.mark.parametrize(("age", "kept"), [(15, True), (14, False)])
def test_a_cue_of_long_ago_is_read_where_it_falls_on_a_kept_slot(age: int, kept: bool) -> None:
    """Recall the random cue of ``age`` ticks ago by least squares from the kept frames alone."""
    cues = np.random.default_rng(0).standard_normal(3000)
    offsets = sparse_history(50, 10)
    assert (-age in offsets) == kept
    now = np.arange(100, 3000)
    seen = cues[now[:, None] + np.array(offsets)]
    train, test = slice(0, 2000), slice(2000, None)
    weights, *_ = np.linalg.lstsq(seen[train], cues[now - age][train], rcond=None)
    error = np.mean((seen[test] @ weights - cues[now - age][test]) ** 2) / cues.var()
    assert error < 1e-6 if kept else error > 0.9


def test_a_design_reads_such_a_history_and_its_context_keeps_the_budget() -> None:
    design = recipe("direct")
    tiny = {"width": 32, "trunks": {"main": TransformerConfig(width=32, depth=1, heads=2)}}
    windows = ToyWindows()

    def images(offsets: tuple[int, ...]) -> tuple[int, Design]:
        built = Design(dataclasses.replace(design, observation=offsets, **tiny), data_spec())
        seen = acting_observation(windows, [50], built.window)
        return built.encoders["images"](seen)[0].shape[1], built

    one, _ = images((0,))
    budget = 5 * one + one // 2
    many, built = images(sparse_history(budget, one))
    assert 4 * one < many <= budget
    assert built.window.observation == (-15, -7, -3, -1, 0)
    assert torch.isfinite(built.loss(windows.windows(np.array([30, 60]), built.training_window)).total)


# -------------------------------------------------------------------------------------------- experience store

FAMILIES, PER_FAMILY, WIDTH = 4, 6, 8


def contexts() -> tuple[torch.Tensor, torch.Tensor]:
    """Labelled tasks: contexts (N, D) around one centre per family, and their families (N,)."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(WIDTH)[:FAMILIES] * 3
    noise = torch.randn(FAMILIES, PER_FAMILY, WIDTH, generator=generator) * 0.3
    families = torch.arange(FAMILIES).repeat_interleave(PER_FAMILY)
    return (centres[:, None] + noise).flatten(0, 1), families


def filled(skip: int = 0) -> ExperienceStore:
    """Stores all labelled tasks but the first ``skip`` of each family; each starts from its family's number."""
    store = ExperienceStore()
    for i, (context, family) in enumerate(zip(*contexts(), strict=True)):
        if i % PER_FAMILY >= skip:
            start = {"weight": torch.full((1, 1), float(family)), "bias": torch.zeros(1)}
            store.add(Experience(f"{int(family)}/{i}", context, start))
    return store


def test_retrieval_returns_the_nearest_task_of_a_labelled_set() -> None:
    store = filled(skip=1)
    every, families = contexts()
    for i in range(0, len(every), PER_FAMILY):
        found = store.nearest(every[i], count=PER_FAMILY - 1)
        assert {e.name.split("/")[0] for e, _ in found} == {str(int(families[i]))}
        stored = every[[j for j in range(len(every)) if j % PER_FAMILY]]
        cosines = (stored @ every[i]) / (stored.norm(dim=1) * every[i].norm())
        assert found[0][1] == pytest.approx(float(cosines.max()), abs=1e-5)
        assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)


def episodes_until_solved(policy: nn.Linear, target: float, seed: int) -> int:
    """Hill climbing: one random change of the weight per episode; solved within 0.1 of the target."""
    generator = torch.Generator().manual_seed(seed)
    weight, tried = float(policy.weight.detach()), 1
    while abs(weight - target) > 0.1:
        change = weight + 0.2 * float(torch.randn((), generator=generator))
        weight, tried = min(weight, change, key=lambda w: abs(w - target)), tried + 1
    return tried


def test_a_warm_start_needs_fewer_episodes_and_forgetting_takes_that_away() -> None:
    store, (every, families) = filled(skip=1), contexts()
    for i in range(
        PER_FAMILY, len(every), PER_FAMILY
    ):  # a new task of each family but the first, whose 0 is cold
        family, target = int(families[i]), float(families[i]) + 0.15
        cold, warm = nn.Linear(1, 1), nn.Linear(1, 1)
        nn.init.zeros_(cold.weight)
        nn.init.zeros_(warm.weight)
        assert (store.warm_start(warm, every[i], least=0.8) or "").startswith(f"{family}/")
        tries = [[episodes_until_solved(p, target, seed) for seed in range(5)] for p in (cold, warm)]
        assert max(tries[1]) < min(tries[0])
        for name in [n for n in store.names if n.startswith(f"{family}/")]:
            store.remove(name)
        again = nn.Linear(1, 1)
        nn.init.zeros_(again.weight)
        assert store.warm_start(again, every[i], least=0.8) is None
        assert float(again.weight.detach()) == 0.0
    assert {name.split("/")[0] for name in store.names} == {"0"}


def test_removing_equals_never_having_stored() -> None:
    store, rest = filled(), filled(skip=1)
    for name in set(store.names) - set(rest.names):
        store.remove(name)
    for context in contexts()[0]:
        ours = [(e.name, c) for e, c in store.nearest(context, 5)]
        assert ours == [(e.name, c) for e, c in rest.nearest(context, 5)]


def test_saved_and_loaded_it_answers_the_same(tmp_path: Path) -> None:
    store = filled()
    store.save(tmp_path / "store")
    loaded = ExperienceStore.load(tmp_path / "store")
    assert loaded.names == store.names
    for context in contexts()[0]:
        (ours, a), (theirs, b) = store.nearest(context)[0], loaded.nearest(context)[0]
        assert (ours.name, a) == (theirs.name, b)
        assert torch.equal(ours.start["weight"], theirs.start["weight"])
    with pytest.raises(DataError, match="not empty"):
        store.save(tmp_path / "store")
    (tmp_path / "store" / "00003.safetensors").unlink()
    with pytest.raises(DataError, match="00003"):
        ExperienceStore.load(tmp_path / "store")
    with pytest.raises(DataError, match=r"store\.json: no such file\. Copy the store again"):
        ExperienceStore.load(tmp_path)


def test_what_does_not_fit_is_refused() -> None:
    store = filled()
    assert ExperienceStore().nearest(torch.ones(3)) == []
    with pytest.raises(ConfigError, match="already"):
        store.add(Experience(store.names[0], torch.ones(WIDTH), {}))
    for wrong in (
        torch.ones(WIDTH + 1),
        torch.zeros(WIDTH),
        torch.full((WIDTH,), torch.nan),
        torch.ones(1, WIDTH),
    ):
        with pytest.raises(ConfigError, match="context"):
            store.nearest(wrong)
    with pytest.raises(ConfigError, match="Did you mean"):
        store.remove(store.names[0] + "x")
