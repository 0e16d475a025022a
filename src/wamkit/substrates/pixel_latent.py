"""Future frames in the latent grid of a fixed codec that could decode them (`ps.pixel-latent`, eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.contract.protocols import Category, DataSpec, Substrate, SubstrateConfig, Windows
from wamkit.contract.scales import Scale
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError, did_you_mean
from wamkit.substrates.codecs import Codec, CodecConfig, PatchPCAConfig

FIT_FRAMES = 600  # enough for the leading components of 64 px patches; more changes the PSNR by under 0.1 dB


def sample_frames(windows: Windows, count: int, seed: int) -> Observation:
    """Frames spread over the dataset at random, as one observation of one step each: (count, 1, ...)."""
    rng = np.random.default_rng(seed)
    index = rng.choice(windows.num_frames, size=min(count, windows.num_frames), replace=False)
    return windows.windows(np.sort(index), WindowSpec(horizon=1)).observation


@SubstrateConfig.register_subclass("pixel_latent")
@dataclass(frozen=True)
class PixelLatentConfig(SubstrateConfig):
    """Future frames in the latent grid of a fixed codec that can decode them (survey eq. 13).

    Attributes:
        codec: the fixed codec; a discrete codec makes a discrete stream.
        cameras: camera names; empty means all.
    """

    codec: CodecConfig = field(default_factory=PatchPCAConfig)
    cameras: tuple[str, ...] = ()

    @override
    def build(self, data: DataSpec) -> PixelLatent:
        """Build; raises :class:`ConfigError` on an unknown camera or an image that patches do not tile."""
        if not data.observation.cameras:
            raise ConfigError(
                "substrate 'pixel_latent': the dataset has no camera. Choose another substrate."
            )
        for camera in self.cameras:
            if camera not in data.observation.cameras:
                raise ConfigError(
                    f"substrate 'pixel_latent': no camera {camera!r}. "
                    f"{did_you_mean(camera, data.observation.cameras)}"
                )
        for camera in self.cameras or data.observation.cameras:
            size = data.observation.cameras[camera]
            if size.height % self.codec.patch or size.width % self.codec.patch:
                raise ConfigError(
                    f"substrate 'pixel_latent': patch {self.codec.patch} does not divide the {size.height} x "
                    f"{size.width} pixels of camera {camera!r}. Choose a patch that divides both sides."
                )
        return PixelLatent(self, data)


@final
class PixelLatent(Substrate):
    """One codec per camera, or one for all if nothing is fitted; their tokens stand side by side in one time step."""

    category: ClassVar[Category] = "pixel-grounded"
    variant: ClassVar[str] = "latent"
    decodable = True

    def __init__(self, config: PixelLatentConfig, data: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.cameras = config.cameras or tuple(sorted(data.observation.cameras))
        self.sizes = {c: data.observation.cameras[c] for c in self.cameras}
        patch = config.codec.patch
        self.counts = [(self.sizes[c].height // patch) * (self.sizes[c].width // patch) for c in self.cameras]
        one = config.codec.build() if config.codec.shared else None
        self.codecs = nn.ModuleDict({c: one or config.codec.build() for c in self.cameras})

    def _codec(self, camera: str) -> Codec:
        codec = self.codecs[camera]
        assert isinstance(codec, Codec)
        return codec

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        vocabulary = self._codec(self.cameras[0]).vocabulary
        features = 1 if vocabulary is not None else self.config.codec.features
        return StreamSpec(name, role, steps, sum(self.counts), features, vocabulary)

    @override
    def grids(self) -> Scale:
        patch = self.config.codec.patch
        return tuple((self.sizes[c].height // patch, self.sizes[c].width // patch) for c in self.cameras)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """(B, T) frames -> (B, T, N, D) or (B, T, N) ids."""
        rows = []
        for camera in self.cameras:
            images = observation.images[camera]
            latents = self._codec(camera).encode(images.flatten(0, 1).float() / 255)
            rows.append(latents.unflatten(0, images.shape[:2]))
        return torch.cat(rows, dim=2)

    @override
    @torch.no_grad()
    def decode(self, values: Tensor) -> dict[str, Tensor]:
        """Latents -> camera -> (B, T, 3, height, width) uint8."""
        images = {}
        for camera, part in zip(self.cameras, values.split(self.counts, dim=2), strict=True):
            size = self.sizes[camera]
            frames = self._codec(camera).decode(part.flatten(0, 1), size.height, size.width)
            images[camera] = (frames * 255).round().to(torch.uint8).unflatten(0, values.shape[:2])
        return images

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit every camera's codec on frames drawn from the dataset."""
        frames = sample_frames(windows, FIT_FRAMES, seed)
        for camera in self.cameras:
            self._codec(camera).fit(frames.images[camera][:, 0].float() / 255, seed)
