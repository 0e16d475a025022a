"""Imagined scores as a proxy for success, and their correlation with success in a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wamkit.design import Design
from wamkit.errors import DataError
from wamkit.evaluation.imagined.scorers import Scorer
from wamkit.evaluation.prediction.correlation import Correlation, correlation
from wamkit.evaluation.prediction.estimates import Estimate, estimate
from wamkit.imagination.dreams import Dream


@dataclass(frozen=True)
class ImaginedScore:
    """Score of one policy in the imagination of a world model.

    Attributes:
        policy: name of the policy.
        score: mean over the start observations, with an interval over them.
        scores: score of every start.
        steps: number of imagined steps.
        horizon_ticks: control ticks that the steps cover.
        control_hz: control rate of the robot, Hz.
        steps_per_s: imagined steps per second of wall time, for all starts together, including the policy.
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
    """Agreement of imagined scores with success in a reference, over policies.

    Attributes:
        world: name of the world model.
        scores: imagined score of every policy.
        success: policy -> success rate in the reference.
        correlation: correlation of imagined score and success over policies.
    """

    world: str
    scores: tuple[ImaginedScore, ...]
    success: Mapping[str, float]
    correlation: Correlation

    def headline(self) -> str:
        """Summary in one line: coefficients with intervals and n, imagined horizon and rate."""
        ticks, hz = self.scores[0].horizon_ticks, self.scores[0].control_hz
        rate = float(np.mean([score.steps_per_s for score in self.scores]))
        return (
            f"{self.correlation.headline()} policies; {len(self.scores[0].scores)} starts each, {ticks} ticks "
            f"({ticks / hz:.2f} s) imagined at {rate:.1f} steps/s"
        )


def score_dream(finished: Dream, name: str, scorer: Scorer, steps_per_s: float) -> ImaginedScore:
    """Score a finished dream of the policy ``name``, imagined at ``steps_per_s``."""
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
        DataError: the success of a policy is missing, or the scores were imagined over different horizons.
    """
    unknown = [score.policy for score in scores if score.policy not in success]
    if unknown or not scores:
        raise DataError(
            f"imagined scores of {unknown or 'no policy'}, but success rates of {sorted(success)} only"
        )
    if len({(score.steps, score.horizon_ticks) for score in scores}) > 1:
        raise DataError("imagined scores over different horizons cannot be ranked against each other")
    pairs = [(float(np.mean(score.scores)), success[score.policy]) for score in scores]
    agreement = correlation(f"imagined[{world.name}]", [x for x, _ in pairs], [y for _, y in pairs])
    return ProxyReport(world.name, tuple(scores), dict(success), agreement)
