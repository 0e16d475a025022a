"""Byte-pair merges over sequences of integers (Gage 1994; Sennrich et al. 2016), in numpy.

Sequences lie one after the other in a flat array, separated by -1, so that one pass counts or replaces a pair in
all of them.
"""

from __future__ import annotations

import numpy as np

SEPARATOR = -1
Pair = tuple[int, int]


def join(rows: np.ndarray) -> np.ndarray:
    """(B, L) symbols -> flat sequence with a separator after each row."""
    return np.concatenate((rows, np.full((len(rows), 1), SEPARATOR, rows.dtype)), axis=1).ravel()


def split(flat: np.ndarray) -> list[np.ndarray]:
    """Inverse of :func:`join`, for rows of any length."""
    ends = np.flatnonzero(flat == SEPARATOR)
    return [row[row != SEPARATOR] for row in np.split(flat, ends + 1)[:-1]]


def replace(flat: np.ndarray, pair: Pair, symbol: int) -> np.ndarray:
    """Every occurrence of ``pair``, from the left and without overlap, becomes ``symbol``."""
    at = np.flatnonzero((flat[:-1] == pair[0]) & (flat[1:] == pair[1]))
    if not len(at):
        return flat
    # In a run a a a the pairs overlap; only every second one counts.
    starts = np.concatenate(([True], np.diff(at) > 1))
    run = at[np.maximum.accumulate(np.where(starts, np.arange(len(at)), 0))]
    at = at[(at - run) % 2 == 0]
    out = flat.copy()
    out[at] = symbol
    return np.delete(out, at + 1)


def learn_merges(rows: np.ndarray, alphabet: int, merges: int) -> list[Pair]:
    """Learn up to ``merges`` merges; merge i makes the symbol ``alphabet + i``.

    Args:
        rows: (B, L) symbols in [0, alphabet).
        alphabet: number of symbols before merging.
        merges: most merges; fewer when no pair occurs twice. Ties go to the smallest pair.
    """
    flat = join(rows.astype(np.int64))
    size = alphabet + merges
    learned: list[Pair] = []
    for i in range(merges):
        inside = (flat[:-1] != SEPARATOR) & (flat[1:] != SEPARATOR)
        codes, counts = np.unique(flat[:-1][inside] * size + flat[1:][inside], return_counts=True)
        if not len(codes) or counts.max() < 2:
            break
        first, second = divmod(int(codes[counts.argmax()]), size)
        learned.append((first, second))
        flat = replace(flat, (first, second), alphabet + i)
    return learned


def apply_merges(rows: np.ndarray, alphabet: int, merges: list[Pair]) -> list[np.ndarray]:
    """(B, L) symbols -> B shorter sequences; merges are applied in the order in which they were learned."""
    flat = join(rows.astype(np.int64))
    for i, pair in enumerate(merges):
        flat = replace(flat, pair, alphabet + i)
    return split(flat)


def expansions(alphabet: int, merges: list[Pair]) -> list[list[int]]:
    """Symbol -> the symbols of the alphabet that it stands for."""
    table = [[i] for i in range(alphabet)]
    for first, second in merges:
        table.append(table[first] + table[second])
    return table
