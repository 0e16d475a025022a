"""Gesture points of a picture as tokens: what is meant, and where to (`st.spatial-control`, survey eqs. 4, 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Probability, Size, Word
from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.pixel_points import PixelPoints

PART = "encoder 'gestures'"


@EncoderConfig.register_subclass("gestures")
@dataclass(frozen=True)
class GesturesConfig(EncoderConfig):
    """Two clicks in a picture, "this" and "that": what is meant, and where to (This&That, 2024; survey eqs. 4, 9).

    The caller switches the clicks off with ``missing={"gestures": ...}``; without a goal, "that" is padding.

    Attributes:
        camera: camera in whose picture the points lie.
        source: ``poses`` takes the points from ground truth: the object's place now, and its place at the goal;
            ``clicks`` reads them from the extra ``clicks``.
        clicks: extra (2, 2) with x and y in pixels of "this" and "that"; a negative entry is no click.
        hidden: hidden width of the network that embeds a point.
        dropout: probability that the clicks of a training row are masked, so that the design can act without them.
    """

    extras: ClassVar[tuple[str, ...]] = (
        "camera.{camera} (`source` poses)",
        "object_pose (`source` poses)",
        "{clicks} (`source` clicks)",
    )

    camera: Word = "scene"
    source: Literal["poses", "clicks"] = "poses"
    clicks: Word = "gesture"
    hidden: Size = 32
    dropout: Probability = 0.1

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> GestureEncoder:
        """Build; raises :class:`ConfigError` when the camera or what the points are taken from is missing."""
        if self.source == "poses":
            points = PixelPoints.of_poses(self.camera, "object_pose", data, PART)
        else:
            points = PixelPoints.of_clicks(self.camera, self.clicks, data, PART)
        return GestureEncoder(self, points, width)


@final
class GestureEncoder(Encoder):
    """Tokens of "this" and "that" (N = 2); a point outside the picture, missing or unknown is padding."""

    def __init__(self, config: GesturesConfig, points: PixelPoints, features: int) -> None:
        super().__init__()
        self.config, self.points = config, points
        self.goal, self.extras = points.goal, points.extras
        self.pixels = points.pixels
        self.network = nn.Sequential(
            nn.Linear(2, config.hidden), nn.GELU(), nn.Linear(config.hidden, features)
        )
        self.kind = nn.Parameter(torch.randn(2, features) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        places, known = self.points.places(observation)
        share = self.points.share(places)
        pad = ~(known & (share.abs() <= 1).all(dim=2))
        if "gestures" in observation.missing:
            pad = pad | observation.missing["gestures"][:, -1:]
        if self.training and self.config.dropout:
            pad = pad | (torch.rand(len(pad), 1, device=pad.device) < self.config.dropout)
        shown = torch.where(pad[..., None], torch.zeros_like(share), share)
        return self.network(shown) + self.kind, pad
