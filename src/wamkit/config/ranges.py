"""Ranges of config fields: what a field may hold stands beside it as its type, and is checked by :mod:`.values`.

``steps: Count`` is an integer of at least 1; ``rate: Annotated[float, Range(0, 1)]`` a number between 0 and 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

# Largest integer of a field without another bound: libraries count in 32 bits.
LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Range:
    """Numbers that a field may hold.

    Attributes:
        low: smallest number; None for no bound.
        high: largest number; None for no bound, which is :data:`LARGEST` for integers.
        above: true if ``low`` itself is excluded.
        below: true if ``high`` itself is excluded.
        infinite: true if infinity is a number that the field may hold. NaN never is.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False
    infinite: bool = False

    def fault(self, value: Any) -> str | None:
        """What ``value`` must be, if it is not."""
        if isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not self.infinite)):
            return "must be finite"
        if self.low is not None and (value < self.low or (self.above and value == self.low)):
            return f"must be {self._words()}"
        if self.high is not None and (value > self.high or (self.below and value == self.high)):
            return f"must be {self._words()}"
        if self.high is None and isinstance(value, int) and abs(value) > LARGEST:
            return f"must be at most {LARGEST}"
        return None

    def _words(self) -> str:
        low = None if self.low is None else f"{'more than' if self.above else 'at least'} {self.low}"
        high = None if self.high is None else f"{'less than' if self.below else 'at most'} {self.high}"
        return " and ".join(bound for bound in (low, high) if bound is not None)

    def text(self, kind: str) -> str:
        """The range of a type as help shows it, such as ``0 <= float < 1`` or ``int >= 1``."""
        least, most = ">" if self.above else ">=", "<" if self.below else "<="
        if self.low is not None and self.high is not None:
            return f"{self.low} {least.replace('>', '<')} {kind} {most} {self.high}"
        if self.low is not None:
            return f"{kind} {least} {self.low}"
        return kind if self.high is None else f"{kind} {most} {self.high}"


@dataclass(frozen=True)
class Length:
    """Texts, lists and mappings that a field may hold, by their length.

    Attributes:
        least: smallest number of entries.
        once: true if no entry may occur twice.
        ascending: true if every entry must be larger than the one before it.
    """

    least: int = 0
    once: bool = False
    ascending: bool = False

    def fault(self, value: Collection[Any]) -> str | None:
        """What ``value`` must be, if it is not."""
        if len(value) < self.least:
            least = "" if self.least == 1 else f", but {self.least} entries at least"
            return f"must not be empty{least}"
        entries = list(value)
        if self.once and any(entry in entries[:i] for i, entry in enumerate(entries)):
            return "must name each entry once"
        if self.ascending and any(a >= b for a, b in itertools.pairwise(entries)):
            return "must ascend"
        return None

    def text(self, kind: str) -> str:
        """The type as help shows it: bounds of a length would only lengthen it."""
        return kind


Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Integer = Annotated[int, Range()]
Size = Annotated[int, Range(1, 16384)]  # a length of arrays or a number of layers, which memory has to hold
Room = Annotated[int, Range(0, 16384)]  # the same, 0 for none
Seed = Annotated[int, Range(0, 4294967295)]  # 32 bits, which every generator of random numbers takes
Finite = Annotated[float, Range()]
Positive = Annotated[float, Range(0, above=True)]
NonNegative = Annotated[float, Range(0)]
Magnitude = Annotated[
    float, Range(0, 1000)
]  # a factor on values of about 1; larger ones leave only themselves
Expansion = Annotated[float, Range(0, 64, above=True)]  # width of a hidden layer, as a factor
Probability = Annotated[float, Range(0, 1)]
Fraction = Annotated[float, Range(0, 1, above=True)]  # a share that is not nothing
Between = Annotated[float, Range(0, 1, above=True, below=True)]  # neither nothing nor all
Decay = Annotated[float, Range(0, 1, below=True)]  # a share that is not all
Dropout = Annotated[float, Range(0, 1, below=True)]  # what is always hidden in training is never learned from
Earlier = Annotated[int, Range(-16384, 0)]  # ticks before "now"
Word = Annotated[str, Length(1)]  # a text that is not empty
Words = Annotated[tuple[Word, ...], Length(once=True)]
SomeWords = Annotated[tuple[Word, ...], Length(1, once=True)]
