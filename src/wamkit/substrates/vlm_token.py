"""Next-stage targets in words: places of bodies in a picture and the gripper's opening (`ps.vlm-token`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Finite, Length, Range, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, DataError, did_you_mean
from wamkit.geometry.cameras import NEAR_M, project
from wamkit.substrates.views import first_pose

TokenBody = Literal["gripper", "object"]
OPEN, CLOSED, OUTSIDE = "open", "closed", "outside"
PLACE = "substrate 'vlm_token'"


@SubstrateConfig.register_subclass("vlm_token")
@dataclass(frozen=True)
class VlmTokenConfig(SubstrateConfig):
    """Next-stage target as location tokens and words of a text vocabulary (PaliGemma, Beyer et al. 2024; eq. 14).

    Attributes:
        camera: camera in whose picture positions are given.
        bodies: bodies to locate: ``gripper``, ``object`` (the first movable body of the task).
        bins: number of location tokens for the rows, and for the columns, of the picture.
        opening: state dimension that measures the gripper's opening; empty to leave the gripper out.
        threshold: smallest opening at which the gripper counts as open.
    """

    extras: ClassVar[tuple[str, ...]] = ("{bodies}_pose", "camera.{camera}")
    camera: Word = "scene"
    bodies: Annotated[tuple[TokenBody, ...], Length(1, once=True)] = ("gripper",)
    bins: Annotated[int, Range(2, 10000)] = 1024
    opening: str = "gripper_open"
    threshold: Finite = 0.5

    @override
    def build(self, data: DataSpec) -> VlmToken:
        """Build; raises :class:`ConfigError` when the camera, a pose or the gripper's opening is missing."""
        size, state = data.camera(self.camera, PLACE), data.observation.state
        if self.opening and self.opening not in state:
            raise ConfigError(
                f"{PLACE}: no state dimension {self.opening!r}. {did_you_mean(self.opening, state)} Leave `opening` "
                f"empty to leave the gripper out."
            )
        for name in (*(f"{body}_pose" for body in self.bodies), f"camera.{self.camera}"):
            data.extra(name, PLACE)
        return VlmToken(self, size.height, size.width, state.index(self.opening) if self.opening else None)


@final
class VlmToken(Substrate):
    """Ids (B, T, N): row and column of every body, then the word for the gripper.

    Ids below ``bins`` are location tokens; those from ``bins`` on are the words of :attr:`words`. The row and the
    column of a body outside the view are both the word "outside".
    """

    category: ClassVar[Category] = "feature"
    variant: ClassVar[str] = "VLM token"

    def __init__(self, config: VlmTokenConfig, height: int, width: int, opening: int | None) -> None:
        super().__init__()
        self.config, self.height, self.width, self.opening = config, height, width, opening
        self.words = (OPEN, CLOSED, OUTSIDE)
        self.vocabulary = (*(f"<loc{i:04d}>" for i in range(config.bins)), *self.words)
        self.ids = {word: i for i, word in enumerate(self.vocabulary)}
        self.tokens = 2 * len(config.bodies) + (opening is not None)
        self.extras = (*(f"{body}_pose" for body in config.bodies), f"camera.{config.camera}")

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.tokens, 1, len(self.vocabulary))

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        *poses, camera = self.extras
        places = torch.stack([first_pose(observation, name) for name in poses], dim=2)[..., :3]
        pixels, depth = project(places, observation.extras[camera].float(), self.height, self.width)
        size = torch.tensor([self.width, self.height], device=pixels.device)
        inside = ((pixels >= 0) & (pixels < size)).all(dim=-1) & (depth > NEAR_M)
        ids = (pixels.nan_to_num() / size * self.config.bins).floor().clamp(0, self.config.bins - 1).long()
        ids = ids.flip(-1).masked_fill(~inside[..., None], self.ids[OUTSIDE]).flatten(2)  # row, then column
        if self.opening is None:
            return ids
        wide = observation.state[..., self.opening] >= self.config.threshold
        word = torch.where(wide, self.ids[OPEN], self.ids[CLOSED])
        return torch.cat((ids, word[..., None]), dim=2)

    def points(self, values: Tensor) -> Tensor:
        """Positions (..., bodies, 2) of ids (..., N), x and y in pixels; NaN for bodies outside the view."""
        ids = values[..., : 2 * len(self.config.bodies)].unflatten(-1, (-1, 2)).flip(-1)
        size = torch.tensor([self.width, self.height], device=values.device)
        pixels = (ids + 0.5) / self.config.bins * size
        return pixels.masked_fill((ids >= self.config.bins).any(dim=-1, keepdim=True), float("nan"))

    def opened(self, values: Tensor) -> Tensor:
        """Mask (...) of the ids (..., N) that call the gripper open."""
        if self.opening is None:
            raise ConfigError(f"{PLACE}: these tokens do not include the gripper; set `opening`")
        return values[..., -1] == self.ids[OPEN]

    def text(self, values: Tensor) -> str:
        """Text of the ids (N,) of one step, e.g. ``<loc0512><loc0300> gripper ; open``."""
        words = [self.vocabulary[i] for i in values.tolist()]
        parts = [
            f"{words[2 * i]}{words[2 * i + 1]} {body}".replace(OUTSIDE * 2, OUTSIDE)
            for i, body in enumerate(self.config.bodies)
        ]
        return " ; ".join(parts + words[2 * len(self.config.bodies) :])

    def parse(self, text: str) -> Tensor:
        """Ids (N,) of a text of :meth:`text`; raises :class:`DataError` when it is not a target of these bodies."""
        place = rf"(?:{OUTSIDE}|<loc\d{{4}}><loc\d{{4}}>)"
        pattern = " ; ".join(f"({place}) {body}" for body in self.config.bodies)
        pattern += f" ; ({OPEN}|{CLOSED})" if self.opening is not None else ""
        match = re.fullmatch(pattern, text)
        words: list[str] = []
        for part in match.groups() if match else ():
            words += [OUTSIDE] * 2 if part == OUTSIDE else re.findall(r"<loc\d{4}>|\w+", part)
        if not match or any(word not in self.ids for word in words):
            first = [0] * (2 * len(self.config.bodies)) + [self.ids[OPEN]]
            example = self.text(torch.tensor(first[: self.tokens]))
            raise DataError(
                f"{PLACE}: {text!r} is not a target of this kind. Expected a text like {example!r}."
            )
        return torch.tensor([self.ids[word] for word in words])
