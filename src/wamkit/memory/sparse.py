"""Sparse observation history under a token budget (survey eq. 36): a library function, not a part that a config names.

Its offsets are the value of ``DesignConfig.observation``.
"""

from __future__ import annotations

from wamkit.errors import ConfigError


def sparse_history(
    budget: int, tokens_per_frame: int, *, dense: int = 2, growth: float = 2.0, reach: int | None = None
) -> tuple[int, ...]:
    """Offsets of the observed steps for ``DesignConfig.observation``: dense near "now", sparser towards the past.

    The newest ``dense`` frames are consecutive; the k-th gap before them, k = 1, 2, ..., is ``round(growth ** k)``
    ticks. Thus n frames reach back about ``growth ** n`` ticks. PhysGen, EnerVerse and DexWM keep such histories.

    Args:
        budget: largest number of context tokens for the history, "now" included.
        tokens_per_frame: context tokens per observed step, summed over all encoders.
        dense: number of consecutive newest frames, "now" included, at least 1.
        growth: ratio of consecutive gaps, at least 1; 1 is a dense window.
        reach: largest distance of the oldest offset from "now" in ticks; None for no limit but the budget.

    Returns:
        offsets in ticks, ascending, the last one 0; ``len(offsets) * tokens_per_frame <= budget``.

    Raises:
        ConfigError: the budget is too small for one frame, or an argument is out of range.
    """
    if tokens_per_frame < 1 or dense < 1 or not growth >= 1 or (reach is not None and reach < 0):
        raise ConfigError(
            f"sparse_history: `tokens_per_frame`, `dense` and `growth` must be at least 1 and `reach` at least 0, got "
            f"{tokens_per_frame}, {dense}, {growth} and {reach}."
        )
    frames = budget // tokens_per_frame
    if frames < 1:
        raise ConfigError(
            f"sparse_history: a budget of {budget} tokens is too small for one frame of {tokens_per_frame}. "
            f"Raise `budget` or use an encoder with fewer tokens."
        )
    distances = [0]
    while len(distances) < frames:
        # Number k of the next gap; 0 and below belong to the dense part.
        k = len(distances) - dense + 1
        distance = distances[-1] + (round(growth**k) if k > 0 else 1)
        if reach is not None and distance > reach:
            break
        distances.append(distance)
    return tuple(-distance for distance in reversed(distances))
