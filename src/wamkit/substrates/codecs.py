"""Patch codecs, image patches <-> latents, that are fitted in seconds without gradient descent.

The linear codec is the optimum of a linear auto-encoder (Baldi and Hornik 1989); the discrete one quantises its
output with k-means, which gives the structure of a VQ-VAE without its training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import draccus
import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Range, Size
from wamkit.config.values import Config
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError, DataError
from wamkit.substrates.codebook import fit_codebook, nearest_entries


@dataclass(frozen=True)
class CodecConfig(Config, draccus.ChoiceRegistry):
    """Base of all codec configs.

    Attributes:
        patch: side of a patch, pixels.
        features: latent features per patch.
    """

    shared: ClassVar[bool] = False  # true where one codec serves all cameras because nothing in it is fitted
    patch: Size = 16
    features: Size = 32

    def build(self, channels: int = 3) -> Codec:
        """Build the codec for pictures of ``channels`` channels (3 for RGB, 4 with depth)."""
        raise NotImplementedError


class Codec(nn.Module, ABC):
    """Map between images (M, C, h, w) in [0, 1] and latents (M, N, D) or ids (M, N), N patches in row order.

    Attributes:
        config: the codec's config.
        vocabulary: number of ids, or None for continuous latents.
    """

    config: CodecConfig
    vocabulary: int | None = None

    @abstractmethod
    def fit(self, images: Tensor, seed: int) -> None:
        """Fit to images (M, C, h, w) in [0, 1]."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Latents (M, N, D) or ids (M, N) of images."""

    @abstractmethod
    def decode(self, latents: Tensor, height: int, width: int) -> Tensor:
        """Images (M, C, height, width) in [0, 1] of latents or ids."""


def codec_spec(
    codec: Codec, count: int, name: str, role: Literal["future", "goal"], steps: int
) -> StreamSpec:
    """Stream spec of ``count`` tokens of a codec per step."""
    features = 1 if codec.vocabulary is not None else codec.config.features
    return StreamSpec(name, role, steps, count, features, codec.vocabulary)


def check_patch(
    patch: int, height: int, width: int, content: str, reader: str, way_out: str | None = None
) -> None:
    """Raise :class:`ConfigError` unless patches tile the picture; ``content`` names what fills it.

    Args:
        patch: side of a patch.
        height: rows of the picture.
        width: columns of the picture.
        content: what fills the picture.
        reader: part that is named.
        way_out: sentence that says what else can be done.
    """
    if height % patch or width % patch:
        further = "" if way_out is None else f" {way_out}"
        raise ConfigError(
            f"{reader}: patch {patch} does not divide the {height} x {width} {content}. Choose a patch that divides "
            f"both sides.{further}"
        )


def to_patches(images: Tensor, patch: int) -> Tensor:
    """Patches (M, N, C * patch * patch) of images (M, C, h, w).

    Raises:
        ConfigError: the patch does not divide the image.
    """
    height, width = images.shape[-2:]
    if height % patch or width % patch:
        raise ConfigError(f"codec: patch {patch} does not divide the image size {height} x {width}")
    return rearrange(images, "m c (h p) (w q) -> m (h w) (c p q)", p=patch, q=patch)


def from_patches(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    """Images (M, C, height, width) of patches: the inverse of :func:`to_patches`."""
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
    """Leading principal components of the patches, after subtracting the mean patch of every position.

    All components share one scale: the latents have unit variance on average, and the squared error in latent space
    is proportional to the squared pixel error within the kept components.
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
        # Randomised SVD (Halko et al. 2011): patches of 32 px have 3072 values, too many for a full SVD.
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
    """Discrete patch codec: nearest k-means centre of the principal components (as in VQ-VAE, 2017).

    Attributes:
        vocabulary: number of codes.
    """

    vocabulary: Annotated[int, Range(2, 65536)] = 256

    @override
    def build(self, channels: int = 3) -> PatchVQ:
        """Build the codec."""
        return PatchVQ(self, channels)


@final
class PatchVQ(Codec):
    """PCA latents quantised to the nearest of ``vocabulary`` k-means centres."""

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
        return nearest_entries(self.linear.encode(images), self.centres)

    @override
    def decode(self, latents: Tensor, height: int, width: int) -> Tensor:
        return self.linear.decode(self.centres[latents], height, width)
