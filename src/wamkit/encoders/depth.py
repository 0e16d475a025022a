"""Depth map -> tokens of 3D points in a chosen frame, with a flag for missing depth (`oe.geometry`, eqs. 8, 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Count, Positive, Probability, Size, Word
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Encoder, EncoderConfig
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
    """Depth map as 3D points per cell, in a chosen frame; missing depth is flagged (survey eqs. 8, 15).

    Attributes:
        camera: name of the camera.
        grid: rows and columns of the grid of cells; every cell becomes one token.
        frame: coordinate frame of the points: ``camera``, ``world`` or ``gripper``.
        points: rows and columns of the points sampled per cell.
        far_m: largest depth in metres; larger ones are clamped to it.
        impute: true to estimate missing depth from the camera's picture, with a network that is fitted on the dataset
            before training.
        impute_steps: training steps of the imputation network.
        dropout: probability that the depth of a training row is masked, so that acting tolerates a failed sensor.
    """

    extras: ClassVar[tuple[str, ...]] = (
        "depth.{camera}",
        "camera.{camera}",
        "gripper_pose (`frame` gripper)",
    )
    camera: Word = "scene"
    grid: Size = 4
    frame: DepthFrame = "world"
    points: Size = 4
    far_m: Positive = 2.0
    impute: bool = False
    impute_steps: Count = 400
    dropout: Probability = 0.0

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> DepthEncoder:
        """Build; raises :class:`ConfigError` when an extra is missing or cells do not tile the depth map."""
        reader = "encoder 'depth'"
        camera = data.camera(self.camera, reader)
        names = [f"depth.{self.camera}", f"camera.{self.camera}"]
        names += ["gripper_pose"] if self.frame == "gripper" else []
        shapes = [data.extra(name, reader) for name in names]
        height, width_px = shapes[0]
        if height % (self.grid * self.points) or width_px % (self.grid * self.points):
            raise ConfigError(
                f"{reader}: camera {self.camera!r} has {height} x {width_px} pixels, which {self.grid} cells of "
                f"{self.points} points do not divide"
            )
        picture = camera.height, camera.width
        if self.impute and picture != (height, width_px):
            raise ConfigError(
                f"{reader}: pictures of camera {self.camera!r} have {picture[0]} x {picture[1]} pixels and its depth "
                f"{height} x {width_px}; imputation needs equal sizes. Set `impute` to false."
            )
        return DepthEncoder(self, tuple(names), (height, width_px), len(window.observation), width)


@final
class DepthEncoder(Encoder):
    """3D points per cell as tokens, N = steps x cells; a learned fallback vector marks missing depth.

    Without imputation, the fallback replaces the content of the token; with imputation, it is added to the embedding of
    the imputed points. A step whose camera or gripper pose is missing has no points in the chosen frame, so its tokens
    are the fallback alone.
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
            # Forked, so that the design's other initial weights are the same with and without imputation.
            with torch.random.fork_rng(devices=[]):
                side = config.grid * config.points
                self.imputer = DepthImputer(side, size, config.far_m, config.impute_steps)

    @override
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the imputer on frames with measured depth; raises :class:`DataError` when there are none."""
        if self.imputer is None:
            return
        index = np.random.default_rng(seed).permutation(windows.num_frames)[:FIT_FRAMES]
        frames = windows.windows(np.sort(index), WindowSpec(horizon=1)).observation
        self._check(frames, self.extras[:1])
        rows = ~self.lacks(frames, self.extras[:1])[:, 0]
        pictures, metres = frames.view(self.config.camera)[rows, 0], self.measured(frames)[rows, 0]
        device = self.cell.device
        self.imputer.fit(pictures.to(device), metres.to(device), seed)

    def _check(self, observation: Observation, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in observation.extras:
                raise SpecError(
                    f"no extra {name!r} in the observation. {did_you_mean(name, observation.extras)}"
                )

    def lacks(self, observation: Observation, names: tuple[str, ...]) -> Tensor:
        """Steps at which one of the extras ``names`` is flagged as missing or was not passed: (B, T) bool."""
        missing = torch.zeros_like(observation.pad)
        for name in names:
            if name not in observation.extras:
                return torch.ones_like(missing)
            missing = missing | observation.missing.get(name, missing)
        return missing

    def _pixels(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows and columns of the sampled pixels, (grid * points,) each."""
        (height, width), side = self.size, self.config.grid * self.config.points
        rows = torch.arange(height // side // 2, height, height // side, device=device)
        columns = torch.arange(width // side // 2, width, width // side, device=device)
        return rows, columns

    def measured(self, observation: Observation) -> Tensor:
        """Measured depth of every point in metres, unclamped: (B, T, rows, columns)."""
        depth = observation.extras[self.extras[0]].float()
        rows, columns = self._pixels(depth.device)
        return depth[..., rows[:, None], columns]

    def imputed(self, observation: Observation) -> Tensor:
        """Depth of every point in metres, estimated from the picture: (B, T, rows, columns).

        Raises:
            ConfigError: the encoder was built without imputation.
        """
        if self.imputer is None:
            raise ConfigError("encoder 'depth': depth is not imputed. Set `impute` to true.")
        pictures, _ = observation.shown(self.config.camera)
        return self.imputer(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])

    def lifted(self, metres: Tensor, observation: Observation) -> Tensor:
        """Depths (B, T, rows, columns) -> points in the chosen frame, (B, T, cells, points * points, 3), metres."""
        side = self.config.points
        camera = observation.extras[self.extras[1]].float()
        rows, columns = torch.meshgrid(*self._pixels(metres.device), indexing="ij")
        centres = torch.stack((columns, rows), dim=-1).flatten(0, 1) + 0.5
        depth = metres.clamp(0, self.config.far_m).flatten(2)
        points = rays(camera, centres, *self.size) * depth[..., None]
        if self.config.frame != "camera":
            points = to_world(points, camera)
        if self.config.frame == "gripper":
            gripper = observation.extras["gripper_pose"].float()
            points = (points - gripper[..., None, :3]) @ from_quaternion(gripper[..., 3:])
        i, h, j = metres.shape[2] // side, side, metres.shape[3] // side
        return rearrange(points, "b t (i h j w) d -> b t (i j) (h w) d", i=i, h=h, j=j)

    def points(self, observation: Observation) -> Tensor:
        """Measured points in the chosen frame: (B, T, cells, points * points, 3), metres."""
        return self.lifted(self.measured(observation), observation)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Return tokens and padding; with imputation, the observation may come without depth."""
        self._check(observation, self.extras if self.imputer is None else self.extras[1:])
        missing = self.lacks(observation, self.extras[:1])
        if self.training and self.config.dropout:
            missing = missing | (torch.rand(len(missing), 1, device=missing.device) < self.config.dropout)
        no_pose = self.lacks(observation, self.extras[1:])
        tokens = self.embed(self._points(observation, missing, no_pose).flatten(3))
        marked = self.fallback if self.imputer is None else tokens + self.fallback
        tokens = torch.where(missing[..., None, None], marked, tokens)
        tokens = torch.where(no_pose[..., None, None], self.fallback, tokens)
        tokens = tokens + self.cell + self.time[-tokens.shape[1] :]
        return tokens.flatten(1, 2), observation.pad.repeat_interleave(tokens.shape[2], dim=1)

    def _points(self, observation: Observation, missing: Tensor, no_pose: Tensor) -> Tensor:
        """Measured points; imputed ones where depth is ``missing``; zero where there are neither, or ``no_pose``."""
        metres = None if self.extras[0] not in observation.extras else self.measured(observation)
        if metres is None or (self.imputer is not None and bool(missing.any())):
            estimate = self.imputed(observation)
            metres = estimate if metres is None else torch.where(missing[..., None, None], estimate, metres)
        empty = no_pose | missing if self.imputer is None else no_pose
        return torch.where(empty[..., None, None, None], 0.0, self.lifted(metres, observation))
