"""Scene memory: observed steps fused into voxels and rendered from a fixed viewpoint (`mm.spatial-memory`, eq. 36).

The memory reaches back as far as the design's observed steps, which :func:`wamkit.memory.sparse_history` can space.
Every call rebuilds it from those steps, so that it is the same in training and in the closed loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Finite, Positive, Size, SomeWords
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.memory.spatial import SpatialMemory

PART = "encoder 'scene_memory'"
CHANNELS = 5  # red, green, blue, nearness, known


@EncoderConfig.register_subclass("scene_memory")
@dataclass(frozen=True)
class SceneMemoryConfig(EncoderConfig):
    """Spatial memory: observed steps fused into voxels, rendered from a fixed viewpoint (3D-ALP, survey eq. 36).

    An object that is occluded now is still in the rendered picture if an earlier observed step shows it.

    Attributes:
        cameras: names of the cameras to remember; each needs its depth and pose as extras.
        viewpoint: camera that renders the memory: position x, y, z in metres, quaternion w, x, y, z (axes right, up,
            backward; world frame) and vertical field of view in degrees. The default looks straight down.
        size: rows and columns of the rendered picture in pixels.
        patch: side of a patch in pixels; every patch becomes one token.
        voxel_m: side of a voxel in metres.
        far_m: largest depth in metres that is stored.
    """

    extras: ClassVar[tuple[str, ...]] = ("depth.{cameras}", "camera.{cameras}")
    cameras: SomeWords = ("scene",)
    viewpoint: tuple[Finite, ...] = (0.0, 0.65, 1.0, 1.0, 0.0, 0.0, 0.0, 50.0)
    size: Size = 32
    patch: Size = 8
    voxel_m: Positive = 0.03
    far_m: Positive = 2.0

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> SceneMemory:
        """Build; raises :class:`ConfigError` for a bad viewpoint, a camera without depth or pose, or bad patches."""
        if len(self.viewpoint) != 8 or not 0 < self.viewpoint[-1] < 180:
            raise ConfigError(
                f"{PART}: viewpoint {self.viewpoint} must have 8 entries (position, quaternion, field of view in "
                f"degrees between 0 and 180)"
            )
        if self.size % self.patch:
            raise ConfigError(f"{PART}: patches of {self.patch} pixels do not divide a side of {self.size}")
        names = []
        for camera in self.cameras:
            view = data.camera(camera, PART)
            depth = data.extra(f"depth.{camera}", PART)
            data.extra(f"camera.{camera}", PART)
            if depth != (view.height, view.width):
                raise ConfigError(
                    f"{PART}: pictures of camera {camera!r} have {view.height} x {view.width} pixels and its depth "
                    f"{depth}; record both at the same size"
                )
            names += [f"depth.{camera}", f"camera.{camera}"]
        return SceneMemory(self, tuple(names), width)


@final
class SceneMemory(Encoder):
    """Patches of the rendered memory as tokens; steps that are padded or lack depth or pose are skipped."""

    def __init__(self, config: SceneMemoryConfig, extras: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.config, self.extras = config, extras
        tokens = (config.size // config.patch) ** 2
        self.embed = nn.Sequential(
            nn.Conv2d(CHANNELS, width, config.patch, stride=config.patch),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
        )
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)

    def store(self, observation: Observation, row: int) -> SpatialMemory:
        """Memory of the observed steps of one row, taken in from the oldest on."""
        memory = SpatialMemory(self.config.voxel_m, self.config.far_m)
        for step in range(observation.pad.shape[1]):
            if bool(observation.pad[row, step]):
                continue
            for camera in self.config.cameras:
                names = (f"depth.{camera}", f"camera.{camera}")
                read = (camera, *names)
                if any(n in observation.missing and bool(observation.missing[n][row, step]) for n in read):
                    continue
                depth, pose = (observation.extras[name][row, step].float().cpu() for name in names)
                colour = observation.view(camera)[row, step].permute(1, 2, 0).float().cpu()
                memory.observe(depth, pose, colour / 127.5 - 1)
        return memory

    def drawn(self, observation: Observation) -> Tensor:
        """Picture of every row's memory from the viewpoint, (B, 5, size, size); zero where nothing is known.

        Channels are red, green and blue in [-1, 1], inverse depth in 1 / m and 1 where the pixel is known.
        """
        camera = torch.tensor(self.config.viewpoint)
        pictures = []
        for row in range(observation.batch_size):
            view = self.store(observation, row).render(camera, self.config.size, self.config.size)
            nearness = torch.where(view.known, 1 / view.depth, 0.0)
            colours = view.values if view.values.shape[-1] else view.values.new_zeros(*view.known.shape, 3)
            pictures.append(torch.cat((colours, nearness[..., None], view.known[..., None].float()), dim=-1))
        return torch.stack(pictures).permute(0, 3, 1, 2).to(self.position.device)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        for name in self.extras:
            if name not in observation.extras:
                raise SpecError(
                    f"no extra {name!r} in the observation. {did_you_mean(name, observation.extras)}"
                )
        tokens = self.embed(self.drawn(observation)).flatten(2).transpose(1, 2) + self.position
        return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
