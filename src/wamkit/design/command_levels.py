"""Levels of commands: words of the recording, its motion in words, places in a picture (`st.command-levels`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Positive, Range, Size, Word, Words
from wamkit.config.values import Config
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Observation
from wamkit.contract.values import number
from wamkit.design.commands import Command, CommandConfig, Facts
from wamkit.design.templates import PARTS, Template, check_fields, fields_of
from wamkit.encoders.pixel_points import PixelPoints
from wamkit.errors import ConfigError, did_you_mean

POINTS = ("this", "that")


def only(facts: Facts, known: Collection[str], place: str) -> None:
    """Raise :class:`ConfigError` when a fact is not one of ``known``."""
    for name in facts:
        if name not in known:
            raise ConfigError(f"{place}: no fact {name!r}. {did_you_mean(name, known)}")


@CommandConfig.register_subclass("words")
@dataclass(frozen=True)
class WordsConfig(CommandConfig):
    """Words that are recorded: the task, a labelled subtask, the part of the task that is under way.

    Attributes:
        template: command. ``{task}`` is the instruction, ``{part}`` the number of the task's next milestone, from 1,
            ``{parts}`` the number of its milestones, ``{NAME}`` the name of an extra's value (see ``names``).
        names: name of an extra with one whole number per frame -> the words for its values 0, 1, ...
    """

    extras: ClassVar[tuple[str, ...]] = ("{names}",)
    template: Word = "{task}"
    names: dict[str, Words] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self.template, ("task", *PARTS, *self.names), "command 'words': `template`")

    @override
    def build(self, name: str, data: DataSpec) -> SpokenWords:
        """Build; raises :class:`ConfigError` when an extra is missing or is not one number per frame."""
        return SpokenWords(self, Template(self.template, self.names, f"command {name!r}", data))


@final
class SpokenWords(Command):
    """The template, filled in."""

    def __init__(self, config: WordsConfig, template: Template) -> None:
        self.config, self.template, self.extras = config, template, template.extras

    @override
    def relabel(self, now: Observation, ahead: Observation | None) -> Sequence[str | None]:
        return self.template.of(now)

    @override
    def say(self, facts: Facts) -> str:
        used, place = fields_of(self.template.text, "template"), self.template.place
        only(facts, used, place)
        for name in used:
            words = self.config.names.get(name)
            if name not in facts:
                raise ConfigError(f"{place}: say {name!r}; the command is {self.template.text!r}.")
            if words is not None and facts[name] not in words:
                raise ConfigError(
                    f"{place}: {name} {facts[name]!r} is none of {', '.join(map(repr, words))}."
                )
        return self.template.text.format(**facts)


@dataclass(frozen=True)
class AxisConfig(Config):
    """Words for a change of one entry of the state.

    Attributes:
        less: words for a fall, such as ``move left`` or ``close the gripper``.
        more: words for a rise.
        unit: unit in words, ``cm``; empty to say that it changes and not by how much.
        scale: units per unit of the state, 100 for centimetres of metres.
        least: smallest change in these units that is told.
    """

    less: Word
    more: Word
    unit: str = ""
    scale: Positive = 1.0
    least: Positive = 0.5

    def words(self, change: float) -> str | None:
        """Words for a change in the units of the state; None where it is too small."""
        amount = abs(change) * self.scale
        if amount < self.least:
            return None
        verb = self.less if change < 0 else self.more
        return f"{verb} {round(amount)} {self.unit}" if self.unit else verb


@CommandConfig.register_subclass("motion")
@dataclass(frozen=True)
class MotionConfig(CommandConfig):
    """Motion in words, such as ``move left 5 cm, then close the gripper``, by a rule from the recorded state.

    Attributes:
        axes: entry of the state -> words for its change, in the order in which they are told.
        ticks: control ticks over which the change is taken, up to the end of the episode.
        between: what stands between two changes.
        still: command where nothing changes enough.
    """

    axes: dict[str, AxisConfig] = field(default_factory=dict)
    ticks: Size = 16
    between: Word = ", then "
    still: Word = "hold still"

    @override
    def build(self, name: str, data: DataSpec) -> MotionInWords:
        """Build; raises :class:`ConfigError` without axes, or when the state lacks an entry."""
        if not self.axes:
            raise ConfigError(
                f"command {name!r}: `axes` is empty. Name the entries of the state that are told."
            )
        for entry in self.axes:
            if entry not in data.observation.state:
                raise ConfigError(
                    f"command {name!r}: the state has no entry {entry!r}. {did_you_mean(entry, data.observation.state)}"
                )
        return MotionInWords(self, name, [data.observation.state.index(entry) for entry in self.axes])


@final
class MotionInWords(Command):
    """Changes of the state in words, in the order of the axes."""

    def __init__(self, config: MotionConfig, name: str, entries: list[int]) -> None:
        self.config, self.name, self.entries, self.ahead = config, name, entries, config.ticks

    @override
    def relabel(self, now: Observation, ahead: Observation | None) -> Sequence[str | None]:
        assert ahead is not None
        changes = (ahead.state[:, -1] - now.state[:, -1])[:, self.entries]
        return [self._told(dict(zip(self.config.axes, row, strict=True))) for row in changes.tolist()]

    @override
    def say(self, facts: Facts) -> str:
        only(facts, self.config.axes, f"command {self.name!r}")
        changes = {}
        for entry, change in facts.items():
            if not number(change):
                raise ConfigError(
                    f"command {self.name!r}: {entry} {change!r} must be a number, a change of the state."
                )
            changes[entry] = float(change)  # type: ignore[arg-type]
        return self._told(changes)

    def _told(self, changes: Mapping[str, float]) -> str:
        """Words for changes: entry of the state -> change in its units."""
        told = [axis.words(changes.get(entry, 0.0)) for entry, axis in self.config.axes.items()]
        return self.config.between.join(words for words in told if words) or self.config.still


@CommandConfig.register_subclass("point")
@dataclass(frozen=True)
class PointConfig(CommandConfig):
    """Places in a picture, such as ``reach (07, 12)``: columns and rows counted from its upper left corner.

    Attributes:
        template: command. ``{this}`` is the place of the body now or the first click, ``{that}`` its place at the
            goal or the second click.
        camera: camera in whose picture the places lie.
        source: ``poses`` takes them from ground truth, ``clicks`` from an extra.
        pose: extra whose first body is meant; it begins with x, y, z in metres.
        clicks: extra (2, 2) with x and y in pixels of both clicks; a negative entry is no click.
        bins: columns and rows that a picture is divided into.
    """

    extras: ClassVar[tuple[str, ...]] = (
        "camera.{camera} (`source` poses)",
        "{pose} (`source` poses)",
        "{clicks} (`source` clicks)",
    )
    template: Word = "reach {that}"
    camera: Word = "scene"
    source: Literal["poses", "clicks"] = "poses"
    pose: Word = "object_pose"
    clicks: Word = "gesture"
    bins: Annotated[int, Range(2, 16384)] = 64

    def __post_init__(self) -> None:
        check_fields(self.template, POINTS, "command 'point': `template`")

    @override
    def build(self, name: str, data: DataSpec) -> PlaceInPicture:
        """Build; raises :class:`ConfigError` when the camera or what the places are taken from is missing."""
        part = f"command {name!r}"
        if self.source == "poses":
            points = PixelPoints.of_poses(self.camera, self.pose, data, part)
        else:
            points = PixelPoints.of_clicks(self.camera, self.clicks, data, part)
        return PlaceInPicture(self, points)


@final
class PlaceInPicture(Command):
    """Places in words; a window whose place is unknown or outside of the picture has no command."""

    def __init__(self, config: PointConfig, points: PixelPoints) -> None:
        self.config, self.points = config, points
        self.extras, self.pixels = points.extras, points.pixels
        self.used = [POINTS.index(name) for name in fields_of(config.template, "template")]
        self.goal = points.goal and POINTS.index("that") in self.used

    @override
    def relabel(self, now: Observation, ahead: Observation | None) -> Sequence[str | None]:
        places, known = self.points.places(now)
        shown = (known & (self.points.share(places).abs() <= 1).all(dim=2))[:, self.used].all(dim=1)
        return [text if good else None for text, good in zip(self._told(places), shown.tolist(), strict=True)]

    @override
    def say(self, facts: Facts) -> str:
        only(facts, POINTS, self.points.part)
        size, places = self.points.size, torch.zeros(2, 2)
        for i in self.used:
            place = facts.get(POINTS[i])
            if not isinstance(place, tuple | list) or len(place) != 2 or not all(number(v) for v in place):
                raise ConfigError(f"{self.points.part}: {POINTS[i]} {place!r} must be x and y in pixels.")
            places[i] = torch.tensor(place)
            if bool((self.points.share(places[i]).abs() > 1).any()):
                raise ConfigError(
                    f"{self.points.part}: {POINTS[i]} {tuple(place)} lies outside of the picture of camera "
                    f"{self.config.camera!r}, {size.width} x {size.height} pixels."
                )
        return self._told(places[None])[0]

    def _told(self, places: Tensor) -> list[str]:
        """Words for places (B, 2, 2) in pixels."""
        bins = self.config.bins
        cells = ((self.points.share(places) + 1) / 2 * bins).long().clamp(0, bins - 1).tolist()
        digits = len(str(bins - 1))
        said = [[f"({x:0{digits}}, {y:0{digits}})" for x, y in row] for row in cells]
        return [self.config.template.format(**dict(zip(POINTS, row, strict=True))) for row in said]
