"""For training: what every observed stream of a design should be at a batch of windows."""

from __future__ import annotations

from collections.abc import Mapping

from wamkit.compose import DesignConfig
from wamkit.contract.protocols import ActionRepresentation, Substrate
from wamkit.contract.streams import StreamSpec, Target
from wamkit.contract.types import Batch, Observation, WindowSpec


def read_targets(
    batch: Batch,
    config: DesignConfig,
    streams: Mapping[str, StreamSpec],
    substrates: Mapping[str, Substrate],
    action: ActionRepresentation,
    window: WindowSpec,
) -> dict[str, Target]:
    """Targets of the action, future and goal streams; no data shows a state.

    Args:
        batch: windows cut by ``window``.
        config: the design.
        streams: stream name -> its shape.
        substrates: future or goal stream -> its substrate.
        action: representation of the action stream.
        window: the design's training window.

    Returns:
        stream name -> what it should be, and where it lies outside the episode.
    """
    found = {}
    for name, spec in streams.items():
        if spec.role == "action":
            values = action.encode(batch.action[:, batch.past :])
            pad = batch.action_pad[:, batch.past :].unflatten(1, (spec.steps, -1)).any(dim=2)
            found[name] = Target(values, pad)
        elif spec.role in ("future", "goal"):
            source = read_source(batch, config, window, name)
            now = batch.observation.steps([-1])
            found[name] = Target(substrates[name].encode(source, now), source.pad)
    return found


def read_source(batch: Batch, config: DesignConfig, window: WindowSpec, stream: str) -> Observation:
    """The observations that a future or goal stream is read from."""
    if stream in config.goals:
        assert batch.goal is not None
        return batch.goal
    future = config.futures[stream]
    if future.milestones:
        assert batch.milestones is not None
        return batch.milestones.steps(slice(future.milestones))
    assert batch.future is not None
    return batch.future.steps([window.future.index(offset) for offset in future.offsets])
