"""Oracles of building blocks, each run on the very recipe that the block distinguishes: block -> function of a case."""

from oracles import (  # noqa: F401 (they register themselves)
    couplings,
    gates_of_time,
    goals,
    history,
    latent,
    motion,
    pixels,
    plans,
    running,
    sampling,
    searching,
    serial,
    views,
    words,
)
from oracles.registry import ORACLES

__all__ = ["ORACLES"]
