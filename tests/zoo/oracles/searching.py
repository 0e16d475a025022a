"""Oracle of tree search: the recipe's own tree, on the recipe's own world model and on a small known game."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from cases import Case

from gates import sharpen
from oracles.registry import oracle
from wamkit.contract.types import Budget
from wamkit.planners import TreeSearchConfig
from wamkit.planners.tree_search import Tree, grow


@oracle("pl.tree-search")
def tree_search(case: Case) -> None:
    """Visits converge to the best move of a known game; more budget costs no less; alike choices are flagged."""
    planner = case.config.planner
    assert isinstance(planner, TreeSearchConfig), "no tree is searched"
    game = {
        path: float(torch.rand((), generator=torch.Generator().manual_seed(i + 1)))
        for i, path in enumerate(itertools.product(range(planner.candidates), repeat=planner.pieces))
    }
    tree = Tree(planner.candidates, planner.pieces, planner.exploration)
    grow([tree], lambda paths: [-game[path] for path in paths], 100 * len(game))
    whole = {path: tree.visits.get(path, 0) for path in game}
    assert max(whole, key=whole.__getitem__) == max(game, key=game.__getitem__), (
        "the best move is not visited most"
    )
    on_its_world(case)


def on_its_world(case: Case) -> None:
    """Every simulation asks the world model once; the action is one that was tried; budgets are the call's choice."""
    design = sharpen(case.untrained())
    seen = case.cut(design.window)
    costs = []
    for count in (1, 4, 16):
        made, _ = design.forecast(seen, design.initial_state(1), Budget(iterations=count), [1])
        assert made.costs is not None
        assert made.cost is not None
        assert made.costs.shape == (1, count)
        assert bool((made.costs == made.cost[:, None]).any()), "the action was not tried"
        costs.append(float(made.costs.min()))
    assert costs == sorted(costs, reverse=True)
    flagging = replace(case.config.planner, separation=1e9)  # type: ignore[type-var]
    alike = case.untrained(planner=flagging)
    told, _ = alike.forecast(seen, alike.initial_state(1), Budget(), [1])
    assert told.flags["action"].all(), "choices that score alike are not told"
