"""Auto-encoders of `diffusers` as codecs of pixel latents (`ps.pixel-latent`, eq. 13)."""

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
    """Any auto-encoder of `diffusers`, of pictures or video (Rombach et al. 2022; Wan, LTX-Video, Cosmos).

    Attributes:
        patch, features: the model's; filled in whatever is given.
        model: a folder or a hub id.
        subfolder: where in it the auto-encoder lies, such as ``vae``.
        architecture: what the model is; filled in when it is empty.
    """

    shared: ClassVar[bool] = True
    model: str = ""
    subfolder: str = ""
    architecture: str = ""

    def __post_init__(self) -> None:
        """Read what the model is, and how it compresses a picture."""
        pin(self, PART, "diffusers")
        if self.architecture:
            config = facts_of(self.model, self.architecture, PART)["config"]
            patch, features = compression(config)
            object.__setattr__(self, "patch", patch)
            object.__setattr__(self, "features", features)

    @override
    def build(self, channels: int = 3) -> PretrainedCodec:
        """Build; raises :class:`ConfigError` when the model is not there or pictures are not RGB."""
        if channels != 3:
            raise ConfigError(f"{PART}: reads pictures of 3 channels, not {channels}")
        return PretrainedCodec(self)


def skeleton(config: dict[str, Any]) -> nn.Module:
    """The model with random weights; raises :class:`ConfigError` when it is no auto-encoder of `diffusers`."""
    name = str(config.get("_class_name", ""))
    cls = getattr(import_extra("diffusers"), name, None)
    if cls is None or not name.startswith("Autoencoder"):
        raise ConfigError(f"{PART}: {name or 'a model without a class'} is no auto-encoder of `diffusers`")
    model = cls.from_config(config)
    assert isinstance(model, nn.Module)
    return model


def posterior(model: nn.Module, images: Tensor) -> Tensor:
    """(M, 3, h, w) in [-1, 1] -> the latent's most likely value (M, D, h', w'); video models see still clips."""
    still = any(isinstance(part, nn.Conv3d) for part in model.modules())
    encoded = model.encode(images[:, :, None] if still else images)  # type: ignore[operator]
    latent = encoded.latent_dist.mode() if "latent_dist" in encoded else encoded.latent
    return latent[:, :, 0] if still else latent


def compression(config: dict[str, Any]) -> tuple[int, int]:
    """Pixels per side of a latent cell, and features per cell; nothing is computed."""
    with torch.device("meta"):
        latent = posterior(skeleton(config).to("meta"), torch.zeros(1, 3, 128, 128))
    return 128 // latent.shape[-1], latent.shape[1]


@final
class PretrainedCodec(Codec):
    """(M, 3, h, w) in [0, 1] <-> (M, N, features), standardised by the statistics that come with the model. Frozen."""

    def __init__(self, config: PretrainedCodecConfig) -> None:
        super().__init__()
        facts = facts_of(config.model, config.architecture, PART)["config"]
        self.config = config
        self.model = skeleton(facts)
        self.absent = ""
        try:
            self.model = type(self.model).from_pretrained(  # type: ignore[attr-defined]
                config.model,
                subfolder=config.subfolder or None,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
            )
        except OSError as error:  # gone or out of reach; a checkpoint may bring the weights
            self.absent = str(unreadable(PART, config.model, error))
        except (ValueError, RuntimeError) as error:
            raise unreadable(PART, config.model, error) from error
        self.model.requires_grad_(False)
        self.still = any(isinstance(part, nn.Conv3d) for part in self.model.modules())
        self.facts = facts
        statistics(facts, dict(self.model.named_buffers()), config.features)
        self.register_load_state_dict_post_hook(_arrived)
        self.train(False)

    @override
    def fit(self, images: Tensor, seed: int) -> None:
        """Nothing is fitted; raises :class:`ConfigError` where the model's own weights are not there."""
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
        images = self.model.decode(grid[:, :, None] if self.still else grid).sample  # type: ignore[operator]
        return ((images[:, :, 0] if self.still else images) / 2 + 0.5).clamp(0, 1)

    @override
    def train(self, mode: bool = True) -> Self:
        """It is never in training mode."""
        return super().train(False)


def statistics(config: dict[str, Any], buffers: dict[str, Tensor], features: int) -> tuple[Tensor, Tensor]:
    """What is subtracted from a latent and what it is divided by, (features,) each, as the model's authors say.

    They stand in the model's config (Wan, Cosmos) or beside its weights (LTX-Video), or are one number (Stable
    Diffusion).
    """
    found = [buffers[key] if key in buffers else config.get(key) for key in ("latents_mean", "latents_std")]
    if all(value is not None for value in found):
        both = [torch.as_tensor(value).flatten() for value in found]
        if any(len(values) % features for values in both):
            raise ConfigError(
                f"{PART}: latents_mean has {len(both[0])} values, latents_std {len(both[1])}, for {features} features"
            )
        # Where a model has statistics per frame of a clip, a still has those of the first.
        mean, deviation = (values.view(features, -1)[:, 0].float() for values in both)
        return mean, deviation
    shift = torch.full((features,), float(config.get("shift_factor") or 0.0))
    return shift, torch.full((features,), 1 / float(config.get("scaling_factor") or 1.0))


def _arrived(codec: nn.Module, keys: Any) -> None:
    """After weights were read from a checkpoint: they are there."""
    assert isinstance(codec, PretrainedCodec)
    codec.absent = ""
