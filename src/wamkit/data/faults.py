"""Faults of a dataset: a check reports them, the reader raises the first, and ``wamkit data check`` collects all.

Every check is written once. It calls :func:`report` where it could go on behind a fault, and raises
:class:`DataError` where it cannot. Outside :func:`collecting` both are the same: the first fault is raised. Inside,
:func:`apart` bounds what a raised fault ends, and :func:`together` ends a block whose result cannot be used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from wamkit.errors import DataError

# Kind of a fault -> what is wrong. The table of docs/data.md is made of it.
KINDS = {
    "info": "`meta/info.json` or one of its entries is missing, or has a wrong type or value",
    "feature": "a feature's dtype, shape or names in `meta/info.json` cannot be",
    "specs": "the stored specs do not fit the features, or were changed; or no specs can be inferred",
    "episodes": "the episode table cannot be read, lacks a value, or does not add up",
    "totals": "episodes, frames or tasks are not as many as `meta/info.json` says",
    "tasks": "the table of instructions cannot be read, has gaps, or lists an instruction twice",
    "statistics": "statistics are missing, contradict themselves, or are those of other frames",
    "table": "a data file is missing, damaged, or has another number of frames",
    "column": "a column is missing, or holds nulls, another type, or another width",
    "index": "an index or a time stamp does not fit the episode table and the rate",
    "value": "an action or state is NaN or infinite",
    "limits": "an action lies outside the limits of the recorded spec",
    "has_action": "an episode has actions in some of its frames only, or none although it has values",
    "task": "a frame's task is not listed, or is not one of its episode's",
    "changed": "frames are not those that were recorded: other statistics or another digest",
    "video": "a video is missing, damaged, of another size, or not 8-bit RGB",
    "span": "an episode's part of a video is not as long as the episode, or has no pictures",
    "picture": "a picture cannot be decoded, or the bytes are not those that were recorded (`--decode`)",
}


@dataclass(frozen=True)
class Fault:
    """One fault of a dataset.

    Attributes:
        kind: one of :data:`KINDS`.
        message: value, place and way out, as the reader says them.
        file: the file, relative to the dataset's folder where it lies below it.
        episode: number of the episode; None where the fault is not one episode's.
        frame: number of the first such frame within the episode.
        feature: key of the feature.
    """

    kind: str
    message: str
    file: str | None = None
    episode: int | None = None
    frame: int | None = None
    feature: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        return dataclasses.asdict(self)


class UnusableError(DataError):
    """Something that a check needs is broken. The fault was reported, so this is none of its own."""


class PlacedError(DataError):
    """Fault that ends what it was found in, and knows its place better than the block around it.

    Args:
        message: value, place and way out.
        place: ``file``, ``episode``, ``frame`` and ``feature``, as far as they apply.
    """

    def __init__(self, message: str, **place: Any) -> None:
        super().__init__(message)
        self.place = place


@contextmanager
def placed(**place: Any) -> Iterator[None]:
    """Block whose :class:`DataError` is of ``place``, whatever the block around it reads."""
    try:
        yield
    except (PlacedError, UnusableError):
        raise
    except DataError as error:
        raise PlacedError(str(error), **place) from error


@dataclass
class Findings:
    """Faults collected so far.

    Attributes:
        root: the dataset folder.
        faults: in the order of the reader.
    """

    root: Path
    faults: list[Fault] = field(default_factory=list)
    _place: dict[str, Any] = field(default_factory=dict)
    _errors: list[DataError] = field(default_factory=list)  # those kept, so that one raised again counts once

    @contextmanager
    def at(self, place: dict[str, Any]) -> Iterator[None]:
        """Block in which ``place`` is where faults are, unless they say otherwise."""
        outer = self._place
        self._place = {**outer, **place}
        try:
            yield
        finally:
            self._place = outer

    def keep(self, error: DataError, kind: str, place: dict[str, Any]) -> None:
        """Add a fault, unless it was added before."""
        if isinstance(error, UnusableError) or any(error is known for known in self._errors):
            return
        self._errors.append(error)
        fields = {**self._place, **place, **(error.place if isinstance(error, PlacedError) else {})}
        if fields.get("file") is not None:
            fields["file"] = self.named(fields["file"])
        fault = Fault(kind, str(error), **fields)
        if fault not in self.faults:  # a file may be read for two checks
            self.faults.append(fault)

    def named(self, file: Path) -> str:
        """A file relative to the dataset's folder, where it lies below it."""
        return (file.relative_to(self.root) if file.is_relative_to(self.root) else file).as_posix()


