"""Augmentation of a run: the list of its config checked against the design, and applied to every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wamkit.augmentations import augment
from wamkit.contract.augmenting import AugmentConfig, Scope
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Batch
from wamkit.design import Design
from wamkit.training.config import TrainConfig


def check_augment(operations: Sequence[AugmentConfig], design: Design) -> None:
    """Raise :class:`ConfigError` when an augmentation does not fit the data or what the design reads."""
    readers: dict[str, str] = {}
    pixels: dict[str, str] = {}
    for name, encoder in design.encoders.items():
        readers |= dict.fromkeys(encoder.extras, f"encoder {name!r}")
        pixels |= dict.fromkeys(encoder.pixels, f"encoder {name!r}")
    for name, substrate in design.substrates.items():
        readers |= dict.fromkeys(substrate.extras, f"substrate {name!r}")
    for name, command in design.commands.levels.items():
        readers |= dict.fromkeys(command.extras, f"command {name!r}")
        pixels |= dict.fromkeys(command.pixels, f"command {name!r}")
    extras = {name: readers.get(name, f"design {design.name!r}") for name in design.extras}
    scope = Scope(design.data, extras, pixels, bool(design.texts))
    for operation in operations:
        operation.check(scope)


def augmenting(config: TrainConfig, data: DataSpec) -> Callable[[Batch, int], Batch] | None:
    """Change of the batch at a step, none before ``augment_from``; None without augmentations."""
    if not config.operations:
        return None
    first = round(config.augment_from * config.steps)

    def change(batch: Batch, step: int) -> Batch:
        return augment(batch, config.operations, data, config.seed, step) if step >= first else batch

    return change
