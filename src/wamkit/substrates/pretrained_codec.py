"""Pretrained auto-encoders from `diffusers` as codecs of pixel latents (`ps.pixel-latent`, eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.errors import ConfigError
from wamkit.nn.pretrained import facts_of, import_extra, pin, unreadable
from wamkit.substrates.codecs import Codec, CodecConfig

PART = "codec 'pretrained'"


@CodecConfig.register_subclass("pretrained")
@dataclass(frozen=True)
class PretrainedCodecConfig(CodecConfig):
    """Any image or video auto-encoder of `diffusers` (Rombach et al. 2022; Wan, LTX-Video, Cosmos).

    Attributes:
        patch: pixels per side of a latent cell; always read from the model.
        features: features per latent cell; always read from the model.
        model: folder or hub id of the model.
        subfolder: subfolder of the model that holds the auto-encoder, such as ``vae``.
        architecture: config of the model as JSON; filled in when empty.
    """

    packages: ClassVar[tuple[str, ...]] = ("pretrained",)
    shared: ClassVar[bool] = True
    model: str = ""
    subfolder: str = ""
    architecture: str = ""

    def __post_init__(self) -> None:
        """Read the model's config and its compression."""
        pin(self, PART, "diffusers")
        if self.architecture:
            config = facts_of(self.model, self.architecture, PART)["config"]
            patch, features = compression(config)
            object.__setattr__(self, "patch", patch)
            object.__setattr__(self, "features", features)

    @override
    def build(self, channels: int = 3) -> PretrainedCodec:
        """Build; raises :class:`ConfigError` when no model is named or the pictures are not RGB."""
        if channels != 3:
            raise ConfigError(f"{PART}: reads pictures of 3 channels, not {channels}")
        return PretrainedCodec(self)


def skeleton(config: dict[str, Any]) -> Any:
    """The model, an ``nn.Module`` of `diffusers`, with random weights.

    Raises:
        ConfigError: the config is not that of an auto-encoder of `diffusers`.
    """
    name = str(config.get("_class_name", ""))
    cls = getattr(import_extra("diffusers"), name, None)
    if cls is None or not name.startswith("Autoencoder"):
        raise ConfigError(
            f"{PART}: {name or 'a model without a class'} is not an auto-encoder of `diffusers`"
        )
    return cls.from_config(config)


def reads_clips(model: nn.Module) -> bool:
    """True for a video model, which reads a still picture as a clip of one frame."""
    return any(isinstance(part, nn.Conv3d) for part in model.modules())


def posterior(model: Any, images: Tensor) -> Tensor:
    """Mode of the latents (M, D, h', w') of images (M, 3, h, w) in [-1, 1]."""
    video = reads_clips(model)
    encoded = model.encode(images[:, :, None] if video else images)
    latent: Tensor = encoded.latent_dist.mode() if "latent_dist" in encoded else encoded.latent
    return latent[:, :, 0] if video else latent


def compression(config: dict[str, Any]) -> tuple[int, int]:
    """Pixels per side of a latent cell and features per cell, found without computing values."""
    with torch.device("meta"):
        latent = posterior(skeleton(config).to("meta"), torch.zeros(1, 3, 128, 128))
    return 128 // latent.shape[-1], latent.shape[1]


@final
class PretrainedCodec(Codec):
    """Frozen codec, (M, 3, h, w) in [0, 1] <-> (M, N, features), standardised by the model's own statistics."""

    def __init__(self, config: PretrainedCodecConfig) -> None:
        super().__init__()
        facts = facts_of(config.model, config.architecture, PART)["config"]
        self.config = config
        self.model = skeleton(facts)
        self.absent = ""
        try:
            self.model = type(self.model).from_pretrained(
                config.model,
                subfolder=config.subfolder or None,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
            )
        except OSError as error:  # missing or unreachable; a checkpoint may still provide the weights
            self.absent = str(unreadable(PART, config.model, error))
        except (ValueError, RuntimeError) as error:
            raise unreadable(PART, config.model, error) from error
        self.model.requires_grad_(False)
        self.video = reads_clips(self.model)
        self.facts = facts
        statistics(facts, dict(self.model.named_buffers()), config.features)
        self.register_load_state_dict_post_hook(_weights_loaded)
        self.train(False)

    @override
    def fit(self, images: Tensor, seed: int) -> None:
        """Fit nothing, but check the size; raises :class:`ConfigError` when the model's weights are missing."""
        self._check(images.shape[-2], images.shape[-1])

    def _check(self, height: int, width: int) -> None:
        if self.absent:
            raise ConfigError(self.absent)
        if height % self.config.patch or width % self.config.patch:
            raise ConfigError(
                f"{PART}: cells of {self.config.patch} pixels do not divide the image size {height} x {width}"
            )

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = statistics(self.facts, dict(self.model.named_buffers()), self.config.features)
        return shift.to(like), scale.to(like)

    @override
    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        self._check(images.shape[-2], images.shape[-1])
        latent = posterior(self.model, images * 2 - 1).flatten(2).transpose(1, 2)
        shift, scale = self._statistics(latent)
        return (latent - shift) / scale

    @override
    @torch.no_grad()
    def decode(self, latents: Tensor, height: int, width: int) -> Tensor:
        self._check(height, width)
        patch = self.config.patch
        shift, scale = self._statistics(latents)
        grid = (latents * scale + shift).transpose(1, 2)
        grid = grid.unflatten(2, (height // patch, width // patch))
        images: Tensor = self.model.decode(grid[:, :, None] if self.video else grid).sample
        return ((images[:, :, 0] if self.video else images) / 2 + 0.5).clamp(0, 1)

    @override
    def train(self, mode: bool = True) -> Self:
        """Keep evaluation mode whatever ``mode`` is."""
        return super().train(False)


def statistics(config: dict[str, Any], buffers: dict[str, Tensor], features: int) -> tuple[Tensor, Tensor]:
    """Shift and scale that standardise latents, (features,) each, as published with the model.

    They are in the model's config (Wan, Cosmos), beside its weights (LTX-Video), or a single number (Stable
    Diffusion).
    """
    moments = [buffers[key] if key in buffers else config.get(key) for key in ("latents_mean", "latents_std")]
    if all(value is not None for value in moments):
        both = [torch.as_tensor(value).flatten() for value in moments]
        if any(len(values) % features for values in both):
            raise ConfigError(
                f"{PART}: latents_mean has {len(both[0])} values, latents_std {len(both[1])}, for {features} features"
            )
        # A still picture takes the statistics of the first frame where a model has them per frame.
        mean, deviation = (values.view(features, -1)[:, 0].float() for values in both)
        return mean, deviation
    shift = torch.full((features,), float(config.get("shift_factor") or 0.0))
    return shift, torch.full((features,), 1 / float(config.get("scaling_factor") or 1.0))


def _weights_loaded(codec: PretrainedCodec, _: Any) -> None:
    """Forget the loading error once weights were read from a checkpoint."""
    codec.absent = ""
