"""Tree search: visits go where a small known game is won, budgets help, and choices that do not matter are flagged."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation, data_spec
from wamkit.contract.calls import PlanResult
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.errors import ConfigError
from wamkit.planners import TreeSearchConfig
from wamkit.planners.tree_search import Path, Tree, grow
from wamkit.zoo import recipe

BRANCHES, DEPTH = 3, 3
GAME = {path: i / 26 for i, path in enumerate(itertools.product(range(BRANCHES), repeat=DEPTH))}
# The first try of branch 0 is good, the rest of it is not; the best chunk lies deep in branch 1.
TRAP = {path: 0.6 * (path == (0, 0, 0)) + 1.0 * (path == (1, 2, 0)) + 0.3 * (path[0] == 1) for path in GAME}


def play(game: dict[Path, float], simulations: int) -> Tree:
    tree = Tree(BRANCHES, DEPTH, exploration=1.0)
    grow([tree], lambda paths: [-game[path] for path in paths], simulations)
    return tree


def test_visits_converge_to_the_best_move_at_every_depth() -> None:
    tree = play(GAME, 400)
    assert tree.visits[()] == 400
    node: Path = ()
    for _ in range(DEPTH):
        children = [(*node, k) for k in range(BRANCHES)]
        assert sum(tree.visits.get(c, 0) for c in children) >= tree.visits[node] - 1
        node = max(children, key=lambda c: tree.visits.get(c, 0))
    assert node == max(GAME, key=GAME.__getitem__)
    assert tree.visits[node[:1]] > 0.6 * 400


def test_what_looks_best_at_first_is_left_for_what_is_best() -> None:
    assert play(TRAP, 3).mean((0,)) > play(TRAP, 3).mean((1,))
    tree = play(TRAP, 300)
    assert max(tree.visits, key=lambda node: (len(node) == 1) * tree.visits[node]) == (1,)
    assert max(GAME, key=lambda path: tree.visits.get(path, 0)) == (1, 2, 0)


def planned(game: dict[Path, float], rows: int = 2, **fields: object) -> PlanResult:
    """Search of chunks of one number per step, the branch that the step comes from."""
    planner = TreeSearchConfig(candidates=BRANCHES, pieces=DEPTH, **fields).build()  # type: ignore[arg-type]

    def propose(count: int) -> Tensor:
        return torch.arange(float(count))[None, :, None, None, None].expand(rows, -1, DEPTH, 1, 1)

    def cost(actions: Tensor) -> Tensor:
        paths = actions[..., 0, 0].flatten(0, 1).long().tolist()
        return torch.tensor([-game[tuple(path)] for path in paths]).unflatten(0, actions.shape[:2])

    return planner.plan(propose, cost, Budget(), RowNoise(range(rows)))


def test_the_best_chunk_below_the_most_visited_piece_is_executed_and_all_costs_are_told() -> None:
    result = planned(GAME, iterations=60)
    assert result.action.flatten(1).tolist() == [[2.0, 2.0, 2.0]] * 2
    assert result.costs is not None
    assert result.costs.shape == (2, 60) == (2, result.evaluations)
    torch.testing.assert_close(result.cost, torch.tensor([-1.0, -1.0]))
    costs = [float(planned(GAME, iterations=n, rows=1).cost) for n in (3, 10, 60)]
    assert costs == sorted(costs, reverse=True)


def test_pieces_that_score_alike_are_flagged() -> None:
    flat = dict.fromkeys(GAME, 0.5)
    for game, weak in ((flat, True), (GAME, False)):
        flagged = planned(game, iterations=30, separation=0.1).weak
        assert flagged is not None
        assert flagged.tolist() == [weak, weak]
    assert planned(flat, iterations=30).weak is None


def test_a_design_searches_and_one_branch_is_the_base_policy() -> None:
    design = recipe("rollout")
    config = TreeSearchConfig(candidates=3, pieces=2, iterations=7, separation=10.0)
    torch.manual_seed(0)
    built = Design(replace(design, planner=config), data_spec()).eval()
    seen = acting_observation(ToyWindows(), [3, 40], built.window)
    forecast, _ = built.forecast(seen, built.initial_state(2), Budget(), [1, 2])
    assert forecast.costs is not None
    assert forecast.costs.shape == (2, 7)
    assert forecast.flags["action"].all()  # an untrained model's choices are told to be weak
    base, _ = built.forecast(seen, built.initial_state(2), Budget(candidates=1, iterations=1), [1, 2])
    plain, _ = built.forecast(seen, built.initial_state(2), Budget(future=False), [1, 2])
    torch.testing.assert_close(base.action, plain.action)


def test_a_chunk_that_cannot_be_cut_is_refused() -> None:
    planner = TreeSearchConfig(pieces=3).build()
    with pytest.raises(ConfigError, match="does not divide the 4 steps"):
        planner.check(StreamSpec("action", "action", 4, 1, 2))
