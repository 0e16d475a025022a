"""Tokens of a crop of the active region (`oe.goal-conditioner`, eq. 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.images import Keypoints, Stem
from wamkit.errors import ConfigError, SpecError, did_you_mean

PART = "encoder 'region'"
LEAST = 4  # pixels per side of a crop, so that a single changed pixel is not blown up


@EncoderConfig.register_subclass("region")
@dataclass(frozen=True)
class RegionConfig(EncoderConfig):
    """Crop of the active region, found from motion or labels, as keypoints (survey eq. 9; ARDuP, Huang et al. 2024).

    A caller drops the region with ``missing={"region": ...}``; the tokens of rows without a region, or in which
    nothing moved, are padding.

    Attributes:
        camera: name of the camera.
        source: evidence for the region: ``motion`` between the first and the last observed step, or
            ``labels`` of the last step.
        threshold: mean change of a pixel's channels, of 255, above which the pixel has moved.
        labels: first part of the name of the extra with an id per pixel, ``<labels>.<camera>``, e.g.
            ``segmentation.scene``.
        ids: ids of the pixels that belong to the region.
        margin: margin added on every side, as a fraction of the region's side.
        side: side of the resized crop, pixels.
        patch: stride of the first convolution, pixels; its kernel is twice as wide.
        channels: output channels of the convolutions.
        keypoints: number of keypoints.
        tokens: number of tokens of the crop.
        dropout: probability that the region is hidden from a training row, so that it can be left out when acting.
    """

    camera: str = "scene"
    source: Literal["motion", "labels"] = "motion"
    threshold: float = 12.0
    labels: str = "segmentation"
    ids: tuple[int, ...] = ()
    margin: float = 0.2
    side: int = 32
    patch: int = 4
    channels: tuple[int, ...] = (16, 24)
    keypoints: int = 8
    tokens: int = 1
    dropout: float = 0.2

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> RegionEncoder:
        """Build; raises :class:`ConfigError` when the source of the region is not available."""
        data.camera(self.camera, PART)
        if self.side % self.patch:
            raise ConfigError(f"{PART}: patch {self.patch} does not divide side = {self.side}")
        if self.source == "motion" and len(window.observation) < 2:
            raise ConfigError(f"{PART}: motion needs two observed steps, e.g. observation (-4, 0)")
        if self.source == "labels":
            data.extra(f"{self.labels}.{self.camera}", PART)
            if not self.ids:
                raise ConfigError(f"{PART}: name the `ids` of {self.labels!r} that are the region")
        return RegionEncoder(self, width)


@final
class RegionEncoder(Encoder):
    """Keypoints of the cropped region; N = ``tokens``, padding in rows without a region."""

    def __init__(self, config: RegionConfig, width: int) -> None:
        super().__init__()
        self.config = config
        if config.source == "labels":
            self.extras = (f"{config.labels}.{config.camera}",)
        self.stem = Stem(config.patch, config.channels)
        self.head = Keypoints(config.channels[-1], config.keypoints, config.tokens, width)
        self.where = nn.Linear(3, width)
        self.kind = nn.Parameter(torch.randn(config.tokens, width) * 0.02)

    def active(self, observation: Observation) -> Tensor:
        """The pixels of the region, (B, h, w) bool."""
        c = self.config
        if c.source == "motion":
            first, last = (observation.view(c.camera)[:, step].float() for step in (0, -1))
            return (last - first).abs().mean(dim=1) > c.threshold
        (name,) = self.extras
        if name not in observation.extras:
            raise SpecError(f"no extra {name!r} in the observation. {did_you_mean(name, observation.extras)}")
        labels = observation.extras[name][:, -1]
        return torch.isin(labels.long(), torch.tensor(c.ids, device=labels.device))

    def boxes(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Square regions (B, 3): centre row, centre column and side, pixels; and flags of rows with a region, (B,)."""
        active = self.active(observation)
        ends = []
        for along in (2, 1):
            line = active.any(dim=along).long()
            first = line.argmax(dim=1)
            ends.append((first, line.shape[1] - line.flip(1).argmax(dim=1)))
        (top, bottom), (left, right) = ends
        side = torch.maximum(bottom - top, right - left) * (1 + 2 * self.config.margin)
        box = torch.stack(((top + bottom) / 2, (left + right) / 2, side.clamp(min=LEAST)), dim=1)
        return box, active.flatten(1).any(dim=1)

    def crop(self, images: Tensor, box: Tensor) -> Tensor:
        """Pictures (B, 3, h, w) uint8 and boxes (B, 3) -> (B, 3, side, side) in [-1, 1]; edges are repeated."""
        h, w = images.shape[-2:]
        steps = (torch.arange(self.config.side, device=box.device) + 0.5) / self.config.side - 0.5
        rows, columns = (box[:, i, None] + steps * box[:, 2:] for i in (0, 1))
        shape = (len(box), self.config.side, self.config.side)
        grid = torch.stack(
            (
                (columns * 2 / w - 1)[:, None].expand(shape),
                (rows * 2 / h - 1)[:, :, None].expand(shape),
            ),
            dim=-1,
        )
        return F.grid_sample(images.float() / 127.5 - 1, grid, padding_mode="border", align_corners=False)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        images = observation.view(self.config.camera)[:, -1]
        box, present = self.boxes(observation)
        gone = ~present
        if "region" in observation.missing:
            gone = gone | observation.missing["region"][:, -1]
        if self.training and self.config.dropout:
            gone = gone | (torch.rand(len(gone), device=gone.device) < self.config.dropout)
        size = box.new_tensor([*images.shape[-2:], max(images.shape[-2:])])
        tokens = self.head(self.stem(self.crop(images, box))) + self.where(box / size * 2 - 1)[:, None]
        return tokens + self.kind, gone[:, None].expand(-1, self.config.tokens)
