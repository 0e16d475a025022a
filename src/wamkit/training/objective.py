"""Objectives of training: the loss that is minimised, and the updates after a step of the optimiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

from typing_extensions import override

from wamkit.contract.types import Batch, Losses
from wamkit.design import Design
from wamkit.training.selection import Selection


class Objective(ABC):
    """The loss that a training run minimises."""

    @abstractmethod
    def loss(self, design: Design, batch: Batch, weights: Mapping[str, float]) -> Losses:
        """Losses on one batch.

        Args:
            design: design in training.
            batch: windows of demonstrations on the design's device.
            weights: stream name -> weight of its loss, 1 for streams without an entry.
        """

    def after_step(self, design: Design) -> None:  # noqa: B027 (most objectives move nothing)
        """Update what follows the weights without a gradient."""


@final
class Demonstrations(Objective):
    """The design's own losses on demonstrations.

    Args:
        selection: parts that learn; moving averages outside it stand still.
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection

    @override
    def loss(self, design: Design, batch: Batch, weights: Mapping[str, float]) -> Losses:
        return design.loss(batch, weights)

    @override
    def after_step(self, design: Design) -> None:
        self.selection.after_step(design)
