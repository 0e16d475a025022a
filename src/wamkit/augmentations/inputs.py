"""Augmentations of inputs other than pixels: noise on the state, dropped cameras, other or no words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from typing_extensions import override

from wamkit.config.ranges import NonNegative, Probability, SomeWords, Word, Words
from wamkit.contract.augmenting import AugmentConfig, Draws, Scope, WindowAugment
from wamkit.contract.data import DataSpec
from wamkit.contract.rows import views_of, with_views
from wamkit.contract.types import Batch
from wamkit.errors import ConfigError

STATE = "observation.state"


@final
@AugmentConfig.register_subclass("state_noise")
@dataclass(frozen=True)
class StateNoise(WindowAugment):
    """Gaussian offset on every entry of the state, one per window, as a sensor that is calibrated wrongly.

    Attributes:
        std: standard deviation, as a share of the entry's own over the dataset.
    """

    std: NonNegative = 0.02

    @override
    def apply(self, batch: Batch, draws: Draws, data: DataSpec) -> Batch:
        width = batch.observation.state.shape[2]
        if not width:
            return batch
        spread = torch.as_tensor(data.stats[STATE]["std"], dtype=torch.float32)
        offset = (self.std * spread * draws.normal("offset", width))[:, None]
        return with_views(
            batch, {name: replace(v, state=v.state + offset) for name, v in views_of(batch).items()}
        )


@final
@AugmentConfig.register_subclass("drop_camera")
@dataclass(frozen=True)
class DropCamera(WindowAugment):
    """Cameras flagged as missing in all observed steps of a window (``Observation.missing``), never all of them.

    The pictures stay in their buffers, because targets are made of them; encoders do not read what is flagged.

    Attributes:
        probability: probability that a camera is missing. Where all would be, a random one stays.
        cameras: names of the cameras that may be missing; empty for all.
    """

    probability: Probability = 0.1
    cameras: Words = ()

    @override
    def check(self, scope: Scope) -> None:
        """Check the cameras; raises :class:`ConfigError` for an unknown one, or where there is only one."""
        known = scope.data.observation.cameras
        for name in self.cameras:
            scope.data.camera(name, "augment 'drop_camera'")
        if len(known) < 2:
            raise ConfigError(
                f"augment 'drop_camera': the dataset has {len(known)} cameras, and one must stay. Remove it."
            )

    @override
    def apply(self, batch: Batch, draws: Draws, data: DataSpec) -> Batch:
        seen = batch.observation
        names = sorted(seen.images)
        chances = torch.stack([draws.uniform(name, 0.0, 1.0) for name in names], dim=1)  # (B, cameras)
        allowed = torch.tensor([name in (self.cameras or names) for name in names])
        gone = (chances < self.probability) & allowed
        stays = torch.nn.functional.one_hot(chances.argmax(dim=1), len(names)).bool()
        gone &= ~(gone.all(dim=1, keepdim=True) & stays)
        missing = {
            name: seen.missing.get(name, torch.zeros_like(seen.pad)) | gone[:, i, None]
            for i, name in enumerate(names)
            if bool(gone[:, i].any())
        }
        return replace(batch, observation=replace(seen, missing={**seen.missing, **missing}))


@dataclass(frozen=True)
class WordsAugment(WindowAugment):
    """Augmentation of the instruction.

    Attributes:
        probability: probability that the instruction of a window changes.
    """

    probability: Probability = 0.5

    @override
    def check(self, scope: Scope) -> None:
        """Check; raises :class:`ConfigError` for a design that learns to write, from what it is told."""
        if scope.texts:
            raise ConfigError(
                f"augment {self.get_choice_name(type(self))!r}: the design learns to write texts (`design.texts`), "
                f"whose targets are made of the instruction. Remove this augmentation or the texts."
            )

    @abstractmethod
    def words(self, task: str, place: float) -> str:
        """Other words for an instruction; ``place`` in [0, 1) chooses among several."""

    @override
    def apply(self, batch: Batch, draws: Draws, data: DataSpec) -> Batch:
        chosen = draws.chance("chosen", self.probability).tolist()
        places = draws.uniform("place", 0.0, 1.0).tolist()

        def told(tasks: Sequence[str]) -> tuple[str, ...]:
            rows = zip(tasks, chosen, places, strict=True)
            return tuple(self.words(task, place) if other else task for task, other, place in rows)

        return with_views(batch, {n: replace(v, task=told(v.task)) for n, v in views_of(batch).items()})


@final
@AugmentConfig.register_subclass("paraphrase")
@dataclass(frozen=True)
class Paraphrase(WordsAugment):
    """Declared paraphrases in place of the instruction, each equally often; an instruction without any stays.

    Attributes:
        phrases: instruction -> its paraphrases.
    """

    phrases: dict[Word, SomeWords] = field(default_factory=dict)

    @override
    def check(self, scope: Scope) -> None:
        """Check; raises :class:`ConfigError` without any paraphrase."""
        super().check(scope)
        if not self.phrases:
            raise ConfigError(
                "augment 'paraphrase': no paraphrase is declared. Fill `phrases`: {instruction: [paraphrase, ...]}."
            )

    @override
    def words(self, task: str, place: float) -> str:
        phrases = self.phrases.get(task, (task,))
        return phrases[int(place * len(phrases))]


@final
@AugmentConfig.register_subclass("drop_instruction")
@dataclass(frozen=True)
class DropInstruction(WordsAugment):
    """No instruction, or a fixed text in its place.

    Attributes:
        text: what the design is told instead.
    """

    text: str = ""

    @override
    def words(self, task: str, place: float) -> str:
        return self.text
