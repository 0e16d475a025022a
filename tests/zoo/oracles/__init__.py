"""Oracles of building blocks, each run on the very recipe that the block distinguishes: block -> function of a case."""

from oracles import (  # noqa: F401 (they register themselves)
    actions,
    clips,
    couplings,
    denoising,
    deployment,
    embeddings,
    gates_of_time,
    geometry,
    goals,
    history,
    imagining,
    language,
    latent,
    masks,
    memory,
    mixture,
    motion,
    pixels,
    plans,
    rates,
    running,
    sampling,
    scoring,
    searching,
    sensed,
    senses,
    serial,
    steering,
    training,
    views,
    words,
    worlds,
)
from oracles.registry import ORACLES

__all__ = ["ORACLES"]
