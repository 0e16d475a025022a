"""Small convolutional variational auto-encoder, trained on the dataset in under a minute (`ps.pixel-latent`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Count, NonNegative, Positive, Size
from wamkit.errors import ConfigError, DataError
from wamkit.progress import track
from wamkit.substrates.codecs import Codec, CodecConfig


@CodecConfig.register_subclass("vae")
@dataclass(frozen=True)
class VAEConfig(CodecConfig):
    """Convolutional VAE trained on the dataset's frames (Kingma and Welling 2014; Rombach et al. 2022).

    Attributes:
        patch: side in pixels of the cell that a latent covers; a power of two.
        features: latent features per cell.
        channels: channels of the first layer; every further halving of the picture adds half that number.
        steps: number of training steps.
        batch_size: pictures per training step.
        learning_rate: learning rate at the peak.
        kl: weight of the divergence from the normal prior, per latent and relative to the error per pixel value.
    """

    patch: Size = 8
    features: Size = 16
    channels: Size = 12
    steps: Count = 300
    batch_size: Size = 16
    learning_rate: Positive = 3e-3
    kl: NonNegative = 1e-6

    @override
    def build(self, channels: int = 3) -> VAE:
        """Build; raises :class:`ConfigError` when ``patch`` is not a power of two above 1."""
        if self.patch < 2 or self.patch & (self.patch - 1):
            raise ConfigError(f"codec 'vae': patch {self.patch} must be a power of two of at least 2")
        return VAE(self, channels)


def down(before: int, after: int) -> nn.Sequential:
    """Halving of the picture, followed by one 3 x 3 convolution."""
    return nn.Sequential(
        nn.Conv2d(before, after, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.SiLU(),
    )


def up(before: int, after: int) -> nn.Sequential:
    """Doubling of the picture by sub-pixel convolution, which avoids checkerboard artefacts."""
    return nn.Sequential(nn.Conv2d(before, 4 * after, 3, padding=1), nn.PixelShuffle(2), nn.SiLU())


@final
class VAE(Codec):
    """Codec (M, C, h, w) <-> (M, N, features), N cells of ``patch`` pixels in row order; standardised per feature.

    The mean picture is subtracted first, so the latents describe the difference of a frame from it. They are the
    posterior's mean, so encoding is deterministic. Frozen outside :meth:`fit`.
    """

    background: Tensor
    contrast: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: VAEConfig, channels: int = 3) -> None:
        super().__init__()
        self.config, self.settings = config, config
        widths = [config.channels * (k + 2) // 2 for k in range(config.patch.bit_length() - 1)]
        encode = [down(a, b) for a, b in zip([channels, *widths], widths, strict=False)]
        decode = [up(a, b) for a, b in zip(widths[::-1], [*widths[-2::-1], widths[0]], strict=True)]
        self.encoder = nn.Sequential(*encode, nn.Conv2d(widths[-1], 2 * config.features, 1))
        self.decoder = nn.Sequential(
            nn.Conv2d(config.features, widths[-1], 3, padding=1),
            nn.SiLU(),
            *decode,
            nn.Conv2d(widths[0], channels, 3, padding=1),
        )
        self.register_buffer("background", torch.zeros(1))
        self.register_buffer("contrast", torch.ones(()))
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("deviation", torch.ones(config.features))
        self.requires_grad_(False)

    @override
    def fit(self, images: Tensor, seed: int) -> None:
        """Train on images (M, C, h, w) in [0, 1] from fresh weights drawn with ``seed``; standardise and freeze."""
        self._check(images.shape[-2], images.shape[-1])
        if len(images) < 2:
            raise DataError("codec 'vae': needs at least two pictures to fit on")
        self.background = images.mean(dim=0)
        self.contrast = (images - self.background).square().mean().sqrt().clamp(min=1e-4)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
            self.requires_grad_(True)
            self._train(images)
        self.requires_grad_(False)
        self.zero_grad(set_to_none=True)  # so that no stale gradient enters the design's gradient norm
        latents = torch.cat([self._posterior(part)[0] for part in images.split(64)])
        latents = latents.transpose(0, 1).flatten(1)
        self.mean, self.deviation = latents.mean(dim=1), latents.std(dim=1).clamp(min=1e-4)

    def _train(self, images: Tensor) -> None:
        steps = self.settings.steps
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.settings.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.settings.learning_rate, total_steps=steps + 1, pct_start=0.1
        )
        for _ in track(range(steps), "codec steps"):
            batch = images[torch.randint(len(images), (min(self.settings.batch_size, len(images)),))]
            mean, log_variance = self._posterior(batch)
            sample = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            error = F.mse_loss(self.decoder(sample), (batch - self.background) / self.contrast)
            divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
            loss = error + self.settings.kl * divergence
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            schedule.step()

    def _posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, (M, features, rows, columns) each."""
        mean, log_variance = self.encoder((images - self.background) / self.contrast).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 4)

    def _check(self, height: int, width: int) -> None:
        patch = self.settings.patch
        if height % patch or width % patch:
            raise ConfigError(f"codec: patch {patch} does not divide the image size {height} x {width}")

    @override
    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        self._check(images.shape[-2], images.shape[-1])
        latents = self._posterior(images)[0].flatten(2).transpose(1, 2)
        return (latents - self.mean) / self.deviation

    @override
    @torch.no_grad()
    def decode(self, latents: Tensor, height: int, width: int) -> Tensor:
        patch = self.settings.patch
        grid = (latents * self.deviation + self.mean).transpose(1, 2)
        difference = self.decoder(grid.unflatten(2, (height // patch, width // patch)))
        return (difference * self.contrast + self.background).clamp(0, 1)
