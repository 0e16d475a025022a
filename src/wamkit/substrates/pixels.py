"""Future frames themselves: RGB (`ps.pixel-decoded`, eq. 13), with depth and normals (`ps.multiview-4d`, eq. 15)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Positive, Size, Words
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.scales import Scale
from wamkit.contract.specs import size_option
from wamkit.contract.streams import Reading, Sensor, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.nn.named import Named
from wamkit.substrates.codecs import (
    Codec,
    CodecConfig,
    PatchPCAConfig,
    check_patch,
    codec_spec,
    from_patches,
    to_patches,
)
from wamkit.substrates.normals import surface_normals
from wamkit.substrates.point_sets import scene_points
from wamkit.substrates.views import FIT_FRAMES, chosen_cameras, sample_frames


@SubstrateConfig.register_subclass("pixels")
@dataclass(frozen=True)
class PixelsConfig(SubstrateConfig):
    """Raw future RGB frames, patch by patch, optionally downsampled (survey eq. 13).

    Attributes:
        cameras: names of the cameras; empty for all.
        shrink: downsampling factor per side, by averaging; 1 keeps the picture bit for bit.
        patch: side of a patch in pixels of the downsampled picture; one token each.
    """

    cameras: Words = ()
    shrink: Size = 4
    patch: Size = 4

    @override
    def build(self, data: DataSpec) -> Pixels:
        """Build; raises :class:`ConfigError` on an unknown camera or a picture that patches do not tile."""
        cameras = chosen_cameras(self.cameras, data, "substrate 'pixels'")
        for camera in cameras:
            size, cell = data.observation.cameras[camera], self.shrink * self.patch
            if size.height % cell or size.width % cell:
                raise ConfigError(
                    f"substrate 'pixels': shrink {self.shrink} times patch {self.patch} does not divide the "
                    f"{size.height} x {size.width} pixels of camera {camera!r}. "
                    f"{size_option(size.height, size.width, cell)}"
                )
        return Pixels(self, cameras, data)


@final
class Pixels(Substrate):
    """Patches of all views in [-1, 1], (B, T, patches, 3 * patch * patch)."""

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
            images = observation.view(camera)
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
        cameras: names of the cameras; empty for all.
        codec: codec of pictures with four channels (red, green, blue and inverse depth), or seven with normals.
        near_m: distance in metres mapped to 1 in the depth channel; smaller distances are clipped.
        far_m: distance in metres mapped to 0 in the depth channel; larger distances are clipped.
        normals: true to add surface normals, in the camera's axes, as three further channels.
    """

    extras: ClassVar[tuple[str, ...]] = ("depth.{cameras}", "camera.{cameras} (with `normals`)")
    cameras: Words = ()
    codec: CodecConfig = field(default_factory=PatchPCAConfig)
    near_m: Positive = 0.1
    far_m: Positive = 2.0
    normals: bool = False

    @override
    def build(self, data: DataSpec) -> RGBD:
        """Build; raises :class:`ConfigError` when depth is missing or patches do not tile the picture."""
        reader = "substrate 'rgbd'"
        cameras = chosen_cameras(self.cameras, data, reader)
        if not self.near_m < self.far_m:
            raise ConfigError(f"{reader}: need near_m < far_m, got {self.near_m} and {self.far_m}")
        for camera in cameras:
            height, width = data.extra(f"depth.{camera}", reader)
            if self.normals:
                data.extra(f"camera.{camera}", f"{reader} with normals")
            check_patch(self.codec.patch, height, width, f"pixels of camera {camera!r}", reader)
        return RGBD(self, cameras, data)


@final
class RGBD(Substrate):
    """Tokens of all views side by side, (B, T, N, D) or ids (B, T, N), with one codec per view."""

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
        channels = 7 if config.normals else 4
        # Named by the view's number, as in the state dicts of checkpoints.
        self.codecs = Named[Codec]({str(i): config.codec.build(channels) for i in range(len(cameras))})

    @override
    def cell(self) -> tuple[tuple[str, str], ...]:
        """Pictures with depth; surfaces where the normals are predicted too, as the survey files 4D video."""
        return (("Geometric", ""),) if self.config.normals else (("Pixel", "latent"),)

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return codec_spec(self.codecs["0"], sum(self.counts), name, role, steps)

    @override
    def grids(self) -> Scale:
        patch = self.config.codec.patch
        return tuple((height // patch, width // patch) for height, width in self.sizes)

    def picture(self, observation: Observation, camera: str) -> Tensor:
        """Picture of all channels, (B * T, channels, height, width) in [0, 1]."""
        near, far = self.config.near_m, self.config.far_m
        colour = observation.view(camera).flatten(0, 1).float() / 255
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
            codec.encode(self.picture(observation, camera)).unflatten(0, shape)
            for camera, codec in zip(self.cameras, self.codecs.values(), strict=True)
        ]
        return torch.cat(views, dim=2)

    @torch.no_grad()
    def _pictures(self, values: Tensor) -> list[Tensor]:
        """Decoded pictures of every view, (B, T, channels, height, width) in [0, 1]."""
        views = zip(self.codecs.values(), values.split(self.counts, dim=2), self.sizes, strict=True)
        return [
            codec.decode(part.flatten(0, 1), *size).unflatten(0, values.shape[:2])
            for codec, part, size in views
        ]

    @override
    def decode(self, values: Tensor) -> dict[str, Tensor]:
        pictures = zip(self.cameras, self._pictures(values), strict=True)
        return {camera: (picture[:, :, :3] * 255).round().to(torch.uint8) for camera, picture in pictures}

    def metres(self, values: Tensor) -> dict[str, Tensor]:
        """Depth of every camera, (B, T, height, width) in metres, between ``near_m`` and ``far_m``."""
        near, far = self.config.near_m, self.config.far_m
        pictures = zip(self.cameras, self._pictures(values), strict=True)
        return {c: 1 / (picture[:, :, 3] * (1 / near - 1 / far) + 1 / far) for c, picture in pictures}

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        depth = {f"depth.{camera}": metres for camera, metres in self.metres(values).items()}
        return {
            **super().readings(values),
            **{name: Reading("quantity", metres, "m", shows=Sensor(name)) for name, metres in depth.items()},
        }

    def points(self, values: Tensor, cameras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """World points of every camera, (B, T, height * width, 3).

        The points of all views and steps together are the predicted scene in space and time.

        Args:
            values: values of the stream.
            cameras: camera -> its pose and lens, (B, T, 8).
        """
        return {name: scene_points(depth, cameras[name]) for name, depth in self.metres(values).items()}

    def normals(self, values: Tensor) -> dict[str, Tensor]:
        """Unit normals of every camera in its own axes, (B, T, 3, height, width).

        Raises:
            ConfigError: the substrate was built without normals.
        """
        if not self.config.normals:
            raise ConfigError("substrate 'rgbd' carries no normals; set normals to true")
        pictures = zip(self.cameras, self._pictures(values), strict=True)
        return {name: F.normalize(picture[:, :, 4:] * 2 - 1, dim=2) for name, picture in pictures}

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit every view's codec to frames drawn from the dataset."""
        frames = sample_frames(windows, FIT_FRAMES, seed)
        for camera, codec in zip(self.cameras, self.codecs.values(), strict=True):
            codec.fit(self.picture(frames, camera), seed)
