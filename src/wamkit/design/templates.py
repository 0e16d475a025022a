"""Templates: words about a frame, made of what a dataset knows about it."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

from wamkit.contract.data import DataSpec
from wamkit.contract.specs import MILESTONES
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, DataError, did_you_mean

PARTS = ("part", "parts")


def fields_of(template: str, place: str) -> list[str]:
    """Names of the fields of a template, each once; raises :class:`ConfigError` when it is malformed."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ConfigError(f"{place} {template!r}: {error}. Write a brace as two.") from error
    return list(dict.fromkeys(names))


def check_fields(template: str, known: Sequence[str], place: str) -> None:
    """Raise :class:`ConfigError` when a template has a field that is not ``known``."""
    for name in fields_of(template, place):
        if name not in known:
            raise ConfigError(f"{place} has the field {name!r}. {did_you_mean(name, known)}")


class Template:
    """Words about a frame: ``{task}``, ``{part}`` and ``{parts}`` of its milestones, ``{NAME}`` of a named extra.

    Args:
        text: template.
        names: name of an extra with one whole number per frame -> the words for its values 0, 1, ...
        place: whose template it is, for messages, such as ``text 'subtask'``.
        data: data that it is built for.

    Attributes:
        extras: extras of an observation that it is made of.

    Raises:
        ConfigError: an extra is missing or is not one number per frame.
    """

    def __init__(self, text: str, names: Mapping[str, Sequence[str]], place: str, data: DataSpec) -> None:
        self.text, self.names, self.place = text, names, place
        used = fields_of(text, f"{place}: `template`")
        self.extras: tuple[str, ...] = tuple(extra for extra in names if extra in used)
        for extra in self.extras:
            if data.extra(extra, place) not in ((), (1,)):
                raise ConfigError(
                    f"{place}: extra {extra!r} has the shape {data.extras[extra]} per frame; words are named by one "
                    f"whole number."
                )
        if set(PARTS) & set(used):
            data.extra(MILESTONES, place)
            self.extras = (*self.extras, MILESTONES)

    def of(self, observation: Observation) -> list[str]:
        """Words about each of the B rows at the last step of ``observation``."""
        facts: dict[str, list[object]] = {"task": list(observation.task)}
        for extra in self.extras:
            values = observation.extras[extra][:, -1].reshape(observation.batch_size, -1).tolist()
            if extra == MILESTONES:
                facts |= {name: [int(row[i]) for row in values] for i, name in enumerate(PARTS)}
            else:
                facts[extra] = [self._named(extra, row[0]) for row in values]
        return [
            self.text.format(**{name: entries[i] for name, entries in facts.items()})
            for i in range(observation.batch_size)
        ]

    def _named(self, extra: str, value: float) -> str:
        """Words for a value of an extra; raises :class:`DataError` when it has none."""
        words = self.names[extra]
        if value != int(value) or not 0 <= value < len(words):
            raise DataError(
                f"{self.place}: extra {extra!r} is {value:g} in a frame, and `names` has words for 0 to "
                f"{len(words) - 1}. Name it."
            )
        return words[int(value)]
