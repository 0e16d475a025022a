"""Oracles of building blocks, each run on the very recipe that the block distinguishes: block -> function of a case."""

from oracles import (  # noqa: F401 (they register themselves)
    clips,
    couplings,
    denoising,
    deployment,
    masks,
    memory,
    mixture,
    pixels,
    sampling,
    scoring,
    sensed,
)
from oracles.registry import ORACLES

__all__ = ["ORACLES"]
