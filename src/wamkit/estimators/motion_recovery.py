"""Actions recovered from a predicted motion, without a learned network (`ar.motion-recovery`; survey eqs. 5, 20).

A rigid motion is fitted to the points of one body at every predicted step, points that do not agree are left out, and
the hand is moved as the body moves (AVDC, NovaFlow, Dream2Flow, 3DFlowAction). What cannot be recovered is flagged: the
hand then stays where the last recovered step left it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import numpy as np
import scipy
import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Finite, Fraction, Length, NonNegative, Positive, Word
from wamkit.contract.calls import Call, Distrusts, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Meanings, Trunk
from wamkit.contract.streams import Past, PointMotion, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget, Observation
from wamkit.errors import ConfigError, did_you_mean
from wamkit.estimators.arm_path import Arm, ArmConfig
from wamkit.geometry.following import FollowConfig, follow_path
from wamkit.geometry.poses import PoseLayout
from wamkit.geometry.recovery import RigidPath, rigid_path
from wamkit.geometry.rotations import write

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

PLACE = "estimator 'motion_recovery'"
SLACK = 1e-4  # share of an action's range by which rounding may exceed its limits


@EstimatorConfig.register_subclass("motion_recovery")
@dataclass(frozen=True)
class MotionRecoveryConfig(EstimatorConfig):
    """Action that moves the hand as a predicted body moves: rigid fits, no network (AVDC, NovaFlow; survey eq. 20).

    It reads one future whose substrate shows the motion of points: ``object_flow`` in world space, ``tracks``,
    ``pose_stream`` or ``moving_frames``; or several of one substrate, one after the other in time. It has no loss. Rows
    that cannot be recovered are flagged (``Forecast.flags``): points that do not move as one body, a rotation that the
    points do not determine, deltas beyond the limits of the action, poses out of the arm's reach.

    Attributes:
        trunk: not used.
        body: body whose motion is followed: ``object`` or ``gripper``.
        hold: ``centre`` moves the hand as the centre of the points moves; ``rigid`` as if the body were fixed to it,
            which needs points in the world and the hand's ``position``.
        position: three entries of the state that hold the hand's position, metres; needed for ``rigid`` and for
            absolute actions.
        unit_m: metres that one unit of the action's position entries stands for.
        grip: value of the action's entries after position and rotation; the position is the first three entries.
        tolerance_m: largest distance of a point from the rigid motion that it takes part in.
        share: least share of the points that must move as one.
        arm: robot model for joint actions, which are solved by inverse kinematics.
        follow: constraints under which the hand follows the recovered path, for delta actions of its position: the
            nearest smooth path within the action's limits, a workspace, and outside of boxes. Rows without one, or
            with one too far from the recovered path, are flagged. None commands the recovered path itself.
    """

    trunk: str | None = None
    body: Literal["object", "gripper"] = "object"
    hold: Literal["centre", "rigid"] = "centre"
    position: Annotated[tuple[Word, ...], Length(once=True)] = ()
    unit_m: Positive = 1.0
    grip: Finite = 0.0
    tolerance_m: NonNegative = 0.005
    share: Fraction = 0.6
    arm: ArmConfig | None = None
    follow: FollowConfig | None = None

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> MotionRecovery:
        """Build; raises :class:`ConfigError` unless it recovers an action from futures."""
        if [s.role for s in outputs] != ["action"] or {s.role for s in given} != {"future"}:
            raise ConfigError(
                f"{PLACE} generates an action from one future, not {[s.name for s in outputs]} from "
                f"{[s.name for s in given]}. Give its factor one future whose substrate shows motion."
            )
        return MotionRecovery(self, outputs[0], given)


@final
class MotionRecovery(Estimator, Distrusts):
    """``p(a | s, c)`` with all its mass on the recovered action."""

    family: ClassVar[Family] = "geometric"
    observes: tuple[str, ...] | None = ()
    meanings: Meanings

    def __init__(
        self, config: MotionRecoveryConfig, action: StreamSpec, futures: Sequence[StreamSpec]
    ) -> None:
        super().__init__()
        self.config = config
        self.action, self.futures = action, tuple(spec.name for spec in futures)

    @override
    def bind(self, meanings: Meanings) -> None:
        """Check that future, action and state hold what the recovery needs."""
        config, name = self.config, self.futures[0]
        self._check_order(meanings)
        moves = meanings.substrates[name].moves
        if config.body not in moves:
            shown = f"shows the motion of {sorted(moves)}" if moves else "shows no points that move"
            raise ConfigError(
                f"{PLACE}: future {name!r} {shown}, not of {config.body!r}. Use 'object_flow' with space: world, "
                f"'tracks' or 'pose_stream'."
            )
        state = meanings.data.observation.state
        for entry in config.position:
            if entry not in state:
                raise ConfigError(
                    f"{PLACE}: position: no state entry {entry!r}. {did_you_mean(entry, state)}"
                )
        self.meanings, self.observes = meanings, moves[config.body]
        self.hand = [state.index(entry) for entry in config.position]
        self.layout, self.arm = self._check_action(meanings)

    def _check_order(self, meanings: Meanings) -> None:
        """Keep the ticks of all futures; raises :class:`ConfigError` unless they are one sequence of one substrate."""
        ticks: list[int] = []
        for name in self.futures:
            if not meanings.offsets[name]:
                raise ConfigError(
                    f"{PLACE}: future {name!r}: milestones have no time to be reached at. Use offsets."
                )
            if meanings.substrates[name] is not meanings.substrates[self.futures[0]]:
                raise ConfigError(
                    f"{PLACE}: futures {list(self.futures)} show points of different substrates. Give them one."
                )
            ticks += meanings.offsets[name]
        if ticks != sorted(set(ticks)):
            raise ConfigError(
                f"{PLACE}: futures {list(self.futures)} have the offsets {ticks} in this order; they must ascend."
            )
        self.ticks = tuple(ticks)

    def _check_action(self, meanings: Meanings) -> tuple[PoseLayout, Arm | None]:
        """Layout of the action and the arm that moves it; raises :class:`ConfigError` when nothing reaches it."""
        spec, config = meanings.data.action, self.config
        layout = PoseLayout.of(spec)
        if spec.rotation == "joint":
            if config.arm is None or config.follow is not None:
                raise ConfigError(
                    f"{PLACE}: the action moves joints; name the robot's model in `arm`, and leave out `follow`."
                )
            return layout, Arm(config.arm, meanings.data)
        if layout.moving < 3:
            raise ConfigError(
                f"{PLACE}: the action {', '.join(spec.names)} has no room for a position of three entries."
            )
        if layout.rotation is None:
            layout = replace(layout, moving=3)
        if layout.rotation is not None and (layout.frame == "body" or spec.mode == "absolute"):
            raise ConfigError(
                f"{PLACE}: a rotation relative to the hand or absolute needs the hand's own, which no state tells. "
                f"Use delta actions in the world frame, positions alone, or joints with `arm`."
            )
        if config.follow is not None and spec.mode == "absolute":
            raise ConfigError(f"{PLACE}: follow plans steps of delta actions, and the action is absolute.")
        bounded = config.follow is not None and config.follow.bounded
        needed = config.hold == "rigid" or spec.mode == "absolute" or bounded
        if len(self.hand) != 3 and (needed or self.hand):
            raise ConfigError(
                f"{PLACE}: position must name the three state entries of the hand's position, got "
                f"{list(config.position)}; the state has {', '.join(meanings.data.observation.state)}."
            )
        return layout, None

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """No terms: nothing here is learned."""
        return FactorLoss({})

    @override
    @torch.no_grad()
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Recover the action of every row; it costs no function evaluation."""
        assert call.now is not None
        values = call.given[self.futures[0]]
        motion = self._motion(call.given, call.now)
        spec = self.meanings.data.action
        horizon = self.action.steps * self.action.ticks_per_step
        actions, flags = np.zeros((call.rows, horizon, spec.width)), np.zeros(call.rows, dtype=bool)
        for row in range(call.rows):
            actions[row], flags[row] = self._recover(motion, call.now, row, horizon)
        chunk = torch.from_numpy(actions).to(values)
        flagged = {self.action.name: torch.from_numpy(flags).to(values.device)}
        return Generated(
            {self.action.name: self.meanings.action.encode(chunk)}, {self.action.name: 0}, flagged
        )

    def _motion(self, given: Mapping[str, Tensor], now: Observation) -> PointMotion:
        """Points of the body at the steps of all futures."""
        parts = [
            self.meanings.substrates[name].moving_points(given[name], now, self.config.body)
            for name in self.futures
        ]
        later = torch.cat([part.later for part in parts], dim=1)
        known = torch.cat([part.known for part in parts], dim=1)
        return replace(parts[0], later=later, known=known)

    def _recover(
        self, motion: PointMotion, now: Observation, row: int, horizon: int
    ) -> tuple[np.ndarray, bool]:
        """Action (H, A) of one row, and whether it must not be trusted."""
        start, later = (part[row].double().cpu().numpy() for part in (motion.start, motion.later))
        known = motion.known[row].cpu().numpy()
        tracks = np.concatenate((start[None], later))
        visible = np.concatenate((np.ones_like(known[:1]), known))
        path = rigid_path(tracks, visible, self.config.tolerance_m, self.config.share)
        state = now.state[row, -1].double().cpu().numpy()
        rigid = path.rigid & (path.turning | (self.layout.rotation is None and self.config.hold == "centre"))
        lost = not rigid[1:].all()
        last = (
            int(np.argmin(rigid[1:])) if lost else len(rigid) - 1
        )  # steps that are recovered, counted from now
        hand = self._hand(state)
        shifts, turns = self._moved(path, hand, motion.anchored)
        ticks = np.array([0, *self.ticks])[: last + 1]
        shifts, turns = _resampled(ticks, shifts[: last + 1], turns[: last + 1], horizon)
        shifts, kept = self._constrained(hand, shifts)
        action, out = self._commands(hand, state, shifts, turns)
        return action, lost or out or not kept

    def _constrained(self, hand: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, bool]:
        """Displacements (H + 1, 3) near ``shifts`` under the constraints, and whether they hold."""
        follow, spec = self.config.follow, self.meanings.data.action
        if follow is None:
            return shifts, True
        low, high = (np.array(bound[:3]) * self.config.unit_m for bound in (spec.low, spec.high))
        found = follow_path(hand, hand + shifts[1:], low, high, follow)
        near = bool((found.error_m <= follow.error_m).all())
        return np.concatenate((shifts[:1], found.path - hand)), found.feasible and near

    def _hand(self, state: np.ndarray) -> np.ndarray:
        """Position (3,) of the hand; zero where no state entry tells it and only differences count."""
        if self.arm is not None:
            return self.arm.pose(state)[0]
        return state[self.hand] if self.hand else np.zeros(3)

    def _moved(self, path: RigidPath, hand: np.ndarray, anchored: bool) -> tuple[np.ndarray, Rotation]:
        """Displacement (T, 3) and turn of the hand at every step since now, in the world frame."""
        pivot = path.centre if self.config.hold == "centre" else hand
        if self.config.hold == "rigid" and not anchored:
            if self.config.body == "object":
                raise ConfigError(
                    f"{PLACE}: future {self.futures[0]!r} does not tell where in the world its points are, which "
                    f"hold: rigid needs. Use 'object_flow' with space: world, or hold: centre."
                )
            pivot = np.zeros(3)  # the frame of a gripper's own points begins in the hand
        carried = np.einsum("tij,tj->ti", path.rotation, np.broadcast_to(pivot, path.translation.shape))
        return carried + path.translation - pivot, scipy.spatial.transform.Rotation.from_matrix(path.rotation)

    def _commands(
        self, hand: np.ndarray, state: np.ndarray, shifts: np.ndarray, turns: Rotation
    ) -> tuple[np.ndarray, bool]:
        """Actions (H, A) along displacements (H + 1, 3) and turns since now, and whether one is out of reach."""
        spec, moving = self.meanings.data.action, self.layout.moving
        action = np.full((len(shifts) - 1, spec.width), self.config.grip)
        out = False
        if self.arm is not None:
            joints, out = self.arm.follow(state, shifts, turns)
            action[:, :moving] = np.diff(joints, axis=0) if spec.mode == "delta" else joints[1:]
        elif spec.mode == "absolute":
            action[:, :3] = (hand + shifts[1:]) / self.config.unit_m
        else:
            action[:, :3] = np.diff(shifts, axis=0) / self.config.unit_m
            if self.layout.rotation is not None:
                action[:, 3:moving] = write(turns[1:] * turns[:-1].inv(), self.layout.rotation)
        low, high = np.array(spec.low), np.array(spec.high)
        slack = SLACK * (high - low)
        beyond = ((action < low - slack) | (action > high + slack))[:, :moving].any()
        return action, bool(out or beyond)


def _resampled(
    ticks: np.ndarray, shifts: np.ndarray, turns: Rotation, horizon: int
) -> tuple[np.ndarray, Rotation]:
    """Displacements (H + 1, 3) and turns at the ticks 0 to H, at constant speed between steps and held after them."""
    wanted = np.arange(horizon + 1)
    along = np.stack([np.interp(wanted, ticks, shifts[:, k]) for k in range(3)], axis=1)
    if len(ticks) == 1:
        return along, scipy.spatial.transform.Rotation.identity(horizon + 1)
    return along, scipy.spatial.transform.Slerp(ticks, turns)(wanted.clip(max=ticks[-1]))
