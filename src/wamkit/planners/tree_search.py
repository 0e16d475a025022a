"""Monte-Carlo tree search over the pieces of an action chunk (`pl.tree-search`; 3D-ALP, V-VLAPS; survey eq. 10).

A chunk is cut into pieces. A node of the tree is a choice of first pieces, its branches are the pieces that the policy
proposes to go on with. A simulation goes down the tree by upper confidence bounds (UCT, Kocsis & Szepesvari 2006),
takes one branch that was not tried before, goes on as that branch's own proposal does, and asks the world model what
the whole chunk leads to. The score counts for every node on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Count, NonNegative, Size
from wamkit.contract.calls import PlanResult
from wamkit.contract.planning import PlannerConfig
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.errors import ConfigError
from wamkit.planners.rounds import CandidateScores, SamplingConfig, SamplingPlanner

Path = tuple[int, ...]


@PlannerConfig.register_subclass("tree_search")
@dataclass(frozen=True)
class TreeSearchConfig(SamplingConfig):
    """Tree search over pieces of proposed chunks through the world model (3D-ALP, V-VLAPS, 2026; survey eq. 10).

    Attributes:
        candidates: proposals per call, the branches of every node.
        pieces: pieces that a chunk is cut into, the depth of the tree; must divide the steps of the action.
        iterations: simulations per call. Below ``candidates``, not every first piece is tried.
        exploration: weight of the bound's width against the mean score, which is scaled to between 0 and 1.
        separation: difference in mean score between the best and the worst first piece below which the choice counts as
            weak. Such rows are flagged (``Forecast.flags``); 0 flags none.
    """

    candidates: Count = 4
    pieces: Size = 2
    iterations: Size = 16
    exploration: NonNegative = 1.4
    separation: NonNegative = 0.0

    @override
    def build(self) -> TreeSearch:
        """Build the planner."""
        return TreeSearch(self)


@dataclass
class Tree:
    """Search tree of one row.

    Attributes:
        branches: branches of every node.
        depth: pieces of a chunk.
        exploration: weight of the bound's width.
        visits: node -> simulations that went through it; the root is the empty path.
        totals: node -> sum of their scores.
    """

    branches: int
    depth: int
    exploration: float
    visits: dict[Path, int] = field(default_factory=lambda: {(): 0})
    totals: dict[Path, float] = field(default_factory=lambda: {(): 0.0})
    low: float = math.inf
    high: float = -math.inf

    def mean(self, node: Path) -> float:
        """Mean score of a visited node."""
        return self.totals[node] / self.visits[node]

    def bound(self, node: Path) -> float:
        """Upper confidence bound of a visited node, its mean scaled to between 0 and 1 over the whole tree."""
        scaled = (self.mean(node) - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        width = math.sqrt(math.log(self.visits[node[:-1]]) / self.visits[node])
        return scaled + self.exploration * width

    def select(self) -> Path:
        """Go down to a node that was not visited yet, or to a whole chunk."""
        node: Path = ()
        while len(node) < self.depth:
            children = [(*node, k) for k in range(self.branches)]
            fresh = [child for child in children if child not in self.visits]
            if fresh:
                return fresh[0]
            node = max(children, key=self.bound)
        return node

    def back_up(self, node: Path, score: float) -> None:
        """Count a score for a node and all above it."""
        self.low, self.high = min(self.low, score), max(self.high, score)
        for length in range(len(node) + 1):
            above = node[:length]
            self.visits[above] = self.visits.get(above, 0) + 1
            self.totals[above] = self.totals.get(above, 0.0) + score

    def roots(self) -> list[Path]:
        """First pieces that were tried."""
        return [(k,) for k in range(self.branches) if (k,) in self.visits]

    def favourite(self) -> Path:
        """First piece with most visits."""
        return max(self.roots(), key=lambda node: self.visits[node])

    def spread(self) -> float:
        """Difference between the best and the worst mean score of a first piece."""
        means = [self.mean(node) for node in self.roots()]
        return max(means) - min(means)


def finished(node: Path, depth: int) -> Path:
    """Path of a whole chunk that goes on as the last branch's own proposal does."""
    return (*node, *node[-1:] * (depth - len(node)))


def grow(
    trees: list[Tree], cost: Callable[[list[Path]], list[float]], simulations: int
) -> list[list[tuple[Path, float]]]:
    """Run simulations, one of every tree at a time; returns what each tree tried: whole paths and their costs."""
    tried: list[list[tuple[Path, float]]] = [[] for _ in trees]
    for _ in range(simulations):
        nodes = [tree.select() for tree in trees]
        paths = [finished(node, tree.depth) for node, tree in zip(nodes, trees, strict=True)]
        for row, (tree, node, found) in enumerate(zip(trees, nodes, cost(paths), strict=True)):
            tree.back_up(node, -found)
            tried[row].append((paths[row], found))
    return tried


@final
class TreeSearch(SamplingPlanner):
    """Executes the cheapest chunk that was tried below the first piece with most visits."""

    def __init__(self, config: TreeSearchConfig) -> None:
        super().__init__("tree_search", config, config.iterations)
        self.config = config

    @override
    def check(self, action: StreamSpec) -> None:
        """Require a chunk that can be cut into the configured number of pieces."""
        if action.steps % self.config.pieces:
            raise ConfigError(
                f"planner 'tree_search': pieces {self.config.pieces} does not divide the {action.steps} steps of the "
                f"action. Choose a divisor, or other `ticks_per_token`."
            )

    @override
    def search(self, score: CandidateScores, rounds: int, noise: RowNoise, carry: Any) -> PlanResult:
        """Search with ``rounds`` simulations, at least one."""
        proposals, depth = score.proposals, self.config.pieces
        rows, branches = proposals.shape[:2]
        pieces = proposals.unflatten(2, (depth, -1))

        def chunk(row: int, path: Path) -> Tensor:
            return torch.cat([pieces[row, branch, level] for level, branch in enumerate(path)])

        def cost(paths: list[Path]) -> list[float]:
            candidates = torch.stack([chunk(row, path) for row, path in enumerate(paths)])
            return score(candidates[:, None])[:, 0].tolist()

        trees = [Tree(branches, depth, self.config.exploration) for _ in range(rows)]
        tried = grow(trees, cost, max(rounds, 1))
        chosen = []
        for tree, found in zip(trees, tried, strict=True):
            first = tree.favourite()
            chosen.append(min((pair for pair in found if pair[0][:1] == first), key=lambda pair: pair[1]))
        device = proposals.device
        action = torch.stack([chunk(row, path) for row, (path, _) in enumerate(chosen)])
        costs = torch.tensor([cost for _, cost in chosen], device=device)
        weak = torch.tensor([tree.spread() < self.config.separation for tree in trees], device=device)
        return PlanResult(action, costs, max(rounds, 1), weak=weak if self.config.separation else None)
