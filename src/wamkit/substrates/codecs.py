"""Image patches <-> latents: codecs that are fitted in seconds and decode exactly what they kept.

The linear codec is the optimum of a linear auto-encoder (Baldi and Hornik 1989); the discrete one is vector
quantisation of its output (k-means), the shape of a VQ-VAE without its training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import draccus
import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from typing_extensions import override

from wamkit.errors import ConfigError, DataError
from wamkit.substrates.codebook import fit_codebook, nearest


@dataclass(frozen=True)
class CodecConfig(draccus.ChoiceRegistry):
    """Base of all codec configs.

    Attributes:
        patch: side of a patch, pixels.
        features: latent features per patch.
        shared: whether one codec serves all cameras, because nothing of it is fitted to one of them.
    """

    shared: ClassVar[bool] = False
    patch: int = 16
    features: int = 32

    def build(self, channels: int = 3) -> Codec:
        """Build the codec for pictures of ``channels`` channels (3 for RGB, 4 with depth)."""
        raise NotImplementedError


class Codec(nn.Module, ABC):
    """(M, C, h, w) in [0, 1] <-> (M, N, D) latents or (M, N) ids, N patches in row order."""

    config: CodecConfig
    vocabulary: int | None = None

    @abstractmethod
    def fit(self, images: Tensor, seed: int) -> None:
        """Fit on (M, C, h, w) images in [0, 1]."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images -> latents (M, N, D) or ids (M, N)."""

    @abstractmethod
    def decode(self, latents: Tensor, height: int, width: int) -> Tensor:
        """Latents or ids -> (M, C, height, width) in [0, 1]."""


def to_patches(images: Tensor, patch: int) -> Tensor:
    """(M, C, h, w) -> (M, N, C * patch * patch); raises :class:`ConfigError` when the patch does not fit."""
    height, width = images.shape[-2:]
    if height % patch or width % patch:
        raise ConfigError(f"codec: patch {patch} does not divide the image size {height} x {width}")
    return rearrange(images, "m c (h p) (w q) -> m (h w) (c p q)", p=patch, q=patch)


def from_patches(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    """Inverse of :func:`to_patches`."""
    h, w = height // patch, width // patch
    return rearrange(patches, "m (h w) (c p q) -> m c (h p) (w q)", h=h, w=w, p=patch, q=patch)


@CodecConfig.register_subclass("pca")
@dataclass(frozen=True)
class PatchPCAConfig(CodecConfig):
    """Continuous patch codec: leading principal components (Baldi and Hornik 1989)."""

    @override
    def build(self, channels: int = 3) -> PatchPCA:
        """Build the codec."""
        return PatchPCA(self, channels)


@final
class PatchPCA(Codec):
    """Leading principal components of the patches, with the mean patch of every position removed.

    One scale for all components keeps the latents of unit variance on average and the squared error in latent
    space proportional to the squared error in pixels that the kept components explain.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def __init__(self, config: PatchPCAConfig, channels: int = 3) -> None:
        super().__init__()
        self.config = config
        size = channels * config.patch**2
        if config.features > size:
            raise ConfigError(f"codec 'pca': {config.features} features, but a patch has only {size} values")
        self.register_buffer("mean", torch.zeros(1, size))
        self.register_buffer("basis", torch.eye(size)[: config.features])
        self.register_buffer("scale", torch.ones(()))

    @override
    def fit(self, images: Tensor, seed: int) -> None:
        patches = to_patches(images, self.config.patch)
        mean = patches.mean(dim=0)  # (N, size)
        centred = (patches - mean).flatten(0, 1)
        if len(centred) < self.config.features:
            raise DataError(
                f"codec 'pca': {self.config.features} features need at least as many patches to fit on, but "
                f"{len(images)} images give {len(centred)}. Use more frames or fewer features."
            )
        rank = min(self.config.features + 16, *centred.shape)
        # Randomised SVD (Halko et al. 2011): the patches of 32 px have 3072 values, too many for a full one.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _, _, vectors = torch.svd_lowrank(centred, q=rank, niter=4)
        basis = vectors[:, : self.config.features].T.contiguous()
        self.mean, self.basis = mean, basis
        self.scale = (centred @ basis.T).square().mean().sqrt().clamp(min=1e-6)

    @override
    def encode(self, images: Tensor) -> Tensor:
        return (to_patches(images, self.config.patch) - self.mean) @ self.basis.T / self.scale

    @override
    def decode(self, latents: Tensor, height: int, width: int) -> Tensor:
        patches = latents * self.scale @ self.basis + self.mean
        return from_patches(patches, self.config.patch, height, width).clamp(0, 1)


@CodecConfig.register_subclass("vq")
@dataclass(frozen=True)
class PatchVQConfig(CodecConfig):
    """Discrete patch codec: nearest k-means centre of the principal components (as VQ-VAE, 2017).

    Attributes:
        vocabulary: number of codes.
    """

    vocabulary: int = 256

    @override
    def build(self, channels: int = 3) -> PatchVQ:
        """Build the codec."""
        return PatchVQ(self, channels)


@final
class PatchVQ(Codec):
    """The nearest of ``vocabulary`` k-means centres of the PCA latents."""

    centres: Tensor

    def __init__(self, config: PatchVQConfig, channels: int = 3) -> None:
        super().__init__()
        self.config = config
        self.vocabulary: int = config.vocabulary
        self.linear = PatchPCA(PatchPCAConfig(config.patch, config.features), channels)
        self.register_buffer("centres", torch.zeros(config.vocabulary, config.features))

    @override
    def fit(self, images: Tensor, seed: int) -> None:
        self.linear.fit(images, seed)
        latents = self.linear.encode(images).flatten(0, 1)
        if len(latents) < self.vocabulary:
            raise DataError(
                f"codec 'vq': {self.vocabulary} codes need at least as many patches to fit on, but "
                f"{len(images)} images give {len(latents)}. Use more frames or a smaller vocabulary."
            )
        self.centres = fit_codebook(latents, self.vocabulary, np.random.default_rng(seed))

    @override
    def encode(self, images: Tensor) -> Tensor:
        return nearest(self.linear.encode(images), self.centres)

    @override
    def decode(self, latents: Tensor, height: int, width: int) -> Tensor:
        return self.linear.decode(self.centres[latents], height, width)
