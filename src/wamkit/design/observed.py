"""Observations -> values of a design's streams: targets in training, comparisons for controllers when acting."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wamkit.contract.calls import ByColumn
from wamkit.contract.checks import Reads
from wamkit.contract.protocols import Substrate
from wamkit.contract.specs import DERIVED
from wamkit.contract.streams import StreamSpec, Target
from wamkit.contract.types import Batch, Forecast, Observation, Perceived, WindowSpec, to_device
from wamkit.design.action_streams import ActionStreams, known_ticks
from wamkit.design.config import DesignConfig
from wamkit.design.graph import FactorGraph
from wamkit.design.texts import Text
from wamkit.errors import ConfigError, SpecError, did_you_mean


def read_targets(
    batch: Batch,
    config: DesignConfig,
    streams: Mapping[str, StreamSpec],
    substrates: Mapping[str, Substrate],
    actions: ActionStreams,
    window: WindowSpec,
    texts: Mapping[str, Text],
) -> dict[str, Target]:
    """Targets of the action, future, goal and text streams; state streams do not occur in the data.

    Args:
        batch: windows cut by ``window``.
        config: config of the design.
        streams: stream name -> its spec.
        substrates: future or goal stream -> its substrate.
        actions: representations of the action streams.
        window: training window of the design.
        texts: text stream -> its words and tokens.

    Returns:
        Stream name -> true values and padding mask.
    """
    targets = {}
    held, padded, absent = known_ticks(batch)
    for name, spec in streams.items():
        if spec.role == "action":
            pad = padded.unflatten(1, (spec.steps, -1)).any(dim=2)
            columns = batch.observation.action_columns
            targets[name] = Target(actions.encode_one(name, held, columns), pad, absent)
        elif spec.role in ("future", "goal"):
            source = read_source(batch, config, window, name)
            now = batch.observation.steps([-1])
            targets[name] = Target(substrates[name].encode(source, now), source.pad)
        elif spec.role == "text":
            targets[name] = texts[name].target(batch.observation)
    return targets


def real_features(
    seen: Observation,
    streams: Mapping[str, StreamSpec],
    substrates: Mapping[str, Substrate],
    actions: ActionStreams,
) -> dict[str, Tensor]:
    """Features that the robots of an observation have, of the streams that pad some of them.

    Returns:
        Values of :attr:`wamkit.contract.calls.Call.real`.
    """
    found = {name: real for name, real in actions.real(seen.action_columns).items() if name in streams}
    for name, substrate in substrates.items():
        if seen.state_columns is not None and isinstance(substrate, ByColumn):
            spec = streams[name]
            found[name] = substrate.real(seen.state_columns).expand(-1, spec.steps, *spec.step)
    return found


def read_source(batch: Batch, config: DesignConfig, window: WindowSpec, stream: str) -> Observation:
    """Observations that the target of a future or goal stream is made of."""
    if stream in config.goals:
        assert batch.goal is not None
        return batch.goal
    future = config.futures[stream]
    if future.milestones:
        assert batch.milestones is not None
        return batch.milestones.steps(slice(future.milestones))
    assert batch.future is not None
    return batch.future.steps([window.future.index(offset) for offset in future.offsets])


def check_compared(config: DesignConfig, stream: str) -> None:
    """Raise :class:`ConfigError` unless ``stream`` is a future at fixed times, which a controller can compare."""
    if stream not in config.futures:
        raise ConfigError(
            f"design {config.name!r} has no future stream {stream!r} for a controller to compare with "
            f"observations. {did_you_mean(stream, config.futures)}"
        )
    if config.futures[stream].milestones:
        raise ConfigError(
            f"future {stream!r}: milestones have no fixed time, so a controller cannot compare them with the "
            f"observation at one. Compare a stream with offsets."
        )


def encode_aims(
    observation: Observation, substrates: Mapping[str, Substrate], name: str
) -> dict[str, Tensor]:
    """Encode the caller's goal observation as values of streams: stream -> (B, 1, N, D) or ids (B, 1, N).

    Args:
        observation: observation that carries the goal.
        substrates: stream -> its substrate.
        name: name of the design, for the error.

    Raises:
        SpecError: the observation has no goal.
    """
    if not substrates:
        return {}
    if observation.goal is None:
        raise SpecError(
            f"design {name!r}: observation.goal is missing: an objective compares {', '.join(sorted(substrates))} with "
            f"it. Set `goal` of the observation, or evaluate with goals."
        )
    goal, now = observation.goal, observation.steps([-1])
    return {stream: substrate.encode(goal, now) for stream, substrate in substrates.items()}


def perceived(
    config: DesignConfig, substrates: Mapping[str, Substrate], stream: str, device: torch.device, reads: Reads
) -> Perceived:
    """Encoder of observations into ``stream``, by the design's own substrate.

    Args:
        config: config of the design.
        substrates: future stream -> its substrate.
        stream: name of the future stream.
        device: device of the substrate.
        reads: comparison of observations with the specs of the design's data.

    Raises:
        ConfigError: no such future stream, a stream of milestones, or values made of what only a finished recording
            tells.
    """
    check_compared(config, stream)
    substrate = substrates[stream]
    unknown = [name for name in substrate.extras if name in DERIVED]
    if unknown:
        raise ConfigError(
            f"future {stream!r}: its values are made of {', '.join(unknown)}, which a recording has and a running "
            f"episode has not, so a controller cannot compare them with observations. Compare another stream."
        )

    def checked(observation: Observation, now: Observation) -> tuple[Observation, Observation]:
        reads.observation(observation, 1, extras=substrate.extras)
        reads.observation(now, 1, extras=substrate.extras, place="observation at the call")
        return to_device(observation, device), to_device(now, device)

    @torch.inference_mode()
    def encode(observation: Observation, now: Observation) -> Tensor:
        return substrate.encode(*checked(observation, now))[:, 0]

    @torch.inference_mode()
    def rebase(values: Tensor, observation: Observation, now: Observation) -> Tensor:
        return substrate.rebase(to_device(values, device), *checked(observation, now))

    offsets = config.futures[stream].offsets
    return Perceived(stream, offsets, encode, substrate.extras, rebase if substrate.rebases else None)


def check_followed(graph: FactorGraph, stream: str, substrate: Substrate) -> None:
    """Raise :class:`ConfigError` unless ``stream`` is a future that can be generated once and acted on for many ticks.

    Actions must be generated from it, in a later factor. Values that are relative to the call must be rebased.
    """
    if stream in graph.known or stream not in graph.ancestors(graph.acting()):
        raise ConfigError(
            f"{graph.formula()} generates no action from the future {stream!r}, so a controller cannot supply it. Add "
            f"a factor that generates it, and name it in `given` of the action's factor."
        )
    if substrate.relative and not substrate.rebases:
        raise ConfigError(
            f"future {stream!r}: its values ({substrate.label()}) are relative to the call that predicts them and "
            f"cannot be expressed as seen from a later tick, so a controller cannot follow them. Follow another stream."
        )


def check_given(graph: FactorGraph, stream: str, followed: Mapping[str, Substrate] | None = None) -> None:
    """Raise :class:`ConfigError` unless ``stream`` is a goal or a state that actions are generated from.

    A goal may also be what a planner chooses actions by. With ``followed``, future -> its substrate, the stream is a
    future that the controller compares, see :func:`check_followed`.
    """
    if followed is not None:
        check_followed(graph, stream, followed[stream])
        return
    goals = graph.of_role("goal") | graph.of_role("state")
    if stream not in goals:
        raise ConfigError(
            f"{graph.formula()} has no goal or state stream {stream!r} for a controller to supply. "
            f"{did_you_mean(stream, goals)}"
        )
    if stream in graph.known:
        raise ConfigError(
            f"goal stream {stream!r} is given in {graph.formula()}, so there is no generator that a controller could "
            f"call for it. Add a factor that generates it, and remove it from `given`."
        )
    chosen_by = () if graph.objective is None else graph.objective.reads
    if stream not in graph.ancestors({*graph.acting(), *chosen_by}) | {*chosen_by}:
        raise ConfigError(f"no action of {graph.formula()} is generated from the stream {stream!r}.")


def decoded(
    config: DesignConfig, substrates: Mapping[str, Substrate], forecast: Forecast
) -> dict[str, Tensor] | None:
    """Frames of the first future of a forecast that can be decoded, camera -> (B, F, 3, h, w); None without one."""
    for name, future in config.futures.items():
        if name in forecast.future and future.offsets and substrates[name].decodable:
            return substrates[name].decode(forecast.future[name])
    return None
