"""Depth -> tokens of 3D points in a declared frame, with a flag for missing depth (`oe.geometry`, eqs. 8, 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from typing_extensions import override

from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig, Windows
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.imputed_depth import DepthImputer
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.geometry.cameras import rays, to_world
from wamkit.geometry.rotations import from_quaternion

DepthFrame = Literal["camera", "world", "gripper"]
FIT_FRAMES = 512


@EncoderConfig.register_subclass("depth")
@dataclass(frozen=True)
class DepthConfig(EncoderConfig):
    """Depth as 3D points per cell, in a declared frame; missing depth is flagged (survey eqs. 8, 15).

    Attributes:
        camera: name of the camera.
        grid: rows and columns of cells, one token each.
        frame: coordinate frame of the points: ``camera``, ``world`` or ``gripper``.
        points: rows and columns of points read per cell.
        far_m: largest depth, metres; larger values are clamped to it.
        impute: true to estimate missing depth from the camera's picture, by a network fitted on the dataset
            before training.
        impute_steps: training steps of the imputation network.
        dropout: probability that depth is hidden from a training row, so that the sensor may fail when acting.
    """

    camera: str = "scene"
    grid: int = 4
    frame: DepthFrame = "world"
    points: int = 4
    far_m: float = 2.0
    impute: bool = False
    impute_steps: int = 400
    dropout: float = 0.0

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> DepthEncoder:
        """Build; raises :class:`ConfigError` when ground truth is missing or cells do not tile the picture."""
        reader = "encoder 'depth'"
        view = data.camera(self.camera, reader)
        if not 0 <= self.dropout <= 1:
            raise ConfigError(
                f"{reader}: dropout = {self.dropout} is not a probability; give a value from 0 to 1"
            )
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
        picture = view.height, view.width
        if self.impute and picture != (height, width_px):
            raise ConfigError(
                f"{reader}: pictures of camera {self.camera!r} have {picture[0]} x {picture[1]} pixels and its depth "
                f"{height} x {width_px}; depth can be imputed where they agree. Set `impute` to false."
            )
        return DepthEncoder(self, tuple(names), (height, width_px), len(window.observation), width)


@final
class DepthEncoder(Encoder):
    """N = steps x cells. Tokens of a step without depth carry the fallback, one learned vector.

    Without an imputer the fallback replaces the token; with one it is added to the token of the imputed points. A
    step without camera or gripper pose has no points in the declared frame: its tokens are the fallback alone.
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
            # Forked, so that the design's other initial weights do not depend on the imputer.
            with torch.random.fork_rng(devices=[]):
                side = config.grid * config.points
                self.imputer = DepthImputer(side, size, config.far_m, config.impute_steps)

    @override
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the imputer on frames with measured depth; raises :class:`DataError` when there is none."""
        if self.imputer is None:
            return
        index = np.random.default_rng(seed).permutation(windows.num_frames)[:FIT_FRAMES]
        frames = windows.windows(np.sort(index), WindowSpec(horizon=1)).observation
        self._check(frames, self.extras[:1])
        valid = ~self.lacks(frames, self.extras[:1])[:, 0]
        pictures, metres = frames.view(self.config.camera)[valid, 0], self.measured(frames)[valid, 0]
        device = self.cell.device
        self.imputer.fit(pictures.to(device), metres.to(device), seed)

    def _check(self, observation: Observation, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in observation.extras:
                raise SpecError(
                    f"no extra {name!r} in the observation. {did_you_mean(name, observation.extras)}"
                )

    def lacks(self, observation: Observation, names: tuple[str, ...]) -> Tensor:
        """Flags (B, T) bool, True where one of the extras ``names`` is flagged as missing or absent altogether."""
        gone = torch.zeros_like(observation.pad)
        for name in names:
            if name not in observation.extras:
                return torch.ones_like(gone)
            gone = gone | observation.missing.get(name, gone)
        return gone

    def _pixels(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows and columns of the pixels at which points are read, (grid * points,) each."""
        (height, width), side = self.size, self.config.grid * self.config.points
        rows = torch.arange(height // side // 2, height, height // side, device=device)
        columns = torch.arange(width // side // 2, width, width // side, device=device)
        return rows, columns

    def measured(self, observation: Observation) -> Tensor:
        """Measured depth at every point, metres: (B, T, rows, columns)."""
        depth = observation.extras[self.extras[0]].float()
        rows, columns = self._pixels(depth.device)
        return depth[..., rows[:, None], columns]

    def imputed(self, observation: Observation) -> Tensor:
        """Depth at every point estimated from the picture, metres: (B, T, rows, columns)."""
        assert self.imputer is not None
        pictures = observation.view(self.config.camera)
        return self.imputer(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])

    def lifted(self, metres: Tensor, observation: Observation) -> Tensor:
        """Depths (B, T, rows, columns) -> points in the declared frame, (B, T, cells, points * points, 3), metres."""
        c = self.config
        camera = observation.extras[self.extras[1]].float()
        rows, columns = self._pixels(metres.device)
        pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1) + 0.5
        points = rays(camera, pixels, *self.size) * metres.clamp(0, c.far_m).flatten(2)[..., None]
        if c.frame != "camera":
            points = to_world(points, camera)
        if c.frame == "gripper":
            gripper = observation.extras["gripper_pose"].float()
            points = (points - gripper[..., None, :3]) @ from_quaternion(gripper[..., 3:7])
        pattern = "b t (i h j w) d -> b t (i j) (h w) d"
        return rearrange(points, pattern, i=c.grid, j=c.grid, h=c.points, w=c.points)

    def points(self, observation: Observation) -> Tensor:
        """Measured points of every cell in the declared frame: (B, T, cells, points * points, 3), metres."""
        return self.lifted(self.measured(observation), observation)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Tokens and their padding. With an imputer, depth may be left out of the observation."""
        self._check(observation, self.extras if self.imputer is None else self.extras[1:])
        gone = self.lacks(observation, self.extras[:1])
        if self.training and self.config.dropout:
            gone = gone | (torch.rand(len(gone), 1, device=gone.device) < self.config.dropout)
        unposed = self.lacks(observation, self.extras[1:])
        tokens = self.embed(self._points(observation, gone, unposed).flatten(3))
        mark = self.fallback if self.imputer is None else tokens + self.fallback
        tokens = torch.where(gone[..., None, None], mark, tokens)
        tokens = torch.where(unposed[..., None, None], self.fallback, tokens)
        tokens = tokens + self.cell + self.time[-tokens.shape[1] :]
        return tokens.flatten(1, 2), observation.pad.repeat_interleave(tokens.shape[2], dim=1)

    def _points(self, observation: Observation, gone: Tensor, unposed: Tensor) -> Tensor:
        """Measured points, imputed ones where depth is ``gone``, zero where neither exists."""
        metres = None if self.extras[0] not in observation.extras else self.measured(observation)
        if metres is None or (self.imputer is not None and bool(gone.any())):
            estimate = self.imputed(observation)
            metres = estimate if metres is None else torch.where(gone[..., None, None], estimate, metres)
        invalid = unposed | gone if self.imputer is None else unposed
        return torch.where(invalid[..., None, None, None], 0.0, self.lifted(metres, observation))
