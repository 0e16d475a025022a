"""Future motion of rigid bodies (`ps.motion-geometry`, eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Length, Positive
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.streams import PointMotion, Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.geometry.rotations import from_quaternion, from_six_d, six_d
from wamkit.substrates.views import first_pose

Body = Literal["object", "gripper"]


@SubstrateConfig.register_subclass("pose_stream")
@dataclass(frozen=True)
class PoseStreamConfig(SubstrateConfig):
    """Motion of object and gripper since now: translation and 6D rotation (survey eq. 15; Zhou et al. 2019).

    Attributes:
        bodies: bodies to predict, one token each: ``object`` (the first movable body of the task), ``gripper``.
        unit_m: metres that count as one.
    """

    extras: ClassVar[tuple[str, ...]] = ("{bodies}_pose",)
    bodies: Annotated[tuple[Body, ...], Length(1, once=True)] = ("object", "gripper")
    unit_m: Positive = 0.1

    @override
    def build(self, data: DataSpec) -> PoseStream:
        """Build; raises :class:`ConfigError` when the dataset lacks a pose."""
        for body in self.bodies:
            data.extra(f"{body}_pose", "substrate 'pose_stream'")
        return PoseStream(self)


@final
class PoseStream(Substrate):
    """Motion since now (B, T, bodies, 9): translation in ``unit_m`` along world axes, and 6D rotation."""

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "pose"
    relative = True
    rebases = True

    def __init__(self, config: PoseStreamConfig) -> None:
        super().__init__()
        self.config = config
        self.extras = tuple(f"{body}_pose" for body in config.bodies)
        self.moves = dict.fromkeys(config.bodies, ())

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, len(self.config.bodies), 9)

    def poses(self, observation: Observation) -> Tensor:
        """Poses of the configured bodies, (B, T, bodies, 7)."""
        return torch.stack([first_pose(observation, name) for name in self.extras], dim=2)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        later, before = self.poses(observation), self.poses(now)
        shift = (later[..., :3] - before[..., :3]) / self.config.unit_m
        rotation = from_quaternion(later[..., 3:]) @ from_quaternion(before[..., 3:]).transpose(-1, -2)
        return torch.cat((shift, six_d(rotation)), dim=-1)

    @override
    def rebase(self, values: Tensor, observation: Observation, now: Observation) -> Tensor:
        covered = self.encode(observation, now)  # (B, 1, bodies, 9), motion from now to the observation
        rotation = from_six_d(values[..., 3:]) @ from_six_d(covered[..., 3:]).transpose(-1, -2)
        return torch.cat((values[..., :3] - covered[..., :3], six_d(rotation)), dim=-1)

    def motion(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Rotation (B, T, bodies, 3, 3) and translation in metres (B, T, bodies, 3) since now.

        A point x of a body whose origin was at p moves to ``rotation @ (x - p) + p + translation``.
        """
        return from_six_d(values[..., 3:]), values[..., :3] * self.config.unit_m

    @override
    def moving_points(self, values: Tensor, now: Observation, body: str) -> PointMotion:
        """Six points around the body's origin, which is the origin of their frame."""
        index = [str(name) for name in self.config.bodies].index(body)
        rotation, shift = (part[:, :, index] for part in self.motion(values))
        axes = 0.1 * torch.eye(3, device=values.device)
        start = torch.cat((axes, -axes)).expand(len(values), -1, -1)
        later = start[:, None] @ rotation.transpose(-1, -2) + shift[:, :, None]
        known = torch.ones(later.shape[:3], dtype=torch.bool, device=values.device)
        return PointMotion(start, later, known, anchored=False)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        rotation, shift = self.motion(values)
        return {"place": Reading("displacement", shift, "m"), "rotation": Reading("rotation", rotation)}
