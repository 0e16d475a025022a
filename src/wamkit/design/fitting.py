"""Before training: what parts learn from the dataset by themselves, and keep."""

from __future__ import annotations

from collections.abc import Container

from torch import nn

from wamkit.contract.protocols import ActionRepresentation, DataSpec, Encoder, Substrate, Windows


def fit_parts(
    encoders: nn.ModuleDict,
    action: ActionRepresentation,
    substrates: nn.ModuleDict,
    data: DataSpec,
    windows: Windows,
    seed: int,
    parts: Container[str] | None,
) -> None:
    """Fit encoders, the tokenizer, codecs and teachers.

    Encoders come first, and substrates meet them again: one that follows an encoder follows the fitted one.

    Args:
        encoders, action, substrates: a design's parts.
        data: what it was built for.
        windows: the dataset.
        seed: of whatever is drawn.
        parts: which of them, such as ``encoders.images`` or ``action``; None for all.
    """
    known = {name: part for name, part in encoders.items() if isinstance(part, Encoder)}
    for name in sorted(known):
        if parts is None or f"encoders.{name}" in parts:
            known[name].fit(windows, seed)
    if parts is None or "action" in parts:
        action.fit(windows, seed)
    for name in sorted(substrates):
        substrate = substrates[name]
        assert isinstance(substrate, Substrate)
        if parts is None or f"substrates.{name}" in parts:
            substrate.bind(known, data)
            substrate.fit(windows, seed)
