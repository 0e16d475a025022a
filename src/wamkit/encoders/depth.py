"""Depth -> tokens of 3D points in a declared frame, with a flag for missing depth (`oe.geometry`, eqs. 8, 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig, Windows
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.imputed_depth import DepthImputer
from wamkit.errors import ConfigError, SpecError, did_you_mean

DepthFrame = Literal["camera", "world", "gripper"]


FIT_FRAMES = 512


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
        impute: whether missing depth is estimated from the camera's picture, by a network that is fitted on the
            dataset before training.
        impute_steps: training steps of that network.
        dropout: probability that a training row misses depth, so that it may fail when acting.
    """

    camera: str = "scene"
    grid: int = 4
    frame: DepthFrame = "world"
    points: int = 4
    far_m: float = 2.0
    impute: bool = False
    impute_steps: int = 400
    dropout: float = 0.0

    def build(self, data: DataSpec, window: WindowSpec, width: int) -> DepthEncoder:
        """Build; raises :class:`ConfigError` when ground truth is missing or cells do not tile the picture."""
        reader, cameras = "encoder 'depth'", data.observation.cameras
        if self.camera not in cameras:
            raise ConfigError(f"{reader}: no camera {self.camera!r}. {did_you_mean(self.camera, cameras)}")
        if not 0 <= self.dropout <= 1:
            raise ConfigError(f"{reader}: dropout = {self.dropout} is no probability; give one of 0 to 1")
        if self.impute and self.impute_steps < 1:
            raise ConfigError(f"{reader}: impute_steps = {self.impute_steps} cannot train; give at least 1")
        names = [f"depth.{self.camera}", f"camera.{self.camera}"]
        names += ["gripper_pose"] if self.frame == "gripper" else []
        shapes = [data.extra(name, reader) for name in names]
        height, width_px = shapes[0]
        if height % (self.grid * self.points) or width_px % (self.grid * self.points):
            raise ConfigError(
                f"{reader}: camera {self.camera!r} has {height} x {width_px} pixels, which {self.grid} cells of "
                f"{self.points} points do not divide"
            )
        picture = cameras[self.camera].height, cameras[self.camera].width
        if self.impute and picture != (height, width_px):
            raise ConfigError(
                f"{reader}: pictures of camera {self.camera!r} have {picture[0]} x {picture[1]} pixels and its depth "
                f"{height} x {width_px}; depth can be imputed where they agree. Set `impute` to false."
            )
        return DepthEncoder(self, tuple(names), (height, width_px), len(window.observation), width)


