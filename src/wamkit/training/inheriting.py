"""What a training takes over from the checkpoint that it starts from: robots, views and statistics.

The weights of a checkpoint expect values that were normalised by its statistics, whatever those of new data are. In a
model of several robots these are of columns that each robot's own scaling brings to [-1, 1]. A robot that the
checkpoint knows by name keeps its scaling there; a new one gets the scaling of its dataset.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wamkit.config import decode
from wamkit.contract.calls import ByLimits
from wamkit.contract.data import DataSpec, Recorded, Scaling
from wamkit.contract.specs import require_same_robot
from wamkit.data import Dataset
from wamkit.data.layout import ACTION_KEY, STATE_KEY
from wamkit.data.mixture import scaling_of
from wamkit.data.spec import ROBOT
from wamkit.design import Design
from wamkit.design.agreement import view_of
from wamkit.design.checkpoint import find_checkpoint, read_data, read_facts
from wamkit.design.config import DesignConfig
from wamkit.design.robot import named_robot
from wamkit.errors import ConfigError, SpecError
from wamkit.nn.transforms import FLOOR
from wamkit.training.config import SourceConfig, TrainConfig
from wamkit.views import View, ViewConfig
from wamkit.views.common import require_same_shape, require_width


@dataclass(frozen=True)
class Origin:
    """Checkpoint that a training starts from.

    Attributes:
        name: its folder or hub id, for messages.
        config: config of its design.
        data: spec of the data that it was trained on.
    """

    name: str
    config: DesignConfig
    data: DataSpec

    @classmethod
    def read(cls, name: str) -> Origin:
        """Read a checkpoint's facts; raises :class:`ConfigError` or :class:`wamkit.errors.DataError`."""
        facts, place = read_facts(find_checkpoint(name)), f"checkpoint {name}"
        return cls(name, decode(DesignConfig, facts["design"], f"{place}, design"), read_data(facts, place))

    @property
    def robots(self) -> Mapping[str, Recorded]:
        """Its robots by name; that of a training on one dataset is called ``robot``."""
        return self.data.robots or {ROBOT: Recorded(self.data.observation, self.data.action)}

    @property
    def shared(self) -> bool:
        """True for a model of a mixture, whose robots are scaled."""
        return any(robot.action_scaling is not None for robot in self.robots.values())

    @cached_property
    def views(self) -> dict[str, View]:
        """Robot -> the view it is seen through, with its scaling: that of a single one by its own quantiles."""
        found = {name: view_of(self.config, name, robot) for name, robot in self.robots.items()}
        if self.shared:
            return found
        ((name, plain),) = found.items()
        state = scaling_of(self.data, STATE_KEY, plain.state.real)
        action = scaling_of(self.data, ACTION_KEY, plain.action.real)
        return {name: View(plain.config, *plain.recorded, state, action)}

    def view_for(self, design: DesignConfig, robot: str) -> ViewConfig:
        """View of a robot in a training that starts here: of one that is known, the one that it has.

        Raises:
            ConfigError: the training asks for another one.
        """
        asked = design.view_of(robot)
        if robot not in self.views:
            return asked
        known = self.views[robot].config
        explicit = robot in design.views or columns_of(asked) != columns_of(ViewConfig())
        if explicit and columns_of(asked) != columns_of(known):
            raise ConfigError(
                f"robot {robot!r}: the checkpoint {self.name} sees its columns through another view, which its "
                f"statistics belong to. Leave the view out, or give the robot another name; it then has its own."
            )
        return asked if robot in design.views else known

    def scaling_for(self, robot: str, dataset: Dataset) -> tuple[Scaling, Scaling] | None:
        """Scaling of a robot's state and action that is kept; None for a new robot.

        Raises:
            SpecError: the dataset is of another robot than the one of this name.
        """
        if robot not in self.views:
            return None
        view = self.views[robot]
        assert view.scaling is not None
        plain = View(view.config, *view.recorded)
        place = f"the robot {robot!r} of checkpoint {self.name}"
        try:
            ours, theirs = (
                (plain.observation_spec, plain.action_spec),
                (dataset.observation_spec, dataset.action_spec),
            )
            require_same_robot(ours, theirs, place, f"{dataset.root}")
        except SpecError as error:
            raise SpecError(f"{error} A robot of another name has its own statistics.") from error
        return view.scaling

    def inherited(self, data: DataSpec, shared: bool) -> DataSpec:
        """Spec of a training's data with the statistics of the checkpoint, and the conventions of its actions.

        Args:
            data: spec of the data.
            shared: true where they are scaled robot by robot.

        Raises:
            SpecError: the conventions of checkpoint and data differ.
        """
        source, place = self.data, f"checkpoint {self.name}"
        if not shared:
            ours, theirs = (source.observation, source.action), (data.observation, data.action)
            require_same_robot(ours, theirs, place, "the dataset")
            return dataclasses.replace(data, stats={**data.stats, **source.stats})
        require_same_shape(data.observation, source.observation, "the training")
        require_width(data.action, source.action, "the training")
        stats, action, names = dict(source.stats), source.action, data.action.names
        low, high = (np.array(ends, np.float64) for ends in (action.low, action.high))
        if not self.shared:
            (view,) = self.views.values()
            assert view.scaling is not None
            for key, scaling in zip((STATE_KEY, ACTION_KEY), view.scaling, strict=True):
                if key in stats:
                    stats[key] = scaled_stats(stats[key], scaling)
            low, high = (scaled(ends, view.scaling[1]) for ends in (low, high))
        grip = action.gripper_at
        action = dataclasses.replace(
            action,
            names=names,
            low=tuple(np.minimum(low, data.action.low).tolist()),
            high=tuple(np.maximum(high, data.action.high).tolist()),
            gripper_entry="" if grip is None or grip == len(names) - 1 else names[grip],
        )
        return dataclasses.replace(data, action=action, stats={**data.stats, **stats})

    def check_limits(self, design: Design) -> None:
        """Raise :class:`ConfigError` where wider limits than the checkpoint's would change what values mean."""
        ours, theirs = design.action_spec, self.data.action
        if not self.shared or (ours.low, ours.high) == (theirs.low, theirs.high):
            return
        parts = [p for part in design.action_streams.parts.values() for p in part.modules()]
        if any(isinstance(part, ByLimits) for part in parts):
            raise ConfigError(
                f"pretrained {self.name}: its action is coded by the limits of its robots, and a robot of this run "
                f"reaches further. Train with robots within these limits, or start without `pretrained`."
            )


