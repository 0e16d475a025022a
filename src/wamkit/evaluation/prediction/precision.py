"""Errors of probes, chunks and closed loops, summarised in millimetres: where a policy loses precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wamkit.envs.facts import Facts
from wamkit.envs.ground_truth import LANDMARKS
from wamkit.evaluation.closed_loop.tutored import TutoredEpisode
from wamkit.evaluation.prediction.context import STATE
from wamkit.evaluation.prediction.probe import PROBES, Samples, fit_mean
from wamkit.evaluation.report.failures import PHASES, phases_of, tags_of
from wamkit.evaluation.report.statistics import wilson

Array: TypeAlias = NDArray[Any]
MM = 1000.0
VARIES_MM = 1.0  # a place that varies less needs no encoder
TICKS = (0, 25, 50, 100, 200)  # bins of the time in closed loop


@dataclass(frozen=True)
class Readings:
    """Features (N, D) by name, with the landmarks (N, L, 3), facts (N, 3) and episodes (N,) of the same frames."""

    features: Mapping[str, Array]
    landmarks: Array
    facts: Array
    owners: Array


def quantiles(values: Array) -> dict[str, Any]:
    """Median and 90th percentile of a sample, with its size."""
    found = values[np.isfinite(values)]
    if not len(found):
        return {"n": 0, "p50": None, "p90": None}
    return {"n": len(found), "p50": float(np.median(found)), "p90": float(np.quantile(found, 0.9))}


def by(values: Array, labels: Sequence[str] | Array, order: Sequence[str]) -> dict[str, dict[str, Any]]:
    """:func:`quantiles` of every label that occurs, and of ``all``."""
    labels = np.asarray(labels)
    groups = {label: quantiles(values[labels == label]) for label in order if (labels == label).any()}
    return {"all": quantiles(values), **groups}


def phases_of_frames(facts: Array, owners: Array) -> Array:
    """Phase (N,) of every frame of demonstrations, from the recorded facts (N, 3)."""
    found: list[str] = []
    for owner in np.unique(owners):
        rows = facts[owners == owner]
        found += phases_of([Facts(bool(row[0]), float(row[1]), float(row[2])) for row in rows])
    return np.array(found)


def points_of(landmarks: Array) -> dict[str, Array]:
    """Landmarks (N, L, 3) as points (N, 3) by name, and the way from the hand to the object; metres."""
    points = {name: landmarks[:, i].astype(np.float64) for i, name in enumerate(LANDMARKS)}
    return {**points, "hand to object": points["object"] - points["hand"]}


def points_that_vary(landmarks: Array) -> dict[str, Array]:
    """:func:`points_of` without those that are always in one place."""
    return {name: p for name, p in points_of(landmarks).items() if p.std(axis=0).max() * MM > VARIES_MM}


def at_probes(shown: Readings, unseen: Readings) -> dict[str, Any]:
    """Errors of probes: features -> probe -> target -> phase -> quantiles in millimetres."""
    known, true = points_that_vary(shown.landmarks), points_of(unseen.landmarks)
    values = np.concatenate(list(known.values()), axis=1)
    truth = np.concatenate([true[name] for name in known], axis=1)
    phases = phases_of_frames(unseen.facts, unseen.owners)
    found: dict[str, Any] = {}
    for name, features in shown.features.items():
        fitted = Samples(features, values, shown.owners)
        fits = {"mean": fit_mean, **PROBES} if name == STATE else PROBES
        for kind, fit in fits.items():
            error = (fit(fitted)(unseen.features[name]) - truth).reshape(len(phases), -1, 3)
            distance = MM * np.linalg.norm(error, axis=2)  # (N, targets)
            place = found.setdefault("nothing" if kind == "mean" else name, {})
            place[kind] = {t: by(distance[:, k], phases, PHASES) for k, t in enumerate(known)}
    return found


def at_open_loop(
    predicted: Array, recorded: Array, pad: Array, mean: Array, phases: Array, mm: float
) -> dict[str, Any]:
    """Errors by phase of the tick at which the chunk is predicted.

    Args:
        predicted: actions (N, E, A) of the executed part of chunks.
        recorded: demonstrated actions (N, E, A).
        pad: (N, E), True beyond the end of the episode.
        mean: (A,), mean demonstrated action.
        phases: (N,), phase at the first action.
        mm: millimetres of displacement per unit of action and tick.
    """
    whole = ~pad.any(axis=1)
    gap = np.where(pad[..., None], np.nan, mm * (predicted - recorded)[..., :3])
    blind = np.where(pad[..., None], np.nan, mm * (mean - recorded)[..., :3])
    way = mm * recorded[..., :3]
    wrong = np.where(pad, np.nan, np.sign(predicted[..., 3]) != np.sign(recorded[..., 3]))

    def total(steps: Array) -> Array:
        return np.where(whole, np.linalg.norm(steps.sum(axis=1), axis=1), np.nan)

    return {
        "executed": int(predicted.shape[1]),
        "first action, mm": by(np.linalg.norm(gap[:, 0], axis=1), phases, PHASES),
        "last executed action, mm": by(np.linalg.norm(gap[:, -1], axis=1), phases, PHASES),
        "accumulated, mm": by(total(gap), phases, PHASES),
        "accumulated by the mean action, mm": by(total(blind), phases, PHASES),
        "demonstrated way, mm": by(total(way), phases, PHASES),
        "gripper wrong, share of ticks": {
            name: float(np.nanmean(wrong[where]))
            for name, where in [("all", phases != ""), *((p, phases == p) for p in PHASES)]
            if where.any()
        },
    }


def nearest(visited: Array, demonstrated: Array) -> Array:
    """Distance (N,) from hand-to-object vectors of landmarks (N, L, 3) to the nearest demonstrated one, mm."""
    from scipy.spatial import cKDTree

    tree = cKDTree(points_of(demonstrated)["hand to object"])
    distance, _ = tree.query(points_of(visited)["hand to object"])
    return MM * np.asarray(distance)


def gaps_of(episodes: Sequence[TutoredEpisode], demonstrated: Array, mm: float) -> dict[str, Array]:
    """Every tick of episodes as columns: gap to the expert, phase, age, tick, solved, distance to demonstrations."""
    columns: dict[str, list[Array]] = {}
    for episode in episodes:
        count = len(episode.actions)
        difference = np.array(episode.actions) - np.array(episode.expert)
        for name, values in {
            "gap": mm * np.linalg.norm(difference[:, :3], axis=1),
            "grip": np.sign(np.array(episode.actions)[:, 3]) != np.sign(np.array(episode.expert)[:, 3]),
            "phase": np.array(episode.phases),
            "age": np.array(episode.ages),
            "tick": np.arange(count),
            "solved": np.full(count, episode.solved),
            "apart": nearest(np.array(episode.landmarks[:count]), demonstrated),
        }.items():
            columns.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in columns.items()}


def at_closed_loop(ticks: Mapping[str, Array]) -> dict[str, Any]:
    """Gaps by phase and over time, apart for solved and failed episodes."""
    spans = [f"{a} to {b - 1}" for a, b in pairwise(TICKS)]
    span = np.array(spans)[np.clip(np.digitize(ticks["tick"], TICKS) - 1, 0, len(spans) - 1)]
    found: dict[str, Any] = {}
    for name, rows in {"solved": ticks["solved"], "failed": ~ticks["solved"]}.items():
        if not rows.any():
            continue
        fresh = rows & (ticks["age"] == 0)
        found[name] = {
            "gap at a call, mm": by(ticks["gap"][fresh], ticks["phase"][fresh], PHASES),
            "gap, mm": by(ticks["gap"][rows], ticks["phase"][rows], PHASES),
            "gap over time, mm": by(ticks["gap"][rows], span[rows], spans),
            "to the nearest demonstration, mm": by(ticks["apart"][rows], ticks["phase"][rows], PHASES),
            "to the nearest demonstration over time, mm": by(ticks["apart"][rows], span[rows], spans),
            "gripper wrong, share of ticks": float(ticks["grip"][rows].mean()),
            "share of ticks": {p: float((ticks["phase"][rows] == p).mean()) for p in PHASES[:-1]},
        }
    return found


def outcomes(episodes: Sequence[TutoredEpisode]) -> dict[str, Any]:
    """Successes, phases, tags and how close failed episodes came."""
    records = [episode.record for episode in episodes if episode.record is not None]
    scored = [record for record in records if record.status != "error"]
    failed = [e for e in episodes if not e.solved and e.record is not None and e.record.status != "error"]
    solved = sum(record.status == "success" for record in scored)
    goal = [MM * _closest(np.array(e.landmarks), "object", "goal") for e in failed]
    hand = [MM * _closest(np.array(e.landmarks), "hand", "object") for e in failed]
    return {
        "successes": solved,
        "n": len(scored),
        "errors": len(records) - len(scored),
        "wilson_95": wilson(solved, len(scored)),
        "phases": Counter(r.events.phase for r in scored if r.events is not None),
        "tags": Counter(tag for record in scored for tag in tags_of(record)),
        "closest of failed, mm": {
            "hand to object": quantiles(np.array(hand)),
            "object to goal": quantiles(np.array(goal)),
        },
    }


def _closest(landmarks: Array, one: str, other: str) -> float:
    points = points_of(landmarks)
    return float(np.linalg.norm(points[one] - points[other], axis=1).min())
