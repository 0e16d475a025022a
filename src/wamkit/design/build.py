"""Build a config into parts and check them against each other before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from wamkit.contract.protocols import (
    ActionRepresentation,
    DataSpec,
    Encoder,
    Estimator,
    EstimatorConfig,
    Planner,
    Substrate,
    Trunk,
)
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import WindowSpec
from wamkit.design.config import DesignConfig
from wamkit.design.graph import EstimatorFacts, FactorGraph
from wamkit.design.sampling import PLANNER_CARRY
from wamkit.design.texts import Text, build_texts
from wamkit.errors import ConfigError, did_you_mean
from wamkit.estimators import Denoiser, DenoiserConfig, Staged, StateSpaceConfig


@dataclass(frozen=True)
class Parts:
    """Parts and facts of a design, built and checked.

    Attributes:
        encoders: name -> encoder of the context.
        substrates: name -> substrate.
        action: representation of the action stream.
        trunks: name -> trunk.
        context: trunk name -> map from context tokens to the trunk's width.
        estimators: name -> estimator.
        streams: stream name -> spec.
        graph: factorisation.
        planner: search over actions, or None.
        past_blocks: blocks of real past that the design carries; 0 for a design without a past.
        texts: text stream -> its words and tokens.
    """

    encoders: dict[str, Encoder]
    substrates: dict[str, Substrate]
    action: ActionRepresentation
    trunks: dict[str, Trunk]
    context: dict[str, nn.Module]
    estimators: dict[str, Estimator]
    streams: dict[str, StreamSpec]
    graph: FactorGraph
    planner: Planner | None
    past_blocks: int
    texts: dict[str, Text]


def build_parts(config: DesignConfig, data: DataSpec) -> Parts:
    """Build all parts; raises :class:`ConfigError` when two of them do not fit."""
    check_names(config)
    window = WindowSpec(observation=config.observation, horizon=config.horizon, aim=config.aim)
    substrates = {name: c.build(data) for name, c in config.substrates.items()}
    # Encoders are built last unless a substrate tracks one: this keeps the order of random draws of published runs.
    encoders: dict[str, Encoder] = {}
    if any(substrate.moving for substrate in substrates.values()):
        encoders = build_encoders(config, data, window)
        for substrate in substrates.values():
            substrate.bind(encoders, data)
    action = config.action.build(data, config.horizon)
    trunks = {name: c.build() for name, c in config.trunks.items()}
    texts = build_texts(config.texts, data)
    streams = build_streams(config, substrates, action, trunks, texts)
    context: dict[str, nn.Module] = {
        name: nn.Identity() if t.context_width == config.width else nn.Linear(config.width, t.context_width)
        for name, t in trunks.items()
    }
    estimators = {name: build_estimator(name, config, streams, trunks) for name in config.estimators}
    check_taps(config, estimators)
    planner = config.planner.build() if config.planner is not None else None
    if planner is not None and ACTION in streams:
        planner.check(streams[ACTION])
    facts = {
        name: EstimatorFacts(
            e.family,
            config.estimators[name].trunk,
            e.processes,
            e.past,
            dict(e.reads),
            dict(e.exposes),
            any(trunk.language for key, trunk in trunks.items() if key == config.estimators[name].trunk),
        )
        for name, e in estimators.items()
    }
    graph = FactorGraph(
        config.factors,
        {name: spec.role for name, spec in streams.items()},
        facts,
        planner.future if planner else None,
        planner.goal if planner else None,
    )
    past_blocks = max((e.past for e in estimators.values()), default=0)
    check_past(config, past_blocks, substrates)
    config.controller.horizon(config.horizon)
    return Parts(
        encoders=encoders or build_encoders(config, data, window),
        substrates=substrates,
        action=action,
        trunks=trunks,
        context=context,
        estimators=estimators,
        streams=streams,
        graph=graph,
        planner=planner,
        past_blocks=past_blocks,
        texts=texts,
    )


def build_encoders(config: DesignConfig, data: DataSpec, window: WindowSpec) -> dict[str, Encoder]:
    """Build all encoders of the context."""
    return {name: c.build(data, window, config.width) for name, c in config.encoders.items()}


def extras_of(parts: Iterable[Encoder | Substrate | Text]) -> tuple[str, ...]:
    """Names of the extras of an observation that encoders, substrates or texts read."""
    return tuple(sorted({name for part in parts for name in part.extras}))


def check_names(config: DesignConfig) -> None:
    """Raise :class:`ConfigError` when a config refers to a name that does not exist, or two streams share one."""
    if not config.encoders:
        raise ConfigError(
            "encoders: is empty, so the design would see nothing. Name an encoder, such as 'images'."
        )
    if not config.factors:
        raise ConfigError("factors: is empty, so the design would generate nothing. Name a factor.")
    for stream in (*config.futures, *config.goals):
        substrate = config.substrate_of(stream)
        if substrate not in config.substrates:
            raise ConfigError(
                f"stream {stream!r}: unknown substrate {substrate!r}. {did_you_mean(substrate, config.substrates)}"
            )
    if PLANNER_CARRY in config.estimators:
        raise ConfigError(
            f"estimator {PLANNER_CARRY!r}: a planner's state has this name; rename the estimator"
        )
    for name, estimator in config.estimators.items():
        if estimator.trunk is not None and estimator.trunk not in config.trunks:
            raise ConfigError(
                f"estimator {name!r}: unknown trunk {estimator.trunk!r}. {did_you_mean(estimator.trunk, config.trunks)}"
            )
    for name, future in config.futures.items():
        if future.milestones:
            if future.offsets or future.milestones < 0:
                raise ConfigError(
                    f"future {name!r}: give offsets {future.offsets} or a positive number of milestones "
                    f"({future.milestones}), not both"
                )
        elif (
            not future.offsets or list(future.offsets) != sorted(set(future.offsets)) or future.offsets[0] < 1
        ):
            raise ConfigError(f"future {name!r}: offsets {future.offsets} must be ascending and at least 1")
    for name, stream in config.taps.items():
        if stream not in config.futures:
            raise ConfigError(
                f"tap {name!r}: unknown future {stream!r}. {did_you_mean(stream, config.futures)}"
            )
    names = [ACTION, *config.futures, *config.goals, *config.texts, *config.states, *config.taps]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two streams are called {name!r}; rename one")
    for name in config.loss_weights:
        if name not in names:
            raise ConfigError(f"loss_weights: unknown stream {name!r}. {did_you_mean(name, names)}")


def build_streams(
    config: DesignConfig,
    substrates: Mapping[str, Substrate],
    action: ActionRepresentation,
    trunks: Mapping[str, Trunk],
    texts: Mapping[str, Text],
) -> dict[str, StreamSpec]:
    """Build the specs of all streams: futures, goals, texts, states, taps, then the action."""
    streams = {}
    for name, future in config.futures.items():
        streams[name] = substrates[future.substrate].spec(name, "future", future.steps)
    for name, substrate in config.goals.items():
        streams[name] = substrates[substrate].spec(name, "goal", 1)
    streams.update({name: text.spec() for name, text in texts.items()})
    for name, features in config.states.items():
        streams[name] = StreamSpec(name, "state", 1, 1, features)
    for name, tapped in config.taps.items():
        shape, width = streams[tapped], trunks[trunk_of(name, config)].width
        streams[name] = StreamSpec(name, "state", shape.steps, shape.tokens, width)
    if any(ACTION in factor.generates for factor in config.factors):
        streams[ACTION] = action.spec(ACTION)
    return streams


def check_taps(config: DesignConfig, estimators: Mapping[str, Estimator]) -> None:
    """Raise :class:`ConfigError` when the estimator of a tap exposes no hidden state."""
    for tap in config.taps:
        if not any(tap in e.exposes for e in estimators.values()):
            raise ConfigError(f"tap {tap!r}: its estimator exposes no hidden state. Use 'feature_tap'.")


def trunk_of(tap: str, config: DesignConfig) -> str:
    """Name of the trunk that a tap reads; raises :class:`ConfigError` when no network can be tapped for it."""
    future = config.taps[tap]
    for factor in config.factors:
        part = config.estimators.get(factor.estimator)
        if {tap, future} <= set(factor.generates) and part is not None and part.trunk is not None:
            return part.trunk
    raise ConfigError(
        f"tap {tap!r}: no factor generates it together with {future!r} on a trunk. Name both in one factor, with "
        f"the estimator 'feature_tap'."
    )


def build_estimator(
    name: str, config: DesignConfig, streams: Mapping[str, StreamSpec], trunks: Mapping[str, Trunk]
) -> Estimator:
    """Build one estimator for all factors that use it."""
    outputs: dict[str, StreamSpec] = {}
    given: dict[str, StreamSpec] = {}
    for factor in config.factors:
        for stream in (*factor.generates, *factor.given):
            if stream not in streams:
                raise ConfigError(f"factors: unknown stream {stream!r}. {did_you_mean(stream, streams)}")
        if factor.estimator == name:
            outputs.update({s: streams[s] for s in factor.generates})
            given.update({s: streams[s] for s in factor.given})
    if not outputs:
        raise ConfigError(f"estimator {name!r} is not used by any factor; remove it or name it in `factors`")
    part: EstimatorConfig = config.estimators[name]
    trunk = trunks[part.trunk] if part.trunk is not None else None
    if trunk is not None:
        trunk.check([name for name in (*outputs, *given) if name in given or name not in config.taps])
    made = part.build(tuple(outputs.values()), tuple(given.values()), trunk)
    if isinstance(made, Denoiser) and made.config.history:
        made.remember(remembered(name, made.config, streams), config.stride)
    if isinstance(made, Staged):
        made.remember(config.stride)
    return made


def remembered(name: str, part: DenoiserConfig, streams: Mapping[str, StreamSpec]) -> list[StreamSpec]:
    """Specs of the further streams whose past a denoiser keeps."""
    for stream in part.remembers:
        if stream not in streams:
            raise ConfigError(
                f"estimator {name!r}: `remembers` names an unknown stream {stream!r}. {did_you_mean(stream, streams)}"
            )
    return [streams[stream] for stream in part.remembers]


def check_past(config: DesignConfig, blocks: int, substrates: Mapping[str, Substrate]) -> None:
    """Raise :class:`ConfigError` unless a design that keeps its past can read it off single observations."""
    if not blocks:
        return
    for name, future in config.futures.items():
        if future.milestones:
            raise ConfigError(
                f"future {name!r}: milestones have no fixed time, and an estimator that keeps a past needs the "
                f"observation at the end of every block. Use offsets, or another estimator."
            )
        if substrates[future.substrate].relative:
            raise ConfigError(
                f"future {name!r}: substrate {future.substrate!r} is relative to the moment of prediction, and an "
                f"estimator that keeps a past reads futures off single observations. Use another substrate."
            )
    if config.observation != (0,):
        raise ConfigError(
            f"observation {config.observation}: a design whose estimator keeps a past reads it from its own "
            f"memory; set observation to (0,)"
        )
    for name, part in config.estimators.items():
        if isinstance(part, StateSpaceConfig):
            check_steps(name, config)


def check_steps(name: str, config: DesignConfig) -> None:
    """Raise :class:`ConfigError` unless a state space predicts the end of every stride of the horizon.

    It takes one step per block of ``stride`` ticks, in the past and ahead, under the actions of that block.
    """
    needed = tuple(range(config.stride, config.horizon + 1, config.stride))
    whole = config.horizon % config.stride == 0
    for stream in sorted({s for f in config.factors if f.estimator == name for s in f.generates}):
        if stream in config.futures and (config.futures[stream].offsets != needed or not whole):
            ways = f"Set them to {list(needed)}, or set `horizon` to the last offset and `stride` to their distance."
            if not whole:
                ways = f"Set `horizon` {config.horizon} to a multiple of `stride` {config.stride} first."
            raise ConfigError(
                f"future {stream!r}: offsets {list(config.futures[stream].offsets)} are not the ends of the steps of "
                f"estimator {name!r}, a state space that steps `stride` = {config.stride} ticks at a time until "
                f"`horizon` = {config.horizon}. {ways}"
            )


def read_windows(config: DesignConfig, parts: Parts) -> tuple[WindowSpec, WindowSpec]:
    """Windows that training cuts from a dataset and that acting reads: (training, acting).

    ``acting.future`` gives the steps whose frames the design can decode, for comparison with the real ones.
    """
    blocks, stride = parts.past_blocks, config.stride
    offsets = sorted({o for f in config.futures.values() for o in f.offsets})
    past = tuple(-stride * i for i in range(blocks - 1, -1, -1))
    needs_goal = bool(config.goals) or any(encoder.goal for encoder in parts.encoders.values())
    if config.aim != "end" and not needs_goal:
        raise ConfigError(
            f"aim {config.aim!r}: no part of the design reads a goal. Add a goal stream to `goals` or an encoder that "
            f"reads one ('goal_image'), or leave `aim` at 'end'."
        )
    training = WindowSpec(
        observation=past if blocks else config.observation,
        past_actions=blocks * stride,
        horizon=config.horizon,
        future=tuple(offsets),
        goal=needs_goal,
        milestones=max((f.milestones for f in config.futures.values()), default=0),
        aim=config.aim,
    )
    decodable = [
        f.offsets for f in config.futures.values() if f.offsets and parts.substrates[f.substrate].decodable
    ]
    acting = WindowSpec(
        config.observation,
        stride if blocks else 0,
        config.horizon,
        future=decodable[0] if decodable else (),
        aim=config.aim,
    )
    return training, acting
