"""Stages of work, opened where the work is done and shown wherever a display is.

A part that works for longer than a second says so, and knows nothing of terminals::

    with stage("fit codec", total=steps) as here:
        for _ in range(steps):
            ...
            here.advance()

The display is ambient and belongs to the whole process, as handlers of :mod:`logging` do: frames are decoded in a
background thread, which would not see a context variable of the thread that waits for them. Without a display, a stage
costs next to nothing.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar, final

T = TypeVar("T")

_LOCK = threading.RLock()
_open: list[Stage] = []
_display: Display | None = None


@final
class Stage:
    """One stage of work.

    Attributes:
        name: what is done.
        total: number of its steps; None where nobody knows it beforehand.
        first: steps that were done before it began, as in a resumed run.
        done: steps that are done.
        note: latest figures, such as losses.
        depth: number of stages around it; a stage of a background thread lies inside all of the others.
    """

    def __init__(self, name: str, total: int | None = None, first: int = 0, depth: int = 0) -> None:
        self.name, self.total, self.first, self.done = name, total, first, first
        self.note, self.depth = "", depth
        self.thread = threading.get_ident()
        self.display: Display | None = None

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """Count ``by`` further steps as done, and replace the note if one is given."""
        self.done += by
        self.note = self.note if note is None else note
        if self.display is not None:
            self.display.update(self)


class Display(ABC):
    """What shows stages to people. Its methods may be called from any thread."""

    @abstractmethod
    def begin(self, stage: Stage) -> None:
        """Show a stage that begins."""

    @abstractmethod
    def update(self, stage: Stage) -> None:
        """Show how far a stage is."""

    @abstractmethod
    def end(self, stage: Stage) -> None:
        """Take notice that a stage has ended."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Show a line about the work."""


@contextmanager
def stage(name: str, total: int | None = None, done: int = 0) -> Iterator[Stage]:
    """Stage of work that lasts as long as the context.

    Args:
        name: what is done, the same for every repetition: a log has one line per name.
        total: number of its steps, if it is known.
        done: steps that are done already.
    """
    here = Stage(name, total, done)
    with _LOCK:
        own = sum(other.thread == here.thread for other in _open)
        here.display, here.depth = _display, own or len(_open) + bool(_open)
        _open.append(here)
    if here.display is not None:
        here.display.begin(here)
    try:
        yield here
    finally:
        with _LOCK:
            _open.remove(here)
        if here.display is not None:
            here.display.end(here)


def track(items: Iterable[T], name: str) -> Iterator[T]:
    """Yield ``items`` one by one as a stage, with their number as its total if they have one."""
    with stage(name, len(items) if isinstance(items, Sized) else None) as here:
        for item in items:
            yield item
            here.advance()


@contextmanager
def showing(display: Display) -> Iterator[None]:
    """Show the stages that are opened inside on ``display``."""
    global _display
    with _LOCK:
        before, _display = _display, display
    try:
        yield
    finally:
        with _LOCK:
            _display = before


def say(*lines: str) -> None:
    """Show lines about the work, once each, wherever a display is."""
    if _display is not None:
        for line in lines:
            _display.say(line)


def open_stages() -> tuple[Stage, ...]:
    """Return the stages that are open now, the outermost first."""
    with _LOCK:
        return tuple(_open)
