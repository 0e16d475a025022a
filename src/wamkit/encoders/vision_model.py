"""Multi-view RGB history -> tokens of a pretrained vision model (`oe.rgb-history`, eqs. 8, 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Finite, Positive, Room, Words
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError
from wamkit.nn.named import NamedParameters
from wamkit.nn.picture_model import PictureModel, Preprocessing
from wamkit.nn.pretrained import Source, pin

PART = "encoder 'vision_model'"


@EncoderConfig.register_subclass("vision_model")
@dataclass(frozen=True)
class VisionModelConfig(EncoderConfig):
    """Camera images through a vision model of `transformers`, such as DINOv2 or SigLIP (survey eqs. 8, 9).

    Attributes:
        model: folder or hub id of the model.
        architecture: config of the model as JSON, filled in when empty.
        layer: name of the layer to read, as in ``model.named_modules()``; empty for the last hidden state.
        pool: pooling of the model's tokens: ``tokens`` keeps all, ``mean`` averages them, ``first`` takes the first (a
            class token).
        grid: rows and columns of the grid that patches are averaged to, per camera and step; 0 keeps all tokens of the
            model. Only with ``pool`` set to ``tokens``.
        size: side of the resized square picture in pixels; 0 for the model's own.
        mean: mean per channel of pictures in [0, 1]; empty for the model's own.
        deviation: standard deviation per channel of pictures in [0, 1]; empty for the model's own.
        cameras: names of the cameras; empty for all.
        trainable: true to train the model with the design; otherwise it is frozen.
    """

    packages: ClassVar[tuple[str, ...]] = ("pretrained",)
    model: str = ""
    architecture: str = ""
    layer: str = ""
    pool: Literal["tokens", "mean", "first"] = "tokens"
    grid: Room = 4
    size: Room = 0
    mean: tuple[Finite, ...] = ()
    deviation: tuple[Positive, ...] = ()
    cameras: Words = ()
    trainable: bool = False

    def __post_init__(self) -> None:
        """Pin the config of the model into ``architecture``."""
        pin(self, PART)

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> VisionModelEncoder:
        """Build; raises :class:`ConfigError` when the model, its layer or a camera is missing."""
        available = data.observation.cameras
        if not available:
            raise ConfigError(
                f"{PART}: the dataset has no camera. Remove the encoder from `encoders`, on the command line "
                "by `--design.encoders.NAME null`."
            )
        for name in self.cameras:
            data.camera(name, PART)
        model = PictureModel(
            Source(self.model, self.architecture, PART, self.layer, self.trainable),
            Preprocessing(self.size, self.mean, self.deviation),
            self.grid if self.pool == "tokens" else 0,
        )
        cameras = tuple(sorted(self.cameras or available))
        return VisionModelEncoder(self, model, cameras, len(window.observation), width)


@final
class VisionModelEncoder(Encoder):
    """Camera images as tokens, N = cameras x steps x tokens.

    All cameras share the model; tokens carry embeddings of their camera, step and position.
    """

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
        self.view = NamedParameters({c: torch.randn(width) * 0.02 for c in cameras})
        self.time = nn.Parameter(torch.randn(steps, 1, width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        tokens, pads = [], []
        count = len(self.place)
        for camera in self.cameras:
            images, missing = observation.shown(camera)
            hidden = self.model(images.flatten(0, 1))
            if self.config.pool != "tokens":
                hidden = hidden[:, :1] if self.config.pool == "first" else hidden.mean(dim=1, keepdim=True)
            steps = (self.project(hidden) + self.place).unflatten(0, images.shape[:2])
            tokens.append((steps + self.view[camera] + self.time[-images.shape[1] :]).flatten(1, 2))
            pads.append((observation.pad | missing).repeat_interleave(count, dim=1))
        return torch.cat(tokens, dim=1), torch.cat(pads, dim=1)
