"""Oracles of building blocks, each run on the very recipe that the block distinguishes: block -> function of a case."""

from oracles import (  # noqa: F401 (they register themselves)
    actions,
    couplings,
    geometry,
    goals,
    language,
    latent,
    motion,
    pixels,
    plans,
    rates,
    running,
    sampling,
    senses,
    serial,
    training,
)
from oracles.registry import ORACLES

__all__ = ["ORACLES"]
