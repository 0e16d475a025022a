"""Oracles of building blocks, each run on the very recipe that the block distinguishes: block -> function of a case."""

from oracles import couplings, embeddings, pixels, sampling, worlds  # noqa: F401 (they register themselves)
from oracles.registry import ORACLES

__all__ = ["ORACLES"]
