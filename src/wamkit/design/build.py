"""Build a config into parts and check them against each other before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from wamkit.contract.data import DataSpec
from wamkit.contract.planning import Planner
from wamkit.contract.protocols import (
    ActionRepresentation,
    Encoder,
    Estimator,
    EstimatorConfig,
    Meanings,
    Substrate,
    Trunk,
)
from wamkit.contract.requests import Requests, VariableConfig
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import WindowSpec
from wamkit.design.action_streams import ActionStreams
from wamkit.design.agreement import (
    check_controller,
    check_executed,
    check_names,
    check_past,
    check_taps,
    check_view,
    generates,
)
from wamkit.design.commands import Commands
from wamkit.design.config import DesignConfig
from wamkit.design.facts import EstimatorFacts
from wamkit.design.graph import FactorGraph
from wamkit.design.guiding import Steering, build_steering
from wamkit.design.searching import check_search
from wamkit.design.texts import Text, build_texts
from wamkit.design.unused import check_encoders, check_experts, check_unused
from wamkit.errors import ConfigError, did_you_mean
from wamkit.estimators import Denoiser, DenoiserConfig, Staged


@dataclass(frozen=True)
class Parts:
    """Parts and facts of a design, built and checked.

    Attributes:
        encoders: name -> encoder of the context.
        substrates: name -> substrate.
        actions: representations of the action streams.
        trunks: name -> trunk.
        context: trunk name -> map from context tokens to the trunk's width.
        estimators: name -> estimator.
        streams: stream name -> spec.
        graph: factorisation.
        planner: search over actions, or None.
        steering: guidance of every call, or None.
        past_blocks: blocks of real past that the design carries; 0 for a design without a past.
        texts: text stream -> its words and tokens.
        commands: levels of commands that training tells windows at.
    """

    encoders: dict[str, Encoder]
    substrates: dict[str, Substrate]
    actions: ActionStreams
    trunks: dict[str, Trunk]
    context: dict[str, nn.Module]
    estimators: dict[str, Estimator]
    streams: dict[str, StreamSpec]
    graph: FactorGraph
    planner: Planner | None
    steering: Steering | None
    past_blocks: int
    texts: dict[str, Text]
    commands: Commands


def build_parts(config: DesignConfig, data: DataSpec) -> Parts:
    """Build all parts; raises :class:`ConfigError` when two of them do not fit."""
    check_names(config)
    check_unused(config)
    check_view(config, data)
    window = WindowSpec(observation=config.observation, horizon=config.horizon, aim=config.aim)
    substrates = {name: c.build(data) for name, c in config.substrates.items()}
    # Encoders are built last unless a substrate tracks one: this keeps the order of random draws of published runs.
    encoders: dict[str, Encoder] = {}
    if any(substrate.moving for substrate in substrates.values()):
        encoders = build_encoders(config, data, window)
        for substrate in substrates.values():
            substrate.bind(encoders, data)
    check_encoders(config, substrates)
    actions = build_actions(config, data)
    trunks = {name: c.build() for name, c in config.trunks.items()}
    texts = build_texts(config.texts, data)
    streams = build_streams(config, substrates, actions, trunks, texts)
    context: dict[str, nn.Module] = {
        name: nn.Identity() if t.context_width == config.width else nn.Linear(config.width, t.context_width)
        for name, t in trunks.items()
    }
    estimators = {name: build_estimator(name, config, streams, trunks) for name in config.estimators}
    check_taps(config, estimators)
    meanings = read_meanings(config, data, streams, actions.parts[ACTION], substrates)
    for estimator in estimators.values():
        estimator.bind(meanings)
    planner = config.planner.build() if config.planner is not None else None
    if planner is not None and ACTION in streams:
        planner.check(streams[ACTION])
    check_experts(config, trunks)
    graph = build_graph(config, estimators, trunks, meanings, actions)
    steering = None
    if config.guide is not None:
        guide = config.guide
        objective = guide.objective.build(meanings)
        steering = build_steering(guide.stream, objective, guide.weight, graph, estimators, streams)
    past_blocks = max((e.past for e in estimators.values()), default=0)
    check_past(config, past_blocks, substrates)
    check_executed(graph, past_blocks)
    if graph.acting():  # nobody calls a world model tick by tick
        for robot in data.recorded:
            check_controller(config, graph, robot.action, substrates)
    return Parts(
        encoders=encoders or build_encoders(config, data, window),
        substrates=substrates,
        actions=actions,
        trunks=trunks,
        context=context,
        estimators=estimators,
        streams=streams,
        graph=graph,
        planner=planner,
        steering=steering,
        past_blocks=past_blocks,
        texts=texts,
        commands=Commands(config.commands, data),
    )


def build_graph(
    config: DesignConfig,
    estimators: Mapping[str, Estimator],
    trunks: Mapping[str, Trunk],
    meanings: Meanings,
    actions: ActionStreams,
) -> FactorGraph:
    """Build the factorisation, with what a planner chooses by; raises :class:`ConfigError` when it makes no sense."""
    acts = generates(config, ACTION)
    graph = FactorGraph(
        config.factors,
        {name: spec.role for name, spec in meanings.streams.items()},
        estimator_facts(config, estimators, meanings.streams, trunks),
        None if config.planner is None else config.planner.scores.build(meanings),
        config.given,
        actions.executed() if acts else (ACTION,),
        executed_steps(config, meanings.streams) if acts else {},
        guided_by(config, meanings),
    )
    if config.planner is not None:
        check_search(graph, estimators, config.planner.sampled_together)
    return graph


def guided_by(config: DesignConfig, meanings: Meanings) -> tuple[str, ...]:
    """Streams that the objective of a guide of the executed action reads."""
    if config.guide is None or config.guide.stream != ACTION:
        return ()
    return config.guide.objective.build(meanings).reads


def estimator_facts(
    config: DesignConfig,
    estimators: Mapping[str, Estimator],
    streams: Mapping[str, StreamSpec],
    trunks: Mapping[str, Trunk],
) -> dict[str, EstimatorFacts]:
    """What the graph reads of every estimator."""
    facts = {}
    for name, estimator in estimators.items():
        trunk = config.estimators[name].trunk
        generated = [f.generates for f in config.factors if f.estimator == name]
        facts[name] = EstimatorFacts(
            estimator.family,
            trunk,
            estimator.processes,
            estimator.past,
            dict(estimator.reads),
            dict(estimator.exposes),
            trunk is not None and trunks[trunk].language,
            {stream: estimator.sees(streams[stream], outputs) for outputs in generated for stream in outputs},
        )
    return facts


def executed_steps(config: DesignConfig, streams: Mapping[str, StreamSpec]) -> dict[str, int]:
    """Leading steps of each action stream that the controller executes of one forecast; empty when it executes all."""
    used = config.controller.horizon(config.horizon).used
    actions = [spec for spec in streams.values() if spec.role == "action"]
    return {} if used is None else {spec.name: math.ceil(used / spec.ticks_per_step) for spec in actions}


def build_encoders(config: DesignConfig, data: DataSpec, window: WindowSpec) -> dict[str, Encoder]:
    """Build all encoders of the context."""
    return {name: c.build(data, window, config.width) for name, c in config.encoders.items()}


def build_actions(config: DesignConfig, data: DataSpec) -> ActionStreams:
    """Build the representations of the action: that of ``action``, then the further ones."""
    parts: dict[str, ActionRepresentation] = {ACTION: config.action.build(data, config.horizon)}
    for name, part in config.actions.items():
        parts[name] = part.build(data, config.horizon)
    return ActionStreams(parts, data.action)


def read_meanings(
    config: DesignConfig,
    data: DataSpec,
    streams: Mapping[str, StreamSpec],
    action: ActionRepresentation,
    substrates: Mapping[str, Substrate],
) -> Meanings:
    """What the values of the streams mean."""
    return Meanings(
        data,
        streams,
        action,
        {name: substrates[config.substrate_of(name)] for name in (*config.futures, *config.goals)},
        {name: future.offsets for name, future in config.futures.items()},
    )


def extras_of(parts: Iterable[Encoder | Substrate | Text | Estimator | Commands]) -> tuple[str, ...]:
    """Names of the extras of an observation that parts read; those that estimators read are of the present one."""
    return tuple(
        sorted(
            {
                name
                for part in parts
                for name in ((part.observes or ()) if isinstance(part, Estimator) else part.extras)
            }
        )
    )


def sensed_by(encoders: Iterable[Encoder]) -> set[str]:
    """Extras that encoders read when acting, too."""
    return {name for encoder in encoders for name in encoder.extras if name not in encoder.unsensed}


def build_streams(
    config: DesignConfig,
    substrates: Mapping[str, Substrate],
    actions: ActionStreams,
    trunks: Mapping[str, Trunk],
    texts: Mapping[str, Text],
) -> dict[str, StreamSpec]:
    """Build the specs of all streams: futures, goals, texts, states, taps, then the actions."""
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
    for name, part in actions.parts.items():
        if name != ACTION or generates(config, ACTION) or ACTION in config.given:
            streams[name] = part.spec(name)
    return streams


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
    part: EstimatorConfig = config.estimators[name]
    trunk = trunks[part.trunk] if part.trunk is not None else None
    if trunk is not None:
        trunk.check([name for name in (*outputs, *given) if name in given or name not in config.taps])
        trunk.shape([*outputs.values(), *given.values()])
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


def extras_read(
    parts: Parts, data: DataSpec
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Extras read in training, extras read when acting, and those of the latter that only encoders read, with shapes.

    A past reads futures off the observation.
    """
    encoders, estimators = parts.encoders.values(), parts.estimators.values()
    learned = extras_of(
        [*encoders, *parts.substrates.values(), *parts.texts.values(), *estimators, parts.commands]
    )
    fixed = extras_of([*(parts.substrates.values() if parts.past_blocks else ()), *estimators])
    seen = tuple(sorted({*sensed_by(encoders), *fixed}))
    return learned, seen, {name: data.extras[name] for name in seen if name not in fixed}


