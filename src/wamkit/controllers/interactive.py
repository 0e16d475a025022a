"""Interactive deployment: no fixed end, and new instructions at any tick."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from typing_extensions import override

from wamkit.config.ranges import Size, Whole, Word
from wamkit.controllers.base import Controller, ControllerState, Seen
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@Controller.register_subclass("interactive")
@dataclass(frozen=True)
class Interactive(Early):
    """Run without a fixed end and replan at once when a new instruction arrives (survey eq. 36).

    A new instruction keeps the design's carried state (its cache or latent) and drops only the rest of the chunk.
    The growth of a call's cost with time is a property of the design's memory M(t), not of the controller.

    Attributes:
        execute: K, ticks between two calls when no instruction arrives.
        inputs: scripted user, a mapping tick -> instruction. A live user calls :meth:`say`.
    """

    execute: Size = 1
    inputs: dict[Whole, Word] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for tick, words in self.inputs.items():
            if tick < 0 or not words:
                raise ConfigError(
                    f"Interactive: `inputs` has {words!r} at tick {tick}; it needs a non-empty instruction at a tick "
                    f"of 0 or later."
                )

    @override
    def regime(self, predicted: int) -> str:
        return "Interactive"

    @override
    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        return self.say(state, self.inputs[state.tick]) if state.tick in self.inputs else state

    def say(self, state: ControllerState, words: str) -> ControllerState:
        """Return the state with the instruction ``words``; the model is then called before the next action."""
        return dataclasses.replace(state, words=words, due=True).count("inputs")
