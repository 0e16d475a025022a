"""Language Instructions: the same task paraphrased, with added sentences, or with typing errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

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
    """Base of all changes of the instruction."""

    dimension: ClassVar[Dimension] = "Language Instructions"


@Perturbation.register_subclass("paraphrase")
@dataclass(frozen=True)
class Paraphrase(LanguagePerturbation):
    """Paraphrase of the instruction that shares fewer words with it at higher strength."""

    @override
    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        paraphrases = sorted((p for p in phrases if p != text), key=lambda p: (-shared_words(p, text), p))
        if not paraphrases:
            return text
        return paraphrases[min(len(paraphrases) - 1, (self.strength - 1) * len(paraphrases) // 5)]


@Perturbation.register_subclass("added_context")
@dataclass(frozen=True)
class AddedContext(LanguagePerturbation):
    """One sentence of context per strength level before the instruction, unrelated to the task."""

    @override
    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        return " ".join([*rng.permutation(CONTEXT)[: self.strength], text])


@Perturbation.register_subclass("distraction")
@dataclass(frozen=True)
class Distraction(LanguagePerturbation):
    """One sentence about other things per strength level after the instruction."""

    @override
    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        return " ".join([text.rstrip(".") + ".", *rng.permutation(DISTRACTION)[: self.strength]])


@Perturbation.register_subclass("typos")
@dataclass(frozen=True)
class Typos(LanguagePerturbation):
    """One typing error per strength level: a letter missing, doubled, swapped, or replaced by a neighbouring key."""

    @override
    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        for _ in range(self.strength):
            text = slip(text, rng)
        return text


def slip(text: str, rng: np.random.Generator) -> str:
    """Insert one typing error at a letter inside a word."""
    positions = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i - 1].isalpha()]
    if not positions:
        return text
    at = int(rng.choice(positions))
    kind = rng.choice(("missing", "doubled", "swapped", "neighbour"))
    if kind == "missing":
        return text[:at] + text[at + 1 :]
    if kind == "swapped" and text[at] != text[at - 1]:
        return text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
    if kind == "neighbour" and text[at].lower() in NEIGHBOURS:
        return text[:at] + str(rng.choice(list(NEIGHBOURS[text[at].lower()]))) + text[at + 1 :]
    return text[:at] + text[at] + text[at:]


def shared_words(a: str, b: str) -> float:
    """Jaccard similarity of the words of two sentences."""
    first, second = ({word.strip(".,").lower() for word in text.split()} for text in (a, b))
    return len(first & second) / len(first | second)
