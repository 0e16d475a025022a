"""Which parameters of a design learn, by name: what is not named stays as it is, bit for bit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import final

from torch import nn

from wamkit.contract.protocols import Substrate
from wamkit.design import Design
from wamkit.errors import ConfigError


def select(names: Iterable[str], patterns: Sequence[str], place: str) -> frozenset[str]:
    """The names that patterns name.

    Args:
        names: dotted names of tensors, such as ``encoders.images.stems.scene.layers.0.weight``.
        patterns: each a name, or its beginning up to a dot, such as ``encoders.images``; ``*`` stands for anything.
        place: which option the patterns come from, for the message.

    Raises:
        ConfigError: a pattern names nothing.
    """
    known = list(names)
    chosen: set[str] = set()
    for pattern in patterns:
        whole = pattern.rstrip(".")
        found = {name for name in known if fnmatchcase(name, whole) or fnmatchcase(name, f"{whole}.*")}
        if not found:
            parts = sorted({".".join(name.split(".")[:2]) for name in known})
            close = difflib.get_close_matches(whole, [*parts, *known], n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise ConfigError(
                f"{place}: {pattern!r} names nothing. {hint}There are: {', '.join(parts) or 'none'}."
            )
        chosen |= found
    return frozenset(chosen)


@final
class Selection:
    """What of a design learns. The rest is frozen: its parameters, and whatever moves while a design trains.

    Args:
        design: its parameters outside the selection stop asking for gradients. Those that a part has frozen itself
            stay frozen when they are named.
        only: patterns of :func:`select`; empty for the whole design.

    Raises:
        ConfigError: a pattern names nothing, or nothing that is named can learn.
    """

    def __init__(self, design: Design, only: Sequence[str] = ()) -> None:
        self.whole = not only
        names = [name for name, _ in design.named_parameters()]
        self.names = frozenset(names) if self.whole else select(names, only, "optim.only")
        for name, parameter in design.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name in self.names)
        if not any(parameter.requires_grad for parameter in design.parameters()):
            raise ConfigError(
                f"optim.only: {', '.join(map(repr, only))} names only what its part keeps frozen. Name something that "
                f"can learn."
            )

    def holds(self, part: str) -> bool:
        """Whether anything of a part, such as ``encoders.images``, is named."""
        return self.whole or any(name.startswith(f"{part}.") for name in self.names)

    def train_mode(self, design: Design) -> None:
        """A part of which nothing is named runs as when acting: not augmented, and no statistic of it moves."""
        design.train()
        if self.whole:
            return
        design.action.train(self.holds("action"))
        # Trunks come last: estimators hold them too, and it is their own names that decide.
        for room in ("encoders", "substrates", "context", "estimators", "trunks"):
            parts = getattr(design, room)
            assert isinstance(parts, nn.ModuleDict)
            for name, part in parts.items():
                part.train(self.holds(f"{room}.{name}"))

    def after_step(self, design: Design) -> None:
        """Moving averages follow their encoders, where they are named."""
        if self.whole:
            design.after_step()
            return
        for name, substrate in design.substrates.items():
            assert isinstance(substrate, Substrate)
            if self.holds(f"substrates.{name}"):
                substrate.after_step(design.encoders)  # type: ignore[arg-type]
