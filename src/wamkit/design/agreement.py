"""Agreement of the parts of a config: names, pasts, taps and the controller, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping

from wamkit.contract.data import DataSpec, Recorded
from wamkit.contract.protocols import Encoder, Estimator, Substrate
from wamkit.contract.specs import ACTION, ActionSpec, require_same
from wamkit.design.commands import Commands
from wamkit.design.config import DesignConfig
from wamkit.design.graph import FactorGraph
from wamkit.design.observed import check_compared, check_given
from wamkit.design.sampling import PLANNER_CARRY
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.estimators import StateSpaceConfig
from wamkit.views import View
from wamkit.views.common import require_same_shape, require_width


def check_names(config: DesignConfig) -> None:
    """Raise :class:`ConfigError` when a config refers to a name that does not exist, or two streams share one."""
    if not config.encoders and config.trunks:
        raise ConfigError(
            "encoders: is empty, so the design would see nothing. Start from a recipe (--recipe joint), or "
            "name an encoder, such as 'images'."
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
    check_futures(config)
    for name, stream in config.taps.items():
        if stream not in config.futures:
            raise ConfigError(
                f"tap {name!r}: unknown future {stream!r}. {did_you_mean(stream, config.futures)}"
            )
    if config.actions and not generates(config, ACTION):
        raise ConfigError(
            f"actions: {sorted(config.actions)} stand beside the executed action, but no factor generates {ACTION!r}. "
            f"Name it in a factor, or describe the only action stream in `action`."
        )
    names = [
        ACTION,
        *config.actions,
        *config.futures,
        *config.goals,
        *config.texts,
        *config.states,
        *config.taps,
    ]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two streams are called {name!r}; rename one")
    for name in config.loss_weights:
        if name not in names:
            raise ConfigError(f"loss_weights: unknown stream {name!r}. {did_you_mean(name, names)}")
        if name in config.given:
            raise ConfigError(f"loss_weights: stream {name!r} is given, so it has no loss. Leave it out.")


def check_futures(config: DesignConfig) -> None:
    """Raise :class:`ConfigError` unless every future has ascending offsets or a number of milestones."""
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


def check_executed(graph: FactorGraph, past_blocks: int) -> None:
    """Raise :class:`ConfigError` unless all streams of the executed action are generated, and a past can hold them."""
    lost = [name for name in graph.executed if name in graph.known]
    if len(lost) < len(graph.executed) and lost:
        raise ConfigError(
            f"given: {lost} own entries of the executed action, so a factor must generate them, as it does the others."
        )
    if past_blocks and len(graph.executed) > 1:
        raise ConfigError(
            f"actions: an estimator that keeps a past remembers the stream {ACTION!r}, which owns only a part of the "
            f"action beside {list(graph.executed[1:])}. Let {ACTION!r} own the whole action."
        )
    for factor in graph.factors:
        further = sorted(set(factor.given) & graph.of_role("action") - {ACTION})
        if graph.estimators[factor.estimator].past and further:
            raise ConfigError(
                f"actions: estimator {factor.estimator!r} keeps a past of the stream {ACTION!r}, but reads {further}. "
                f"Give it {ACTION!r}."
            )


def check_taps(config: DesignConfig, estimators: Mapping[str, Estimator]) -> None:
    """Raise :class:`ConfigError` when the estimator of a tap exposes no hidden state."""
    for tap in config.taps:
        if not any(tap in e.exposes for e in estimators.values()):
            raise ConfigError(f"tap {tap!r}: its estimator exposes no hidden state. Use 'feature_tap'.")


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


def check_controller(
    config: DesignConfig, graph: FactorGraph, action: ActionSpec, substrates: Mapping[str, Substrate]
) -> None:
    """Raise :class:`ConfigError` when the controller names a stream that it cannot have, or cannot execute the actions.

    An evaluation asks the same of a controller that it brings itself.
    """
    controller, offsets = config.controller, tuple[int, ...]()
    controller.horizon(config.horizon)
    if controller.compares is not None:
        check_compared(config, controller.compares)
        offsets = config.futures[controller.compares].offsets
    if controller.supplies is not None:
        drawn = {name: substrates[future.substrate] for name, future in config.futures.items()}
        check_given(graph, controller.supplies, drawn if controller.follows else None)
    controller.check(action.mode, offsets)


def check_view(config: DesignConfig, data: DataSpec) -> None:
    """Raise :class:`SpecError` unless ``data`` is what the views of the design show of its robots."""
    for name in config.views:
        if name not in data.robots:
            raise ConfigError(f"views: no robot {name!r}. {did_you_mean(name, data.robots)}")
    # What robots of a mixture have in common is no spec of one of them.
    several = any(robot.action_scaling is not None for robot in data.robots.values()) or len(data.robots) > 1
    for name, robot in data.robots.items() or (("", data.recorded[0]),):
        view, place = view_of(config, name, robot), f"the view of design {config.name!r}"
        try:
            if several:
                require_same_shape(view.observation_spec, data.observation, f"robot {name!r}")
                require_width(view.action_spec, data.action, f"robot {name!r}")
            else:
                require_same(view.observation_spec, data.observation, place, "its data")
                require_same(view.action_spec, data.action, place, "its data")
        except SpecError as error:
            raise SpecError(
                f"{error} A dataset is seen through a view when it is opened: Dataset(root, view=design.view)."
            ) from error


def check_pixels(
    config: DesignConfig, data: DataSpec, encoders: Mapping[str, Encoder], commands: Commands
) -> None:
    """Raise :class:`ConfigError` unless the views move coordinates of pixels with the pictures that they lie in."""
    readers = {f"encoder {name!r}": part.pixels for name, part in encoders.items()}
    readers |= {f"command {name!r}": part.pixels for name, part in commands.levels.items()}
    for name, robot in data.robots.items():
        view = view_of(config, name, robot)
        for part, pixels in readers.items():
            for extra, camera in pixels.items():
                recorded, said = (
                    view.cameras[camera],
                    view.config.points.get(view.extras.recorded_name(extra)),
                )
                if said != recorded and not (said is None and view.sizing[camera].same):
                    where = "does not say so" if said is None else f"says that they lie in that of {said!r}"
                    raise ConfigError(
                        f"{part} reads the extra {extra!r}, coordinates of pixels in the picture of camera "
                        f"{recorded!r}, and the view, which changes pictures, {where}. Set `view.points` to "
                        f"{{{view.extras.recorded_name(extra)}: {recorded}}}."
                    )


def view_of(config: DesignConfig, name: str, robot: Recorded) -> View:
    """View of a robot of a design."""
    return View(
        config.view_of(name), robot.observation, robot.action, robot.state_scaling, robot.action_scaling
    )


def generates(config: DesignConfig, stream: str) -> bool:
    """Return True when a factor generates the stream."""
    return any(stream in factor.generates for factor in config.factors)