@final
class DepthEncoder(Encoder):
    """N = steps x cells. Tokens of a step without depth carry the fallback, one learned vector.

    It is their only content where nothing is imputed, and added to what the imputed points give where they are. A
    step whose camera or gripper pose is missing has no points in the declared frame: the fallback stands alone.
    """

    def __init__(
        self, config: DepthConfig, extras: tuple[str, ...], size: tuple[int, int], steps: int, width: int
    ) -> None:
        super().__init__()
        self.config, self.extras, self.size = config, extras, size
        self.embed = nn.Sequential(nn.Linear(3 * config.points**2, width), nn.GELU(), nn.Linear(width, width))
        self.cell = nn.Parameter(torch.randn(config.grid**2, width) * 0.02)
        self.fallback = nn.Parameter(torch.randn(width) * 0.02)
        self.time = nn.Parameter(torch.randn(steps, 1, width) * 0.02)
        self.imputer: DepthImputer | None = None
        if config.impute:
            with torch.random.fork_rng(devices=[]):  # the design's other weights are those without it
                side = config.grid * config.points
                self.imputer = DepthImputer(side, size, config.far_m, config.impute_steps)

    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the imputer on frames whose depth is there; raises :class:`DataError` when there is none."""
        if self.imputer is None:
            return
        index = np.random.default_rng(seed).permutation(windows.num_frames)[:FIT_FRAMES]
        frames = windows.windows(np.sort(index), WindowSpec(horizon=1)).observation
        self._check(frames, self.extras[:1])
        there = ~self.lacks(frames, self.extras[:1])[:, 0]
        pictures, metres = frames.images[self.config.camera][there, 0], self.measured(frames)[there, 0]
        device = self.cell.device
        self.imputer.fit(pictures.to(device), metres.to(device), seed)

    def _check(self, observation: Observation, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in observation.extras:
                raise SpecError(
                    f"no extra {name!r} in the observation. {did_you_mean(name, observation.extras)}"
                )

    def lacks(self, observation: Observation, names: tuple[str, ...]) -> Tensor:
        """Where one of the extras ``names`` is flagged as missing, or is not there at all: (B, T) bool."""
        gone = torch.zeros_like(observation.pad)
        for name in names:
            if name not in observation.extras:
                return torch.ones_like(gone)
            gone = gone | observation.missing.get(name, gone)
        return gone

    def measured(self, observation: Observation) -> Tensor:
        """Depth at every point, metres as the sensor gave them: (B, T, rows, columns)."""
        depth = observation.extras[self.extras[0]].float()
        (height, width), side = self.size, self.config.grid * self.config.points
        rows = torch.arange(height // side // 2, height, height // side, device=depth.device)
        columns = torch.arange(width // side // 2, width, width // side, device=depth.device)
        return depth[..., rows[:, None], columns]

    def imputed(self, observation: Observation) -> Tensor:
        """Depth at every point as the picture suggests it, metres: (B, T, rows, columns)."""
        assert self.imputer is not None
        pictures = observation.images[self.config.camera]
        return self.imputer(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])

    def lifted(self, metres: Tensor, observation: Observation) -> Tensor:
        """Depths (B, T, rows, columns) -> points in the declared frame, (B, T, cells, points * points, 3), metres."""
        c = self.config
        camera = observation.extras[self.extras[1]].float()
        (height, width), side = self.size, c.grid * c.points
        rows = torch.arange(height // side // 2, height, height // side, device=metres.device)
        columns = torch.arange(width // side // 2, width, width // side, device=metres.device)
        metres = metres.clamp(0, c.far_m)
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
        inverse = gripper[..., 3:7] * torch.tensor([1.0, -1.0, -1.0, -1.0], device=metres.device)
        return turned(world - gripper[..., None, None, :3], inverse)

    def points(self, observation: Observation) -> Tensor:
        """Points of every cell as measured, in the declared frame: (B, T, cells, points * points, 3), metres."""
        return self.lifted(self.measured(observation), observation)

    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """See :class:`wamkit.contract.Encoder`. With an imputer, depth may be left out of the observation."""
        self._check(observation, self.extras if self.imputer is None else self.extras[1:])
        gone = self.lacks(observation, self.extras[:1])
        if self.training and self.config.dropout:
            gone = gone | (torch.rand(len(gone), 1, device=gone.device) < self.config.dropout)
        adrift = self.lacks(observation, self.extras[1:])
        tokens = self.embed(self._points(observation, gone, adrift).flatten(3))
        mark = self.fallback if self.imputer is None else tokens + self.fallback
        tokens = torch.where(gone[..., None, None], mark, tokens)
        tokens = torch.where(adrift[..., None, None], self.fallback, tokens)
        tokens = tokens + self.cell + self.time[-tokens.shape[1] :]
        return tokens.flatten(1, 2), observation.pad.repeat_interleave(tokens.shape[2], dim=1)

    def _points(self, observation: Observation, gone: Tensor, adrift: Tensor) -> Tensor:
        """Measured points, imputed ones where depth is ``gone``, zero where there are neither."""
        metres = None if self.extras[0] not in observation.extras else self.measured(observation)
        if metres is None or (self.imputer is not None and bool(gone.any())):
            estimate = self.imputed(observation)
            metres = estimate if metres is None else torch.where(gone[..., None, None], estimate, metres)
        lost = adrift | gone if self.imputer is None else adrift
        return torch.where(lost[..., None, None, None], 0.0, self.lifted(metres, observation))


def turned(points: Tensor, quaternion: Tensor) -> Tensor:
    """Rotate points (B, T, N, M, 3) by quaternions w, x, y, z (B, T, 4)."""
    q = F.normalize(quaternion, dim=-1)[..., None, None, :].expand(*points.shape[:-1], 4)
    w, v = q[..., :1], q[..., 1:]
    cross = 2 * torch.linalg.cross(v, points)
    return points + w * cross + torch.linalg.cross(v, cross)
