"""Goal image -> tokens, or learned null tokens without a goal (`oe.goal-conditioner`, eq. 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Length, Probability, Size, Words
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.specs import size_option
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.readout import Keypoints, Stem
from wamkit.errors import ConfigError, SpecError
from wamkit.nn.named import Named


@EncoderConfig.register_subclass("goal_image")
@dataclass(frozen=True)
class GoalImageConfig(EncoderConfig):
    """Goal image as keypoints, or learned null tokens without a goal (survey eq. 9; Ho and Salimans 2022).

    Attributes:
        cameras: names of the cameras of the goal; empty for all.
        patch: stride of the first convolution in pixels; its kernel is twice as wide.
        channels: output channels of the convolutions.
        keypoints: number of keypoints per camera.
        tokens: number of tokens per camera.
        dropout: probability that the goal of a training row is masked, so that the design can act without a goal.
    """

    cameras: Words = ()
    patch: Size = 4
    channels: Annotated[tuple[Size, ...], Length(1)] = (32, 48)
    keypoints: Size = 16
    tokens: Size = 1
    dropout: Probability = 0.2

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> GoalImageEncoder:
        """Build; raises :class:`ConfigError` on an unknown camera or a picture that patches do not tile."""
        cameras = self.cameras or tuple(sorted(data.observation.cameras))
        if not cameras:
            raise ConfigError(
                "encoder 'goal_image': the dataset has no camera. Remove the encoder from `encoders`, on the command "
                "line by `--design.encoders.NAME null`."
            )
        for name in cameras:
            size = data.camera(name, "encoder 'goal_image'")
            if size.height % self.patch or size.width % self.patch:
                raise ConfigError(
                    f"encoder 'goal_image': patch {self.patch} does not divide the {size.height} x {size.width} "
                    f"pixels of camera {name!r}. {size_option(size.height, size.width, self.patch)}"
                )
        return GoalImageEncoder(self, cameras, width)


@final
class GoalImageEncoder(Encoder):
    """Goal image as tokens, N = cameras x tokens with and without a goal; a padded goal step counts as no goal."""

    goal = True

    def __init__(self, config: GoalImageConfig, cameras: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.config, self.cameras = config, cameras
        self.stems = Named({c: Stem(config.patch, config.channels) for c in cameras})
        self.heads = Named(
            {c: Keypoints(config.channels[-1], config.keypoints, config.tokens, width) for c in cameras}
        )
        count = len(cameras) * config.tokens
        self.place = nn.Parameter(torch.randn(count, width) * 0.02)
        self.null = nn.Parameter(torch.randn(count, width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        rows = observation.batch_size
        null = self.null.expand(rows, -1, -1)
        pad = torch.zeros(null.shape[:2], dtype=torch.bool, device=null.device)
        goal = observation.goal
        if goal is None:
            return null, pad
        views = []
        for camera in self.cameras:
            try:
                images = goal.view(camera)
            except SpecError as error:
                raise SpecError(f"goal observation: {error}") from error
            x = images[:, -1].float() / 127.5 - 1
            views.append(self.heads[camera](self.stems[camera](x)))
        missing = goal.pad[:, -1]
        if self.training and self.config.dropout:
            missing = missing | (torch.rand(rows, device=missing.device) < self.config.dropout)
        return torch.where(missing[:, None, None], null, torch.cat(views, dim=1) + self.place), pad
