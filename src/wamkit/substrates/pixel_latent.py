"""Future frames in the latent grid of a fixed codec that can decode them (`ps.pixel-latent`, eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Words
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.scales import Scale
from wamkit.contract.specs import size_option
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation
from wamkit.nn.named import Named
from wamkit.substrates.codecs import Codec, CodecConfig, PatchPCAConfig, check_patch, codec_spec
from wamkit.substrates.views import FIT_FRAMES, chosen_cameras, sample_frames

PART = "substrate 'pixel_latent'"


@SubstrateConfig.register_subclass("pixel_latent")
@dataclass(frozen=True)
class PixelLatentConfig(SubstrateConfig):
    """Future frames in the latent grid of a fixed codec that can decode them (survey eq. 13).

    Attributes:
        codec: codec that is fitted once and then frozen; a discrete codec makes a discrete stream.
        cameras: names of the cameras; empty for all.
    """

    codec: CodecConfig = field(default_factory=PatchPCAConfig)
    cameras: Words = ()

    @override
    def build(self, data: DataSpec) -> PixelLatent:
        """Build; raises :class:`ConfigError` on an unknown camera or an image that patches do not tile."""
        cameras = chosen_cameras(self.cameras, data, PART)
        for camera in cameras:
            size = data.camera(camera, PART)
            sides = size.height, size.width
            way_out = size_option(*sides, self.codec.patch)
            check_patch(self.codec.patch, *sides, f"pixels of camera {camera!r}", PART, way_out)
        return PixelLatent(self, cameras, data)


@final
class PixelLatent(Substrate):
    """Codec tokens of all cameras, side by side in one time step: (B, T, N, D), or ids (B, T, N).

    Every camera has its own codec, unless nothing in the codec is fitted: then all cameras share one.
    """

    category: ClassVar[Category] = "pixel-grounded"
    variant: ClassVar[str] = "latent"
    decodable = True

    def __init__(self, config: PixelLatentConfig, cameras: tuple[str, ...], data: DataSpec) -> None:
        super().__init__()
        self.config, self.cameras = config, cameras
        self.sizes = {c: data.observation.cameras[c] for c in self.cameras}
        patch = config.codec.patch
        self.counts = [(self.sizes[c].height // patch) * (self.sizes[c].width // patch) for c in self.cameras]
        shared = config.codec.build() if config.codec.shared else None
        self.codecs = Named[Codec]({c: shared or config.codec.build() for c in self.cameras})

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return codec_spec(self.codecs[self.cameras[0]], sum(self.counts), name, role, steps)

    @override
    def grids(self) -> Scale:
        patch = self.config.codec.patch
        return tuple((self.sizes[c].height // patch, self.sizes[c].width // patch) for c in self.cameras)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        views = []
        for camera, codec in self.codecs.items():
            images = observation.view(camera)
            latents = codec.encode(images.flatten(0, 1).float() / 255)
            views.append(latents.unflatten(0, images.shape[:2]))
        return torch.cat(views, dim=2)

    @override
    @torch.no_grad()
    def decode(self, values: Tensor) -> dict[str, Tensor]:
        images = {}
        parts = values.split(self.counts, dim=2)
        for (camera, codec), part in zip(self.codecs.items(), parts, strict=True):
            size = self.sizes[camera]
            frames = codec.decode(part.flatten(0, 1), size.height, size.width)
            images[camera] = (frames * 255).round().to(torch.uint8).unflatten(0, values.shape[:2])
        return images

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit every camera's codec to frames drawn from the dataset."""
        frames = sample_frames(windows, FIT_FRAMES, seed)
        for camera, codec in self.codecs.items():
            codec.fit(frames.view(camera)[:, 0].float() / 255, seed)
