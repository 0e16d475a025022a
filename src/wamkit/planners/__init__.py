"""Planners: search through a world model."""

from wamkit.planners.candidate_scoring import CandidateScoring, CandidateScoringConfig
from wamkit.planners.cem import CEM, CEMConfig

__all__ = ["CEM", "CEMConfig", "CandidateScoring", "CandidateScoringConfig"]
