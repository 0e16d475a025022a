"""Planners: search through a world model."""

from wamkit.planners.cem import CEM, CEMConfig

__all__ = ["CEM", "CEMConfig"]
