"""Two points of a picture, "this" and "that": what is meant, and where to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wamkit.contract.data import DataSpec
from wamkit.contract.specs import CameraSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.geometry.cameras import NEAR_M, project


@dataclass(frozen=True)
class PixelPoints:
    """Points of a picture as pixels: of a body now and at the goal, or as they were clicked.

    Attributes:
        size: the camera's spec.
        extras: ``camera.NAME`` and the extra with poses, or the extra with clicks alone.
        part: whose points they are, for messages.
        camera: name of the camera.
    """

    size: CameraSpec
    extras: tuple[str, ...]
    part: str
    camera: str

    @classmethod
    def of_poses(cls, camera: str, pose: str, data: DataSpec, part: str) -> PixelPoints:
        """Points where the first body of the extra ``pose`` is: x, y, z in metres, in the world.

        Raises:
            ConfigError: the camera, its pose or the extra is missing, or the extra holds no places.
        """
        size = data.camera(camera, part)
        shapes = [data.extra(name, part) for name in (f"camera.{camera}", pose)]
        if not shapes[1] or shapes[1][-1] < 3:
            raise ConfigError(
                f"{part}: extra {pose!r} has shape {shapes[1]}, needs (..., 3) or more: x, y and z."
            )
        return cls(size, (f"camera.{camera}", pose), part, camera)

    @classmethod
    def of_clicks(cls, camera: str, clicks: str, data: DataSpec, part: str) -> PixelPoints:
        """Points of the extra ``clicks``; raises :class:`ConfigError` when it or the camera is missing or unfit."""
        size = data.camera(camera, part)
        if (shape := data.extra(clicks, part)) != (2, 2):
            raise ConfigError(
                f"{part}: extra {clicks!r} has shape {shape}, needs (2, 2): x and y of two clicks."
            )
        return cls(size, (clicks,), part, camera)

    @property
    def goal(self) -> bool:
        """True when "that" is read from the goal observation."""
        return len(self.extras) == 2

    @property
    def pixels(self) -> dict[str, str]:
        """The extra that holds coordinates of pixels -> the camera; empty for poses."""
        return {} if self.goal else {self.extras[0]: self.camera}

    def places(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Places (B, 2, 2) of "this" and "that" as x and y in pixels, and which of them are known, (B, 2) bool.

        A negative entry of a click is no click; without a goal, "that" is unknown.

        Raises:
            SpecError: the observation lacks an extra.
        """
        if not self.goal:
            clicked = self._extra(observation, self.extras[0]).float()
            return clicked, (clicked >= 0).all(dim=2)
        camera, this = self._extra(observation, self.extras[0]), self._body(observation)
        goal = observation.goal
        that = this if goal is None else self._body(goal)
        places, depth = project(torch.cat((this, that), dim=1), camera, self.size.height, self.size.width)
        known = depth > NEAR_M
        given = torch.zeros_like(known[:, 1]) if goal is None else ~goal.pad[:, -1]
        return places, torch.stack((known[:, 0], known[:, 1] & given), dim=1)

    def share(self, places: Tensor) -> Tensor:
        """Places in pixels -> shares of the picture, -1 at its left and upper edge and 1 at the others."""
        return places / places.new_tensor([self.size.width, self.size.height]) * 2 - 1

    def _body(self, observation: Observation) -> Tensor:
        """Place (B, 1, 3) of the first body."""
        poses = self._extra(observation, self.extras[1])
        return poses.reshape(len(poses), -1, poses.shape[-1])[:, :1, :3]

    def _extra(self, observation: Observation, name: str) -> Tensor:
        if name not in observation.extras:
            raise SpecError(f"{self.part}: no extra {name!r}. {did_you_mean(name, observation.extras)}")
        return observation.extras[name][:, -1]
