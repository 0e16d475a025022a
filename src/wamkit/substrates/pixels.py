"""Future frames themselves: RGB (`ps.pixel-decoded`, eq. 13), with depth and normals (`ps.multiview-4d`, eq. 15)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.contract.protocols import Category, DataSpec, Substrate, SubstrateConfig, Windows
from wamkit.contract.scales import Scale
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError, did_you_mean
from wamkit.substrates.codecs import Codec, CodecConfig, PatchPCAConfig, from_patches, to_patches
from wamkit.substrates.normals import surface_normals
from wamkit.substrates.point_sets import scene_points

FIT_FRAMES = 600


def known_cameras(cameras: tuple[str, ...], data: DataSpec, reader: str) -> tuple[str, ...]:
    """The named cameras, or all; raises :class:`ConfigError` when there is none or one is unknown."""
    for camera in cameras:
        if camera not in data.observation.cameras:
            raise ConfigError(
                f"{reader}: no camera {camera!r}. {did_you_mean(camera, data.observation.cameras)}"
            )
    if not data.observation.cameras:
        raise ConfigError(f"{reader}: the dataset has no camera. Choose another substrate.")
    return cameras or tuple(sorted(data.observation.cameras))


@SubstrateConfig.register_subclass("pixels")
@dataclass(frozen=True)
class PixelsConfig(SubstrateConfig):
    """Future RGB frames as they are, patch by patch, optionally smaller (survey eq. 13).

    Attributes:
        cameras: camera names; empty means all.
        shrink: pixels per side that are averaged into one; 1 keeps the picture bit for bit.
        patch: side of a patch, pixels of the shrunken picture; one token each.
    """

    cameras: tuple[str, ...] = ()
    shrink: int = 4
    patch: int = 4

    @override
    def build(self, data: DataSpec) -> Pixels:
        """Build; raises :class:`ConfigError` on an unknown camera or a picture that patches do not tile."""
        cameras = known_cameras(self.cameras, data, "substrate 'pixels'")
        for camera in cameras:
            size, cell = data.observation.cameras[camera], self.shrink * self.patch
            if size.height % cell or size.width % cell:
                raise ConfigError(
                    f"substrate 'pixels': shrink {self.shrink} times patch {self.patch} does not divide the "
                    f"{size.height} x {size.width} pixels of camera {camera!r}"
                )
        return Pixels(self, cameras, data)


@final
class Pixels(Substrate):
    """(B, T, patches of all views, 3 * patch * patch) in [-1, 1]."""

    category: ClassVar[Category] = "pixel-grounded"
    variant: ClassVar[str] = "decoded"
    decodable = True

    def __init__(self, config: PixelsConfig, cameras: tuple[str, ...], data: DataSpec) -> None:
        super().__init__()
        self.config, self.cameras = config, cameras
        self.sizes = [
            (data.observation.cameras[c].height, data.observation.cameras[c].width) for c in cameras
        ]
        cell = config.shrink * config.patch
        self.counts = [(height // cell) * (width // cell) for height, width in self.sizes]

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, sum(self.counts), 3 * self.config.patch**2)

    @override
    def grids(self) -> Scale:
        cell = self.config.shrink * self.config.patch
        return tuple((height // cell, width // cell) for height, width in self.sizes)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        views = []
        for camera in self.cameras:
            images = observation.images[camera]
            small = F.avg_pool2d(images.flatten(0, 1).float(), self.config.shrink) / 127.5 - 1
            views.append(to_patches(small, self.config.patch).unflatten(0, images.shape[:2]))
        return torch.cat(views, dim=2)

    @override
    @torch.no_grad()
    def decode(self, values: Tensor) -> dict[str, Tensor]:
        images, shrink = {}, self.config.shrink
        parts = values.split(self.counts, dim=2)
        for camera, part, (height, width) in zip(self.cameras, parts, self.sizes, strict=True):
            small = from_patches(part.flatten(0, 1), self.config.patch, height // shrink, width // shrink)
            whole = small.repeat_interleave(shrink, dim=2).repeat_interleave(shrink, dim=3)
            levels = ((whole + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            images[camera] = levels.unflatten(0, values.shape[:2])
        return images


@SubstrateConfig.register_subclass("rgbd")
@dataclass(frozen=True)
class RGBDConfig(SubstrateConfig):
    """Colour and depth of one or more views in one latent grid (TesserAct, 2025; survey eqs. 13, 15).

    Attributes:
        cameras: camera names; empty means all.
        codec: codec of pictures with four channels: red, green, blue and inverse depth; seven with normals.
        near_m: distance that becomes 1 in the depth channel; nearer is cut.
        far_m: distance that becomes 0; farther is cut.
        normals: whether surface normals, in the camera's axes, are three further channels.
    """

    cameras: tuple[str, ...] = ()
    codec: CodecConfig = field(default_factory=PatchPCAConfig)
    near_m: float = 0.1
    far_m: float = 2.0
    normals: bool = False

    @override
    def build(self, data: DataSpec) -> RGBD:
        """Build; raises :class:`ConfigError` when depth is missing or patches do not tile the picture."""
        cameras = known_cameras(self.cameras, data, "substrate 'rgbd'")
        if not 0 < self.near_m < self.far_m:
            raise ConfigError(
                f"substrate 'rgbd': need 0 < near_m < far_m, got {self.near_m} and {self.far_m}"
            )
        for camera in cameras:
            height, width = data.extra(f"depth.{camera}", "substrate 'rgbd'")
            if self.normals:
                data.extra(f"camera.{camera}", "substrate 'rgbd' with normals")
            if height % self.codec.patch or width % self.codec.patch:
                raise ConfigError(
                    f"substrate 'rgbd': patch {self.codec.patch} does not divide the {height} x {width} pixels of "
                    f"camera {camera!r}"
                )
        return RGBD(self, cameras, data)


@final
class RGBD(Substrate):
    """(B, T, N, D) or ids (B, T, N): the tokens of all views side by side, a codec per view."""

    category: ClassVar[Category] = "pixel-grounded"
    variant: ClassVar[str] = "latent, RGB-D"
    decodable = True

    def __init__(self, config: RGBDConfig, cameras: tuple[str, ...], data: DataSpec) -> None:
        super().__init__()
        self.config, self.cameras = config, cameras
        kinds = ("depth", "camera") if config.normals else ("depth",)
        self.extras = tuple(f"{kind}.{camera}" for camera in cameras for kind in kinds)
        self.sizes = [
            (data.observation.cameras[c].height, data.observation.cameras[c].width) for c in cameras
        ]
        patch = config.codec.patch
        self.counts = [(height // patch) * (width // patch) for height, width in self.sizes]
        self.codecs = nn.ModuleList(config.codec.build(channels=7 if config.normals else 4) for _ in cameras)

    def _codec(self, index: int) -> Codec:
        codec = self.codecs[index]
        assert isinstance(codec, Codec)
        return codec

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        vocabulary = self._codec(0).vocabulary
        features = 1 if vocabulary is not None else self.config.codec.features
        return StreamSpec(name, role, steps, sum(self.counts), features, vocabulary)

    @override
    def grids(self) -> Scale:
        patch = self.config.codec.patch
        return tuple((height // patch, width // patch) for height, width in self.sizes)

    def picture(self, observation: Observation, camera: str) -> Tensor:
        """(B * T, channels, height, width) in [0, 1]."""
        near, far = self.config.near_m, self.config.far_m
        colour = observation.images[camera].flatten(0, 1).float() / 255
        depth = observation.extras[f"depth.{camera}"].flatten(0, 1).float()
        channels = [colour, ((1 / depth.clamp(near, far) - 1 / far) / (1 / near - 1 / far))[:, None]]
        if self.config.normals:
            lens = observation.extras[f"camera.{camera}"].flatten(0, 1).float()
            channels.append((surface_normals(depth, lens).movedim(-1, 1) + 1) / 2)
        return torch.cat(channels, dim=1)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        shape = observation.pad.shape
        views = [
            self._codec(i).encode(self.picture(observation, camera)).unflatten(0, shape)
            for i, camera in enumerate(self.cameras)
        ]
        return torch.cat(views, dim=2)

    @torch.no_grad()
    def _pictures(self, values: Tensor) -> list[Tensor]:
        """View by view (B, T, channels, height, width) in [0, 1]."""
        parts = values.split(self.counts, dim=2)
        return [
            self._codec(i).decode(part.flatten(0, 1), *self.sizes[i]).unflatten(0, values.shape[:2])
            for i, part in enumerate(parts)
        ]

    @override
    def decode(self, values: Tensor) -> dict[str, Tensor]:
        pictures = zip(self.cameras, self._pictures(values), strict=True)
        return {camera: (picture[:, :, :3] * 255).round().to(torch.uint8) for camera, picture in pictures}

    def metres(self, values: Tensor) -> dict[str, Tensor]:
        """Values -> camera -> depth (B, T, height, width), metres, between ``near_m`` and ``far_m``."""
        near, far = self.config.near_m, self.config.far_m
        pictures = zip(self.cameras, self._pictures(values), strict=True)
        return {c: 1 / (picture[:, :, 3] * (1 / near - 1 / far) + 1 / far) for c, picture in pictures}

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        depth = {f"depth.{c}": Reading("quantity", d, "m") for c, d in self.metres(values).items()}
        return {**super().readings(values), **depth}

    def points(self, values: Tensor, cameras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values and camera -> where it stands (B, T, 8), gives camera -> world points (B, T, height * width, 3).

        The points of all views and steps together are the predicted scene in space and time.
        """
        return {name: scene_points(depth, cameras[name]) for name, depth in self.metres(values).items()}

    def normals(self, values: Tensor) -> dict[str, Tensor]:
        """Values -> camera -> unit normals (B, T, 3, height, width), in its axes; :class:`ConfigError` without."""
        if not self.config.normals:
            raise ConfigError("substrate 'rgbd' carries no normals; set normals to true")
        pictures = zip(self.cameras, self._pictures(values), strict=True)
        return {name: F.normalize(picture[:, :, 4:] * 2 - 1, dim=2) for name, picture in pictures}

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit every view's codec on frames drawn from the dataset."""
        rng = np.random.default_rng(seed)
        count = min(FIT_FRAMES, windows.num_frames)
        index = np.sort(rng.choice(windows.num_frames, size=count, replace=False))
        frames = windows.windows(index, WindowSpec(horizon=1)).observation
        for i, camera in enumerate(self.cameras):
            self._codec(i).fit(self.picture(frames, camera), seed)