def requests_of(encoders: Mapping[str, Encoder], data: DataSpec) -> Requests:
    """What may be requested of encoders; raises :class:`ConfigError` when two of them have a variable of one name."""
    variables: dict[str, VariableConfig] = {}
    for encoder in encoders.values():
        for name, variable in encoder.requests.items():
            if name in variables:
                raise ConfigError(f"encoders: two of them have a variable {name!r}; rename one")
            variables[name] = variable
    return Requests(variables, {name: data.extras[name] for name in variables if name in data.extras})


def aims_of(graph: FactorGraph | None, steering: Steering | None) -> tuple[str, ...]:
    """Streams that the caller's goal observation is encoded as, for the planner of a graph or for a guide."""
    objectives = (
        None if graph is None else graph.objective,
        None if steering is None else steering.objective,
    )
    return tuple(
        sorted({name for objective in objectives if objective is not None for name in objective.aims})
    )


def read_windows(config: DesignConfig, parts: Parts) -> tuple[WindowSpec, WindowSpec]:
    """Windows that training cuts from a dataset and that acting reads: (training, acting).

    ``acting.future`` gives the steps whose frames the design can decode, for comparison with the real ones.
    """
    blocks, stride = parts.past_blocks, config.stride
    offsets = sorted({*(o for f in config.futures.values() for o in f.offsets), *parts.commands.ahead})
    past = tuple(-stride * i for i in range(blocks - 1, -1, -1))
    needs_goal = bool(config.goals) or parts.commands.goal or any(e.goal for e in parts.encoders.values())
    if config.aim != "end" and not needs_goal and not aims_of(parts.graph, parts.steering):
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