_CURRENT: ContextVar[Findings | None] = ContextVar("findings", default=None)


@contextmanager
def collecting(root: Path) -> Iterator[Findings]:
    """Block in which faults are collected and not raised."""
    findings = Findings(root)
    token = _CURRENT.set(findings)
    try:
        yield findings
    finally:
        _CURRENT.reset(token)


def report(kind: str, message: str, **place: Any) -> None:
    """Raise :class:`DataError`; inside :func:`collecting` keep the fault instead, and return.

    Args:
        kind: one of :data:`KINDS`.
        message: value, place and way out.
        place: ``file``, ``episode``, ``frame`` and ``feature``, as far as they apply and no :func:`apart` around the
            call has said them.
    """
    error, findings = DataError(message), _CURRENT.get()
    if findings is None:
        raise error
    findings.keep(error, kind, place)


def known(feature: str, kinds: Collection[str], episode: int | None = None, file: Path | None = None) -> bool:
    """Whether a fault of these kinds was kept of a feature, and of an episode or a file where one is named.

    A check of the whole asks this, so as not to say again what a check of the parts has said.
    """
    findings = _CURRENT.get()
    return findings is not None and any(
        (fault.feature == feature or (file is not None and fault.feature is None))
        and fault.kind in kinds
        and episode in (None, fault.episode)
        and (file is None or fault.file == findings.named(file))
        for fault in findings.faults
    )


@dataclass
class Outcome:
    """How a block ended.

    Attributes:
        faults: number of faults that were kept inside.
        left_out: true where something that the block needs is broken, and it kept no fault of its own.
    """

    faults: int = 0
    left_out: bool = False


@contextmanager
def apart(kind: str, **place: Any) -> Iterator[Outcome]:
    """Block of which nothing depends that follows: inside :func:`collecting`, a fault that is raised ends it alone.

    Args:
        kind: kind of the faults that are raised inside.
        place: where they are, also for :func:`report` inside.
    """
    findings, outcome = _CURRENT.get(), Outcome()
    if findings is None:
        yield outcome
        return
    with findings.at(place):
        before = len(findings.faults)
        try:
            yield outcome
        except DataError as error:
            findings.keep(error, kind, {})
            outcome.left_out = len(findings.faults) == before
        outcome.faults = len(findings.faults) - before


@contextmanager
def together() -> Iterator[None]:
    """Block whose result cannot be used after a fault: all of them are reported, then one is raised."""
    findings = _CURRENT.get()
    before = 0 if findings is None else len(findings.faults)
    yield
    if findings is not None and len(findings.faults) > before:
        raise UnusableError(findings.faults[before].message)


T = TypeVar("T")


class once(Generic[T]):
    """Property that is computed once; a :class:`DataError` is kept as well, and raised again by whatever needs it."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_once_{name}"

    @overload
    def __get__(self, owner: None, kind: type) -> once[T]: ...

    @overload
    def __get__(self, owner: object, kind: type) -> T: ...

    def __get__(self, owner: object | None, kind: type) -> once[T] | T:
        if owner is None:
            return self
        known = vars(owner)
        if self._name not in known:
            known[self._name] = self._outcome(owner)
        outcome: T | DataError = known[self._name]
        if isinstance(outcome, DataError):
            raise outcome
        return outcome

    def _outcome(self, owner: object) -> T | DataError:
        try:
            return self._compute(owner)
        except DataError as error:
            return error
