"""Active region of a picture, detected, cropped and encoded at its own scale (`oe.goal-conditioner`, eq. 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Length, NonNegative, Probability, Size, Whole, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.readout import Keypoints, Stem
from wamkit.errors import ConfigError, SpecError, did_you_mean

PART = "encoder 'region'"
SMALLEST_SIDE = 4  # smallest side of a box in pixels, so that a single changed pixel does not fill the crop


@EncoderConfig.register_subclass("region")
@dataclass(frozen=True)
class RegionConfig(EncoderConfig):
    """Crop of the active region, from motion or labels, as keypoints (survey eq. 9; ARDuP, Huang et al. 2024).

    The caller switches the region off with ``missing={"region": ...}``. Tokens of a row without a region, such as one
    where nothing moved, are padding.

    Attributes:
        camera: name of the camera.
        source: source of the region: ``motion`` between the first and the last observed step, or ``labels`` of the last
            step.
        threshold: smallest mean change of a pixel's channels, on the scale of 255, that counts as motion.
        labels: prefix of the extra with an id per pixel, followed by the camera, such as ``segmentation.scene``.
        ids: label ids that make up the region.
        margin: margin on every side, as a fraction of the region.
        side: side of the resized crop in pixels.
        patch: stride of the first convolution in pixels; its kernel is twice as wide.
        channels: output channels of the convolutions.
        keypoints: number of keypoints.
        tokens: number of tokens of the crop.
        dropout: probability that the region of a training row is masked, so that the design can act without one.
    """

    extras: ClassVar[tuple[str, ...]] = ("{labels}.{camera} (`source` labels)",)
    camera: Word = "scene"
    source: Literal["motion", "labels"] = "motion"
    threshold: NonNegative = 12.0
    labels: Word = "segmentation"
    ids: tuple[Whole, ...] = ()
    margin: NonNegative = 0.2
    side: Size = 32
    patch: Size = 4
    channels: Annotated[tuple[Size, ...], Length(1)] = (16, 24)
    keypoints: Size = 8
    tokens: Size = 1
    dropout: Probability = 0.2

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> RegionEncoder:
        """Build; raises :class:`ConfigError` when the source of the region is missing or patches do not tile it."""
        data.camera(self.camera, PART)
        if self.side % self.patch:
            raise ConfigError(f"{PART}: patch {self.patch} does not divide side = {self.side}")
        if self.source == "motion" and len(window.observation) < 2:
            raise ConfigError(f"{PART}: motion needs two observed steps, e.g. observation (-4, 0)")
        if self.source == "labels":
            data.extra(f"{self.labels}.{self.camera}", PART)
            if not self.ids:
                raise ConfigError(f"{PART}: name the `ids` of {self.labels!r} that make up the region")
        return RegionEncoder(self, width)


@final
class RegionEncoder(Encoder):
    """Crop of the active region as N = ``tokens`` tokens, which are padding in rows without a region."""

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
        """Mask of the region's pixels, (B, h, w) bool; raises :class:`SpecError` when its source is missing."""
        c = self.config
        if c.source == "motion":
            images, missing = observation.shown(c.camera)
            first, last = (images[:, step].float() for step in (0, -1))
            unseen = (missing[:, 0] | missing[:, -1])[:, None, None]
            return ((last - first).abs().mean(dim=1) > c.threshold) & ~unseen
        (name,) = self.extras
        if name not in observation.extras:
            raise SpecError(f"no extra {name!r} in the observation. {did_you_mean(name, observation.extras)}")
        labels = observation.extras[name][:, -1]
        return torch.isin(labels.long(), torch.tensor(c.ids, device=labels.device))

    def boxes(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Square bounding boxes of the regions, and which rows have a region.

        Returns:
            boxes (B, 3): row and column of the centre and side, in pixels; flags (B,) bool.
        """
        active = self.active(observation)
        ends = []
        for axis in (2, 1):
            occupied = active.any(dim=axis).long()
            first = occupied.argmax(dim=1)
            ends.append((first, occupied.shape[1] - occupied.flip(1).argmax(dim=1)))
        (top, bottom), (left, right) = ends
        side = torch.maximum(bottom - top, right - left) * (1 + 2 * self.config.margin)
        box = torch.stack(((top + bottom) / 2, (left + right) / 2, side.clamp(min=SMALLEST_SIDE)), dim=1)
        return box, active.flatten(1).any(dim=1)

    def crop(self, images: Tensor, box: Tensor) -> Tensor:
        """Crop boxes (B, 3) from pictures (B, 3, h, w) uint8: (B, 3, side, side) in [-1, 1], edges repeated."""
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
        images, missing = (values[:, -1] for values in observation.shown(self.config.camera))
        box, present = self.boxes(observation)
        pad = ~present | missing
        if "region" in observation.missing:
            pad = pad | observation.missing["region"][:, -1]
        if self.training and self.config.dropout:
            pad = pad | (torch.rand(len(pad), device=pad.device) < self.config.dropout)
        size = box.new_tensor([*images.shape[-2:], max(images.shape[-2:])])
        tokens = self.head(self.stem(self.crop(images, box))) + self.where(box / size * 2 - 1)[:, None]
        return tokens + self.kind, pad[:, None].expand(-1, self.config.tokens)
