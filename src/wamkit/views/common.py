"""What several robots have in common for one design: the same pictures, and columns of the same number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wamkit.contract.specs import PADDING, ActionSpec, ObservationSpec
from wamkit.errors import SpecError


def require_same_shape(spec: ObservationSpec, common: ObservationSpec, robot: str) -> None:
    """Raise :class:`SpecError` unless a robot shows the same pictures and as many state columns as the others."""
    if spec.cameras != common.cameras:
        raise SpecError(
            f"{robot} shows the cameras {_sizes(spec)}, the others {_sizes(common)}. Give them the same names in "
            f"`view.cameras` of each robot, and the same `view.size`."
        )
    if len(spec.state) != len(common.state):
        raise SpecError(
            f"{robot} shows {len(spec.state)} state columns, the others {len(common.state)}. Set "
            f"`view.state_width` of all to the same number."
        )


def require_width(spec: ActionSpec, common: ActionSpec, robot: str) -> None:
    """Raise :class:`SpecError` unless a robot shows as many action columns as the others."""
    if spec.width != common.width:
        raise SpecError(
            f"{robot} shows {spec.width} action columns, the others {common.width}. Set `view.action_width` of all "
            f"to the same number."
        )


def common_specs(
    observations: Sequence[ObservationSpec], actions: Sequence[ActionSpec]
) -> tuple[ObservationSpec, ActionSpec]:
    """Specs of what several robots have in common; columns are numbered, limits the widest of robots that have them.

    A convention in which the robots differ becomes the one that says the least; their rate is that of the first. A
    column that no robot has keeps its name.
    """
    first, own = observations[0], actions[0]
    shown = [spec.state for spec in observations]
    state = tuple(
        f"state_{i}" if any(not names[i].startswith(PADDING) for names in shown) else name
        for i, name in enumerate(first.state)
    )
    grips = {a.gripper_at for a in actions}
    shared: dict[str, Any] = {
        name: getattr(own, name) if len({getattr(a, name) for a in actions}) == 1 else otherwise
        for name, otherwise in (
            ("mode", "absolute"), ("frame", "unknown"), ("rotation", "none"), ("gripper", "none"),
        )
    }  # fmt: skip
    having = [[a for a in actions if not a.names[i].startswith(PADDING)] for i in range(own.width)]
    names = tuple(f"action_{i}" if some else own.names[i] for i, some in enumerate(having))
    grip = own.gripper_at if len(grips) == 1 and shared["gripper"] != "none" else None
    shared["gripper"] = "none" if grip is None else shared["gripper"]
    action = ActionSpec(
        names=names,
        low=tuple(min((a.low[i] for a in some), default=0.0) for i, some in enumerate(having)),
        high=tuple(max((a.high[i] for a in some), default=0.0) for i, some in enumerate(having)),
        rate_hz=own.rate_hz,
        gripper_entry="" if grip is None or grip == own.width - 1 else names[grip],
        **shared,
    )
    return ObservationSpec(first.cameras, state, first.rate_hz), action


def _sizes(spec: ObservationSpec) -> str:
    return ", ".join(f"{name} {c.height} x {c.width}" for name, c in spec.cameras.items()) or "none"
