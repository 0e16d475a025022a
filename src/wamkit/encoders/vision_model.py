"""Multi-view RGB history -> tokens of a pretrained vision model (`oe.rgb-history`, eqs. 8, 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.nn.pretrained import PictureModel, Preprocessing, Source, pin

PART = "encoder 'vision_model'"


@EncoderConfig.register_subclass("vision_model")
@dataclass(frozen=True)
class VisionModelConfig(EncoderConfig):
    """Camera views through any vision model of `transformers`, as DINOv2 or SigLIP (survey eqs. 8, 9).

    Attributes:
        model: a folder or a hub id.
        architecture: what the model is; filled in when it is empty.
        layer: name of the layer that is read, as in ``model.named_modules()``; empty for the last hidden state.
        pool: ``tokens`` keeps every token, ``mean`` averages them, ``first`` takes the first (a class token).
        grid: patches are averaged to grid x grid tokens per view and step; 0 keeps all tokens of the model.
        size: side to which pictures are resized, pixels; 0 for the model's own.
        mean, deviation: of pictures in [0, 1] per channel; empty for those that come with the model.
        cameras: names of the views; empty means all.
        trainable: whether the model learns with the design.
    """

    model: str = ""
    architecture: str = ""
    layer: str = ""
    pool: Literal["tokens", "mean", "first"] = "tokens"
    grid: int = 4
    size: int = 0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    cameras: tuple[str, ...] = ()
    trainable: bool = False

    def __post_init__(self) -> None:
        """Read what the model is."""
        pin(self, PART)

    def build(self, data: DataSpec, window: WindowSpec, width: int) -> VisionModelEncoder:
        """Build; raises :class:`ConfigError` when the model, its layer or a camera is not there."""
        known = data.observation.cameras
        if not known:
            raise ConfigError(f"{PART}: the dataset has no camera. Remove the encoder from `encoders`.")
        for name in self.cameras:
            if name not in known:
                raise ConfigError(f"{PART}: no camera {name!r}. {did_you_mean(name, known)}")
        model = PictureModel(
            Source(self.model, self.architecture, PART, self.layer, self.trainable),
            Preprocessing(self.size, self.mean, self.deviation),
            self.grid if self.pool == "tokens" else 0,
        )
        cameras = tuple(sorted(self.cameras or known))
        return VisionModelEncoder(self, model, cameras, len(window.observation), width)


@final
class VisionModelEncoder(Encoder):
    """N = views x steps x tokens. Views share the model; tokens carry view, time and place."""

    def __init__(
        self,
        config: VisionModelConfig,
        model: PictureModel,
        cameras: tuple[str, ...],
        steps: int,
        width: int,
    ) -> None:
        super().__init__()
        self.config, self.model, self.cameras = config, model, cameras
        count = model.tokens if config.pool == "tokens" else 1
        self.project = nn.Sequential(nn.LayerNorm(model.width), nn.Linear(model.width, width))
        self.place = nn.Parameter(torch.randn(count, width) * 0.02)
        self.view = nn.ParameterDict({c: nn.Parameter(torch.randn(width) * 0.02) for c in cameras})
        self.time = nn.Parameter(torch.randn(steps, 1, width) * 0.02)

    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """See :class:`wamkit.contract.Encoder`."""
        tokens = []
        for camera in self.cameras:
            if camera not in observation.images:
                raise SpecError(f"no image of camera {camera!r}. {did_you_mean(camera, observation.images)}")
            images = observation.images[camera]
            hidden = self.model(images.flatten(0, 1))
            if self.config.pool != "tokens":
                hidden = hidden[:, :1] if self.config.pool == "first" else hidden.mean(dim=1, keepdim=True)
            seen = (self.project(hidden) + self.place).unflatten(0, images.shape[:2])
            tokens.append((seen + self.view[camera] + self.time[-images.shape[1] :]).flatten(1, 2))
        count = len(self.place)
        pad = observation.pad.repeat_interleave(count, dim=1).repeat(1, len(self.cameras))
        return torch.cat(tokens, dim=1), pad
