"""Planners: search through a world model, and the objectives of search and guidance."""

from wamkit.planners.candidate_scoring import CandidateScoring, CandidateScoringConfig
from wamkit.planners.cem import CEM, CEMConfig
from wamkit.planners.constraint import Constraint, ConstraintConfig
from wamkit.planners.mppi import MPPI, MPPIConfig
from wamkit.planners.objectives import (
    GoalDistance,
    GoalDistanceConfig,
    GoalImageObjective,
    GoalImageObjectiveConfig,
    HighValue,
    HighValueConfig,
    SumConfig,
    WeightedSum,
)
from wamkit.planners.tree_search import TreeSearch, TreeSearchConfig

__all__ = [
    "CEM",
    "MPPI",
    "CEMConfig",
    "CandidateScoring",
    "CandidateScoringConfig",
    "Constraint",
    "ConstraintConfig",
    "GoalDistance",
    "GoalDistanceConfig",
    "GoalImageObjective",
    "GoalImageObjectiveConfig",
    "HighValue",
    "HighValueConfig",
    "MPPIConfig",
    "SumConfig",
    "TreeSearch",
    "TreeSearchConfig",
    "WeightedSum",
]
