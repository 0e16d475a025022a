"""Commands at several levels, written from recordings: what a robot was told, in other words (`st.command-levels`).

Every command is a text in place of the instruction, so that whoever writes text, such as a vision-language model, can
direct the policy at the level that it chooses (Steerable VLA Policies, arXiv 2602.13193; π0.7, arXiv 2604.15483).
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import draccus
import torch

from wamkit.config.ranges import NonNegative
from wamkit.config.values import Config
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.errors import ConfigError, did_you_mean

Facts = Mapping[str, object]


class Command(abc.ABC):
    """Writer of the commands of one level.

    Attributes:
        extras: extras of an observation that it reads; needed in training only.
        pixels: those of ``extras`` that hold coordinates of pixels -> camera in whose picture they lie.
        goal: true when it reads the goal observation.
        ahead: ticks after "now" at which it reads an observation; 0 for none.
    """

    extras: tuple[str, ...] = ()
    pixels: Mapping[str, str] = MappingProxyType({})
    goal: bool = False
    ahead: int = 0

    @abc.abstractmethod
    def relabel(self, now: Observation, ahead: Observation | None) -> Sequence[str | None]:
        """Write a command for each of B recorded windows; None where the window shows none.

        Args:
            now: observation (B, T) whose last step is "now", with its goal where :attr:`goal`.
            ahead: observation (B, 1) that many ticks :attr:`ahead`, or the last one of the episode.
        """

    @abc.abstractmethod
    def say(self, facts: Facts) -> str:
        """Write a command from facts of its own level; raises :class:`ConfigError` for those that it cannot say."""


@dataclass(frozen=True)
class CommandConfig(Config, draccus.ChoiceRegistry):
    """Base of the configs of all levels of commands.

    Attributes:
        share: weight with which a training window is told at this level; the weights of all levels are normalised.
    """

    share: NonNegative = 1.0

    def build(self, name: str, data: DataSpec) -> Command:
        """Build the level ``name``; raises :class:`ConfigError` when the data cannot show what it tells."""
        raise NotImplementedError


class Commands:
    """Levels of commands of a design.

    Args:
        configs: name -> config of a level, none for a design that is told its task alone.
        data: data that the design is built for.

    Attributes:
        levels: name -> writer.
        extras: extras that they read in training.
        goal: true when one of them reads the goal.
        ahead: ticks after "now" at which they read observations, ascending.

    Raises:
        ConfigError: the data cannot show what a level tells, or no level has a share.
    """

    def __init__(self, configs: Mapping[str, CommandConfig], data: DataSpec) -> None:
        self.shares = torch.tensor([config.share for config in configs.values()])
        if configs and not bool(self.shares.sum() > 0):
            raise ConfigError("commands: no level has a share above 0. Give one, or leave `commands` empty.")
        self.levels: Mapping[str, Command] = {name: c.build(name, data) for name, c in configs.items()}
        parts = self.levels.values()
        self.extras = tuple(sorted({extra for part in parts for extra in part.extras}))
        self.goal = any(part.goal for part in parts)
        self.ahead = tuple(sorted({part.ahead for part in parts if part.ahead}))

    def written(self, batch: Batch, window: WindowSpec) -> dict[str, Sequence[str | None]]:
        """Commands of all levels for B windows that were cut with ``window``: level -> texts, None for none."""
        now = batch.observation.steps([-1])
        now = Observation(now.images, now.state, now.task, now.pad, now.extras, goal=batch.goal)
        texts: dict[str, Sequence[str | None]] = {}
        for name, level in self.levels.items():
            ahead = None
            if level.ahead:
                assert batch.future is not None
                ahead = batch.future.steps([window.future.index(level.ahead)])
            texts[name] = level.relabel(now, ahead)
        return texts

    def drawn(self, batch: Batch, window: WindowSpec) -> tuple[str, ...]:
        """Command of each of B windows, at a level that is drawn by the shares among those that it shows.

        A window that shows no level with a share keeps its instruction, as every window does without levels.
        """
        tasks = batch.observation.task
        if not self.levels:
            return tasks
        choices = list(zip(*self.written(batch, window).values(), tasks, strict=True))
        weights = torch.tensor([[text is not None for text in row[:-1]] for row in choices]) * self.shares
        none = (weights.sum(dim=1, keepdim=True) == 0).float()
        level = torch.multinomial(torch.cat((weights, none), dim=1), 1)[:, 0].tolist()
        return tuple(str(row[i]) for row, i in zip(choices, level, strict=True))

    def say(self, level: str, **facts: object) -> str:
        """Write a command of a level from facts, as training wrote it from recordings.

        The command is told as the ``task`` of an observation, from any call on.

        Raises:
            ConfigError: an unknown level, or facts that it cannot say.
        """
        if level not in self.levels:
            raise ConfigError(f"commands: no level {level!r}. {did_you_mean(level, self.levels)}")
        return self.levels[level].say(facts)
