"""Oracles of planners that choose among candidates."""

from __future__ import annotations

from typing import Any

import torch
from cases import Case
from torch import Tensor

from oracles.registry import oracle
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.planners import CandidateScoringConfig


class Watched:
    """Candidates and costs of the calls of a design's planner, recorded from now on.

    Args:
        design: design with a planner.
        judge: costs that the planner is told in place of the true ones, or None.
    """

    def __init__(self, design: Design, judge: Any = None) -> None:
        self.proposals: list[Tensor] = []
        self.costs: list[Tensor] = []
        self.chosen: list[Tensor] = []
        planner = design.planner
        assert planner is not None
        inner = planner.plan

        def plan(propose: Any, cost: Any, *rest: Any) -> Any:
            def proposed(count: int) -> Tensor:
                self.proposals.append(propose(count))
                return self.proposals[-1]

            def scored(actions: Tensor) -> Tensor:
                found = cost(actions)
                self.costs.append(found if judge is None else judge(found))
                return self.costs[-1]

            result = inner(proposed, scored, *rest)
            self.chosen.append(result.action)
            return result

        planner.plan = plan  # type: ignore[method-assign]


@oracle("pl.candidate-scoring")
def candidate_scoring(case: Case) -> None:
    """The executed candidate is the best by the objective, all costs are kept, and one candidate is the base policy."""
    assert isinstance(case.config.planner, CandidateScoringConfig), "no candidates are scored"
    design = case.untrained()
    seen, start = case.cut(design.window), design.initial_state(1)
    watched = Watched(design)
    made, _ = design.forecast(seen, start, Budget(), [1])
    (proposals,), (costs,), (chosen,) = watched.proposals, watched.costs, watched.chosen
    count = case.config.planner.candidates
    assert proposals.shape[:2] == (1, count)
    assert costs.shape == (1, count)
    assert len(costs.unique()) > 1, "all candidates are worth the same"
    assert torch.equal(chosen[0], proposals[0, int(costs.argmin())]), "the executed candidate is not the best"
    assert made.costs is not None
    assert torch.equal(made.costs.sort().values, costs.cpu().sort().values), "the costs are not kept"
    design = case.untrained()
    alone = Watched(design)
    design.forecast(seen, start, Budget(candidates=1), [1])
    (single,) = alone.chosen
    assert alone.proposals[0].shape[1] == 1
    assert torch.equal(single[0], alone.proposals[0][0, 0]), "one candidate is not what the policy proposed"
    for wanted in range(
        count
    ):  # whatever an oracle prefers is executed, so that more candidates cost no success
        design = case.untrained()
        told = Watched(
            design, lambda found, wanted=wanted: (torch.arange(found.shape[1]) != wanted).float()[None]
        )
        design.forecast(seen, start, Budget(), [1])
        assert torch.equal(told.chosen[0][0], told.proposals[0][0, wanted])
