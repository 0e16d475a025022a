"""Selection of the parameters that learn, by name. Everything else stays as it is, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import final

from wamkit.design import Design
from wamkit.errors import ConfigError, nearest


def select(names: Iterable[str], patterns: Sequence[str], place: str) -> frozenset[str]:
    """Names that match one of the patterns.

    Args:
        names: dotted names of tensors, such as ``encoders.images.stems.scene.layers.0.weight``.
        patterns: names, or beginnings of names up to a dot, such as ``encoders.images``; ``*`` matches anything.
        place: option that the patterns come from, for the message.

    Raises:
        ConfigError: a pattern matches nothing.
    """
    names = list(names)
    selected: set[str] = set()
    for pattern in patterns:
        whole = pattern.rstrip(".")
        matches = {name for name in names if fnmatchcase(name, whole) or fnmatchcase(name, f"{whole}.*")}
        if not matches:
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            hint = nearest(whole, [*parts, *names])
            raise ConfigError(
                f"{place}: {pattern!r} names nothing. {hint}{' ' if hint else ''}There are: "
                f"{', '.join(parts) or 'none'}."
            )
        selected |= matches
    return frozenset(selected)


def parts_of(design: Design, names: Iterable[str]) -> frozenset[str]:
    """Labels of the parts (:meth:`Design.parts`) that the tensors ``names`` belong to."""
    names = list(names)
    return frozenset(label for label in design.parts() if any(name.startswith(f"{label}.") for name in names))


@final
class Selection:
    """Parts of a design that learn. The rest is frozen: its parameters, and everything that moves during training.

    Args:
        design: its parameters outside the selection stop requiring gradients. Parameters that a part froze itself
            stay frozen even when they are named.
        only: patterns of :func:`select`; empty for the whole design.

    Raises:
        ConfigError: a pattern matches nothing, or nothing that is named can learn.
    """

    def __init__(self, design: Design, only: Sequence[str] = ()) -> None:
        self.whole = not only
        names = [name for name, _ in design.named_parameters()]
        selected = frozenset(names) if self.whole else select(names, only, "optim.only")
        self.labels = parts_of(design, selected)
        for name, parameter in design.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name in selected)
        if not any(parameter.requires_grad for parameter in design.parameters()):
            raise ConfigError(
                f"optim.only: {', '.join(map(repr, only))} names only what its part keeps frozen. Name something that "
                f"can learn."
            )

    def train_mode(self, design: Design) -> None:
        """Set training mode; unselected parts run as when acting: no augmentation, no update of statistics."""
        design.train()
        if self.whole:
            return
        # Trunks come last: estimators hold them too, but a trunk's own label decides.
        for label, part in sorted(design.parts().items(), key=lambda entry: entry[0].startswith("trunks.")):
            part.train(label in self.labels)

    def after_step(self, design: Design) -> None:
        """Update the selected moving averages."""
        design.after_step(None if self.whole else self.labels)
