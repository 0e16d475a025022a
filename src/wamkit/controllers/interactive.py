"""Interactive deployment: no fixed end, words may come at any tick."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from wamkit.controllers.base import Controller, ControllerState, Seen
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@Controller.register_subclass("interactive")
@dataclass(frozen=True)
class Interactive(Early):
    """No fixed end; new words may come at any tick and change the continuation at once (survey eq. 36).

    The state persists: new words keep the design's carried state (its cache or latent) and only drop the rest of
    the chunk. How a call's price grows with time is the design's memory M(t), not the controller's.

    Attributes:
        execute: K, ticks between two calls when nobody speaks.
        inputs: tick -> words, a scripted user. A live one calls :meth:`say`.
    """

    execute: int = 1
    inputs: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for tick, words in self.inputs.items():
            if tick < 0 or not words:
                raise ConfigError(
                    f"Interactive: `inputs` has {words!r} at tick {tick}; needs words from tick 0 on."
                )

    @property
    def regular(self) -> bool:
        """False: words call early."""
        return False

    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """See :meth:`Controller.watch`."""
        return self.say(state, self.inputs[state.tick]) if state.tick in self.inputs else state

    def say(self, state: ControllerState, words: str) -> ControllerState:
        """The state after somebody said ``words``: the model is called before the next action."""
        return dataclasses.replace(state, words=words, due=True).count("inputs")