def columns_of(view: ViewConfig) -> ViewConfig:
    """What a view says of columns and rate, without pictures."""
    plain = ViewConfig()
    return dataclasses.replace(
        view, cameras=plain.cameras, size=plain.size, most=plain.most, multiple=plain.multiple, fit=plain.fit
    )


def scaled(values: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Scale the real columns of values (D,); those that pad stay as they are."""
    out, real = np.array(values, np.float64), len(scaling.shift)
    out[:real] = (out[:real] - np.array(scaling.shift)) / np.array(scaling.scale)
    return out


def scaled_stats(stats: Mapping[str, np.ndarray], scaling: Scaling) -> dict[str, np.ndarray]:
    """Statistics of columns after their scaling."""
    spreads = {"std", FLOOR}
    still = Scaling((0.0,) * len(scaling.shift), scaling.scale)
    return {
        name: value if name == "count" else scaled(value, still if name in spreads else scaling)
        for name, value in stats.items()
    }


def sources_of(config: TrainConfig, origin: Origin | None) -> dict[str, SourceConfig]:
    """Robots of a training and their datasets; empty for one dataset that is not scaled.

    One dataset is scaled as a robot where the checkpoint that the training starts from is of several, or ``robot``
    names one.

    Raises:
        ConfigError: the robot is neither named nor found by its specs.
    """
    if config.mixture or origin is None or not (origin.shared or config.robot):
        return dict(config.mixture)
    if config.imagined is not None:
        raise ConfigError(
            f"imagined: {origin.name} is a model of several robots, of which no rollouts are imagined. Leave "
            f"`imagined` out, or start from a model of one dataset."
        )
    robot = config.robot
    if robot is None:
        recorded = Dataset(config.dataset)
        specs = recorded.observation_spec, recorded.action_spec
        robot = named_robot(f"checkpoint {origin.name}", origin.robots, None, specs)
    return {str(robot): SourceConfig(config.dataset)}
