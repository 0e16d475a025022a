"""Planners: search through a world model."""

from wamkit.planners.candidate_scoring import CandidateScoring, CandidateScoringConfig
from wamkit.planners.cem import CEM, CEMConfig
from wamkit.planners.mppi import MPPI, MPPIConfig

__all__ = ["CEM", "MPPI", "CEMConfig", "CandidateScoring", "CandidateScoringConfig", "MPPIConfig"]
