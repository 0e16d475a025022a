"""Language Instructions: the same task in other words, with more around it, or with slips of the keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wamkit.envs.perturbations.base import Dimension, Perturbation

CONTEXT = (
    "You are helping in the workshop.",
    "It is the first thing to do this morning.",
    "Take the time you need.",
    "The arm starts above the table.",
    "Somebody will check the result afterwards.",
)
DISTRACTION = (
    "There may also be a mug on the table.",
    "Do not mind the colour of the wall.",
    "The box on the left was used yesterday.",
    "Another robot will sort the bolts later.",
    "The lamp has been moved since last week.",
)
NEIGHBOURS = {
    "a": "qs", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "ko", "m": "n", "n": "bm", "o": "ip", "p": "ol", "q": "wa", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "xs",
}  # fmt: skip


@dataclass(frozen=True)
class LanguagePerturbation(Perturbation):
    """What all kinds of wording share."""

    dimension: ClassVar[Dimension] = "Language Instructions"


@Perturbation.register_subclass("paraphrase")
@dataclass(frozen=True)
class Paraphrase(LanguagePerturbation):
    """Another wording of the task; the stronger, the fewer words it shares with the canonical one."""

    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        """See :class:`Perturbation`."""
        others = sorted((p for p in phrases if p != text), key=lambda p: (-shared_words(p, text), p))
        if not others:
            return text
        return others[min(len(others) - 1, (self.strength - 1) * len(others) // 5)]


@Perturbation.register_subclass("added_context")
@dataclass(frozen=True)
class AddedContext(LanguagePerturbation):
    """As many sentences as the strength stand before the instruction and say nothing of the task."""

    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        """See :class:`Perturbation`."""
        return " ".join([*rng.permutation(CONTEXT)[: self.strength], text])


@Perturbation.register_subclass("distraction")
@dataclass(frozen=True)
class Distraction(LanguagePerturbation):
    """As many sentences as the strength follow the instruction and speak of other things."""

    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        """See :class:`Perturbation`."""
        return " ".join([text.rstrip(".") + ".", *rng.permutation(DISTRACTION)[: self.strength]])


@Perturbation.register_subclass("typos")
@dataclass(frozen=True)
class Typos(LanguagePerturbation):
    """As many slips as the strength: a letter missing, doubled, swapped with the next, or its neighbour's key."""

    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        """See :class:`Perturbation`."""
        for _ in range(self.strength):
            text = slip(text, rng)
        return text


def slip(text: str, rng: np.random.Generator) -> str:
    """One slip at a letter inside a word."""
    places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i - 1].isalpha()]
    if not places:
        return text
    at = int(rng.choice(places))
    kind = rng.choice(("missing", "doubled", "swapped", "neighbour"))
    if kind == "missing":
        return text[:at] + text[at + 1 :]
    if kind == "swapped" and text[at] != text[at - 1]:
        return text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
    if kind == "neighbour" and text[at].lower() in NEIGHBOURS:
        return text[:at] + str(rng.choice(list(NEIGHBOURS[text[at].lower()]))) + text[at + 1 :]
    return text[:at] + text[at] + text[at:]


def shared_words(a: str, b: str) -> float:
    """Part of the words of two sentences that both have (Jaccard)."""
    first, second = ({word.strip(".,").lower() for word in text.split()} for text in (a, b))
    return len(first & second) / len(first | second)
