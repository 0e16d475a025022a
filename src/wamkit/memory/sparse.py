"""Library function, not a part: history offsets, dense nearby, sparse far back, on a token budget (survey eq. 36)."""

from __future__ import annotations

from wamkit.errors import ConfigError


def sparse_history(
    budget: int, tokens_per_frame: int, *, dense: int = 2, growth: float = 2.0, reach: int | None = None
) -> tuple[int, ...]:
    """Offsets of the observed steps for ``DesignConfig.observation``: dense nearby, further apart the older.

    Spacing law: the newest ``dense`` frames follow each other; the k-th gap before them, k = 1, 2, ..., is
    ``round(growth ** k)`` ticks. So n frames reach back about ``growth ** n`` ticks (PhysGen, EnerVerse, DexWM
    keep history in such packages).

    Args:
        budget: the most context tokens that history may take, "now" included.
        tokens_per_frame: tokens that one observed step costs, all encoders together.
        dense: frames without a gap, "now" included, at least 1.
        growth: factor from one gap to the next, at least 1; 1 is a dense window.
        reach: the oldest offset's distance from "now" in ticks at most; None: as far as the budget goes.

    Returns:
        offsets, ascending, the last one 0; ``len(offsets) * tokens_per_frame <= budget``.

    Raises:
        ConfigError: the budget does not pay for one frame, or an argument is out of range.
    """
    if tokens_per_frame < 1 or dense < 1 or not growth >= 1 or (reach is not None and reach < 0):
        raise ConfigError(
            f"sparse_history: needs `tokens_per_frame` and `dense` of at least 1, `growth` of at least 1 and a "
            f"`reach` of at least 0, got {tokens_per_frame}, {dense}, {growth} and {reach}."
        )
    frames = budget // tokens_per_frame
    if frames < 1:
        raise ConfigError(
            f"sparse_history: a budget of {budget} tokens does not pay for one frame of {tokens_per_frame}. "
            f"Raise `budget` or use an encoder with fewer tokens."
        )
    distances = [0]
    while len(distances) < frames:
        far = len(distances) - dense + 1  # k of the next gap; 0 and below lie in the dense part
        distance = distances[-1] + (round(growth**far) if far > 0 else 1)
        if reach is not None and distance > reach:
            break
        distances.append(distance)
    return tuple(-distance for distance in reversed(distances))
