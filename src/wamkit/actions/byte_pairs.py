"""Byte-pair encoding of integer sequences (Gage 1994; Sennrich et al. 2016), in numpy.

Sequences are concatenated into one flat array with the separator -1 after each, so that one pass counts or replaces
a pair in all of them.
"""

from __future__ import annotations

import numpy as np

SEPARATOR = -1
Pair = tuple[int, int]  # of neighbouring symbols


def join(rows: np.ndarray) -> np.ndarray:
    """Concatenate rows of symbols (B, L), with a separator after each row."""
    return np.concatenate((rows, np.full((len(rows), 1), SEPARATOR, rows.dtype)), axis=1).ravel()


def split(flat: np.ndarray) -> list[np.ndarray]:
    """Split a flat sequence at its separators: the inverse of :func:`join`, for rows of any length."""
    ends = np.flatnonzero(flat == SEPARATOR)
    return [row[row != SEPARATOR] for row in np.split(flat, ends + 1)[:-1]]


def replace(flat: np.ndarray, pair: Pair, symbol: int) -> np.ndarray:
    """Replace every occurrence of ``pair``, from the left and without overlap, by ``symbol``."""
    matches = np.flatnonzero((flat[:-1] == pair[0]) & (flat[1:] == pair[1]))
    if not len(matches):
        return flat
    # Matches overlap only where a symbol is paired with itself, as in a a a: every second match of such a run counts.
    starts_run = np.concatenate(([True], np.diff(matches) > 1))
    run_start = matches[np.maximum.accumulate(np.where(starts_run, np.arange(len(matches)), 0))]
    matches = matches[(matches - run_start) % 2 == 0]
    out = flat.copy()
    out[matches] = symbol
    return np.delete(out, matches + 1)


def learn_merges(rows: np.ndarray, alphabet: int, merges: int) -> list[Pair]:
    """Learn merges of the most frequent pairs; merge i creates the symbol ``alphabet + i``.

    Args:
        rows: (B, L) symbols in [0, alphabet).
        alphabet: number of symbols before merging.
        merges: maximum number of merges; fewer are learned when no pair occurs twice.

    Returns:
        the merged pairs, in order. Of equally frequent pairs the smallest is merged.
    """
    flat = join(rows.astype(np.int64))
    base = alphabet + merges  # above every symbol, so that first * base + second numbers the pairs
    learned: list[Pair] = []
    for i in range(merges):
        first, second = flat[:-1], flat[1:]
        inside = (first != SEPARATOR) & (second != SEPARATOR)
        codes, counts = np.unique(first[inside] * base + second[inside], return_counts=True)
        if not len(codes) or counts.max() < 2:
            break
        pair = divmod(int(codes[counts.argmax()]), base)
        learned.append(pair)
        flat = replace(flat, pair, alphabet + i)
    return learned


def apply_merges(rows: np.ndarray, alphabet: int, merges: list[Pair]) -> list[np.ndarray]:
    """Encode rows of symbols (B, L) as B shorter sequences, applying merges in the order they were learned."""
    flat = join(rows.astype(np.int64))
    for i, pair in enumerate(merges):
        flat = replace(flat, pair, alphabet + i)
    return split(flat)


def expansions(alphabet: int, merges: list[Pair]) -> list[list[int]]:
    """Return, for every symbol, the symbols of the alphabet that it stands for."""
    table = [[i] for i in range(alphabet)]
    for first, second in merges:
        table.append(table[first] + table[second])
    return table
