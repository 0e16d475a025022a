"""Depth -> tokens of 3D points in a declared frame, with a flag for missing depth (`oe.geometry`, eqs. 8, 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.protocols import DataSpec, Encoder, EncoderConfig
from wamkit.types import Observation, WindowSpec

Frame = Literal["camera", "world", "gripper"]


@EncoderConfig.register_subclass("depth")
@dataclass(frozen=True)
class DepthConfig(EncoderConfig):
    """Depth as 3D points per cell, in a declared frame; missing depth is flagged (survey eqs. 8, 15).

    Attributes:
        camera: the view.
        grid: rows and columns of cells, one token each.
        frame: whose axes the points are given in: the ``camera``, the ``world`` or the ``gripper``.
        points: rows and columns of points read per cell.
        far_m: points farther than this are cut to it.
    """

    camera: str = "scene"
    grid: int = 4
    frame: Frame = "world"
    points: int = 4
    far_m: float = 2.0

    def build(self, data: DataSpec, window: WindowSpec, width: int) -> DepthEncoder:
        """Build; raises :class:`ConfigError` when ground truth is missing or cells do not tile the picture."""
        reader, cameras = "encoder 'depth'", data.observation.cameras
        if self.camera not in cameras:
            raise ConfigError(f"{reader}: no camera {self.camera!r}. {did_you_mean(self.camera, cameras)}")
        names = [f"depth.{self.camera}", f"camera.{self.camera}"]
        names += ["gripper_pose"] if self.frame == "gripper" else []
        shapes = [data.extra(name, reader) for name in names]
        height, width_px = shapes[0]
        if height % (self.grid * self.points) or width_px % (self.grid * self.points):
            raise ConfigError(
                f"{reader}: camera {self.camera!r} has {height} x {width_px} pixels, which {self.grid} cells of "
                f"{self.points} points do not divide"
            )
        return DepthEncoder(self, tuple(names), len(window.observation), width)


@final
class DepthEncoder(Encoder):
    """N = steps x cells. Tokens of a step whose depth is missing are one learned token each: the fallback."""

    def __init__(self, config: DepthConfig, extras: tuple[str, ...], steps: int, width: int) -> None:
        super().__init__()
        self.config, self.extras = config, extras
        self.embed = nn.Sequential(nn.Linear(3 * config.points**2, width), nn.GELU(), nn.Linear(width, width))
        self.cell = nn.Parameter(torch.randn(config.grid**2, width) * 0.02)
        self.fallback = nn.Parameter(torch.randn(width) * 0.02)
        self.time = nn.Parameter(torch.randn(steps, 1, width) * 0.02)

    def points(self, observation: Observation) -> Tensor:
        """Points of every cell in the declared frame, (B, T, cells, points * points, 3), metres."""
        c = self.config
        depth, camera = (observation.extras[name].float() for name in self.extras[:2])
        height, width = depth.shape[-2:]
        step = height // (c.grid * c.points), width // (c.grid * c.points)
        rows = torch.arange(step[0] // 2, height, step[0], device=depth.device)
        columns = torch.arange(step[1] // 2, width, step[1], device=depth.device)
        metres = depth[..., rows[:, None], columns].clamp(0, c.far_m)
        focal = height / 2 / (torch.deg2rad(camera[..., 7]) / 2).tan()[..., None, None]
        x = (columns + 0.5 - width / 2) / focal * metres
        y = (height / 2 - rows[:, None] - 0.5) / focal * metres
        local = torch.stack((x, y, -metres), dim=-1)
        local = rearrange(local, "b t (i h) (j w) d -> b t (i j) (h w) d", h=c.points, w=c.points)
        if c.frame == "camera":
            return local
        world = turned(local, camera[..., 3:7]) + camera[..., None, None, :3]
        if c.frame == "world":
            return world
        gripper = observation.extras["gripper_pose"].float()
        inverse = gripper[..., 3:7] * torch.tensor([1.0, -1.0, -1.0, -1.0], device=depth.device)
        return turned(world - gripper[..., None, None, :3], inverse)

    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """See :class:`wamkit.protocols.Encoder`."""
        for name in self.extras:
            if name not in observation.extras:
                raise SpecError(
                    f"no extra {name!r} in the observation. {did_you_mean(name, observation.extras)}"
                )
        gone = observation.missing.get(self.extras[0], torch.zeros_like(observation.pad))
        points = torch.where(gone[..., None, None, None], 0.0, self.points(observation))
        tokens = self.embed(points.flatten(3))
        tokens = torch.where(gone[..., None, None], self.fallback, tokens)
        tokens = tokens + self.cell + self.time[-tokens.shape[1] :]
        return tokens.flatten(1, 2), observation.pad.repeat_interleave(tokens.shape[2], dim=1)


def turned(points: Tensor, quaternion: Tensor) -> Tensor:
    """Rotate points (B, T, N, M, 3) by quaternions w, x, y, z (B, T, 4)."""
    q = F.normalize(quaternion, dim=-1)[..., None, None, :].expand(*points.shape[:-1], 4)
    w, v = q[..., :1], q[..., 1:]
    cross = 2 * torch.linalg.cross(v, points)
    return points + w * cross + torch.linalg.cross(v, cross)
