"""Imagined scores as a proxy of success: what they are, and how far to trust them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wamkit.contract.types import Budget, Observation
from wamkit.design import Design
from wamkit.errors import DataError
from wamkit.evaluation.imagined.scorers import Scorer
from wamkit.evaluation.prediction.correlation import Correlation, correlation
from wamkit.evaluation.prediction.prediction import Estimate, estimate
from wamkit.imagination.dreams import Dream, DreamPolicy, dream


@dataclass(frozen=True)
class ImaginedScore:
    """What a world model thinks of one policy.

    Attributes:
        policy: which policy.
        score: mean over the start observations, with an interval over them.
        scores: one per start.
        steps: imagined steps.
        horizon_ticks: control ticks that they cover.
        control_hz: control ticks per second of the robot.
        steps_per_s: imagined steps per second of wall time, all starts together, the policy included.
    """

    policy: str
    score: Estimate
    scores: tuple[float, ...]
    steps: int
    horizon_ticks: int
    control_hz: float
    steps_per_s: float


@dataclass(frozen=True)
class ProxyReport:
    """Whether imagined scores rank policies as the reference does.

    Attributes:
        world: name of the world model.
        scores: one per policy.
        success: policy -> rate of success in the reference.
        correlation: of imagined score with success, over policies.
    """

    world: str
    scores: tuple[ImaginedScore, ...]
    success: Mapping[str, float]
    correlation: Correlation

    def headline(self) -> str:
        """Coefficients with intervals and n, the horizon and the rate."""
        ticks, hz = self.scores[0].horizon_ticks, self.scores[0].control_hz
        rate = float(np.mean([score.steps_per_s for score in self.scores]))
        return (
            f"{self.correlation.headline()} policies; {len(self.scores[0].scores)} starts each, {ticks} ticks "
            f"({ticks / hz:.2f} s) imagined at {rate:.1f} steps/s"
        )


def imagined_score(
    world: Design,
    name: str,
    policy: DreamPolicy,
    start: Observation,
    steps: int,
    scorer: Scorer,
    *,
    seeds: Sequence[int],
    budget: Budget | None = None,
) -> ImaginedScore:
    """Let ``policy`` act in ``world`` from B starts, then score the ends (:func:`wamkit.imagination.dreams.dream`)."""
    begin = time.perf_counter()
    finished = dream(world, policy, start, steps, seeds=seeds, budget=budget)
    return score_dream(finished, name, scorer, steps / (time.perf_counter() - begin))


def score_dream(finished: Dream, name: str, scorer: Scorer, steps_per_s: float) -> ImaginedScore:
    """The score of a dream that was dreamt at ``steps_per_s``."""
    scores = scorer(finished).double().cpu().numpy()
    return ImaginedScore(
        policy=name,
        score=estimate(scores, np.arange(len(scores))),
        scores=tuple(float(value) for value in scores),
        steps=finished.steps,
        horizon_ticks=finished.ticks,
        control_hz=finished.world.action_spec.rate_hz,
        steps_per_s=steps_per_s,
    )


def trust(world: Design, scores: Sequence[ImaginedScore], success: Mapping[str, float]) -> ProxyReport:
    """Correlate imagined scores with the success of the same policies in a reference, e.g. the simulator.

    Raises:
        DataError: a policy has no success, or the scores were imagined over different horizons.
    """
    unknown = [score.policy for score in scores if score.policy not in success]
    if unknown or not scores:
        raise DataError(
            f"imagined scores of {unknown or 'no policy'}, but success is known of {sorted(success)}"
        )
    if len({(score.steps, score.horizon_ticks) for score in scores}) > 1:
        raise DataError("imagined scores over different horizons cannot be ranked against each other")
    pairs = [(float(np.mean(score.scores)), success[score.policy]) for score in scores]
    measure = f"imagined[{world.name}]"
    found = correlation(measure, [x for x, _ in pairs], [y for _, y in pairs])
    return ProxyReport(world.name, tuple(scores), dict(success), found)
