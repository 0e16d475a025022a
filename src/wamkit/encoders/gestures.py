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
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.geometry.cameras import NEAR_M, project

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
        size = data.camera(self.camera, PART)
        if self.source == "poses":
            for name in (f"camera.{self.camera}", "object_pose"):
                data.extra(name, PART)
        elif (shape := data.extra(self.clicks, PART)) != (2, 2):
            raise ConfigError(
                f"{PART}: extra {self.clicks!r} has shape {shape}, needs (2, 2): x and y of two clicks."
            )
        return GestureEncoder(self, size.height, size.width, width)


@final
class GestureEncoder(Encoder):
    """Tokens of "this" and "that" (N = 2); a point outside the picture, missing or unknown is padding."""

    def __init__(self, config: GesturesConfig, height: int, width: int, features: int) -> None:
        super().__init__()
        self.config, self.size = config, (height, width)
        self.goal = config.source == "poses"
        self.extras = (f"camera.{config.camera}", "object_pose") if self.goal else (config.clicks,)
        self.pixels = () if self.goal else (config.clicks,)
        self.network = nn.Sequential(
            nn.Linear(2, config.hidden), nn.GELU(), nn.Linear(config.hidden, features)
        )
        self.kind = nn.Parameter(torch.randn(2, features) * 0.02)

    def points(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Places (B, 2, 2) of "this" and "that" as x and y in pixels, and which of them are known, (B, 2) bool."""
        if not self.goal:
            clicked = self._extra(observation, self.config.clicks).float()
            return clicked, (clicked >= 0).all(dim=2)
        camera, now = (self._extra(observation, name) for name in self.extras)
        this = now[:, :1, :3]
        goal = observation.goal
        that = this if goal is None else self._extra(goal, "object_pose")[:, :1, :3]
        places, depth = project(torch.cat((this, that), dim=1), camera, *self.size)
        known = depth > NEAR_M
        given = torch.zeros_like(known[:, 1]) if goal is None else ~goal.pad[:, -1]
        return places, torch.stack((known[:, 0], known[:, 1] & given), dim=1)

    @staticmethod
    def _extra(observation: Observation, name: str) -> Tensor:
        if name not in observation.extras:
            raise SpecError(f"{PART}: no extra {name!r}. {did_you_mean(name, observation.extras)}")
        return observation.extras[name][:, -1]

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        places, known = self.points(observation)
        size = places.new_tensor([self.size[1], self.size[0]])
        share = places / size * 2 - 1
        pad = ~(known & (share.abs() <= 1).all(dim=2))
        if "gestures" in observation.missing:
            pad = pad | observation.missing["gestures"][:, -1:]
        if self.training and self.config.dropout:
            pad = pad | (torch.rand(len(pad), 1, device=pad.device) < self.config.dropout)
        shown = torch.where(pad[..., None], torch.zeros_like(share), share)
        return self.network(shown) + self.kind, pad
