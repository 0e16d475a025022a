"""The next stage in words: where bodies will be in a picture, and whether the gripper will be open (`ps.vlm-token`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.contract.protocols import Category, DataSpec, Substrate, SubstrateConfig
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, DataError, did_you_mean
from wamkit.geometry.cameras import NEAR_M, project

TokenBody = Literal["gripper", "object"]
OPEN, CLOSED, OUTSIDE = "open", "closed", "outside"
PLACE = "substrate 'vlm_token'"


@SubstrateConfig.register_subclass("vlm_token")
@dataclass(frozen=True)
class VlmTokenConfig(SubstrateConfig):
    """Next-stage target as location tokens and words of a text vocabulary (PaliGemma, Beyer et al. 2024; eq. 14).

    Attributes:
        camera: the view in whose picture positions are told.
        bodies: ``gripper``, ``object`` (the first movable body of the task) or both.
        bins: location tokens over the rows, and over the columns, of the picture.
        opening: name of the state's dimension that says how far the gripper is open; empty: it is not told.
        threshold: opening from which on the gripper is called open.
    """

    camera: str = "scene"
    bodies: tuple[TokenBody, ...] = ("gripper",)
    bins: int = 1024
    opening: str = "gripper_open"
    threshold: float = 0.5

    @override
    def build(self, data: DataSpec) -> VlmToken:
        """Build; raises :class:`ConfigError` when the camera, a pose or the gripper's opening is missing."""
        cameras, state = data.observation.cameras, data.observation.state
        if self.camera not in cameras:
            raise ConfigError(f"{PLACE}: no camera {self.camera!r}. {did_you_mean(self.camera, cameras)}")
        if not self.bodies or len(set(self.bodies)) < len(self.bodies):
            raise ConfigError(f"{PLACE}: `bodies` must name each body once, got {list(self.bodies)}")
        if not 2 <= self.bins <= 10_000:
            raise ConfigError(f"{PLACE}: bins {self.bins} must be 2 to 10000, which four digits can write")
        if self.opening and self.opening not in state:
            raise ConfigError(
                f"{PLACE}: no state dimension {self.opening!r}. {did_you_mean(self.opening, state)} Leave `opening` "
                f"empty to say nothing of the gripper."
            )
        for name in (*(f"{body}_pose" for body in self.bodies), f"camera.{self.camera}"):
            data.extra(name, PLACE)
        size = cameras[self.camera]
        return VlmToken(self, size.height, size.width, state.index(self.opening) if self.opening else None)


@final
class VlmToken(Substrate):
    """Ids (B, T, N): row and column of every body, then the word for the gripper.

    Ids below ``bins`` are the location tokens, then come the words of :attr:`words`. A body that the view does not
    show is told by the word "outside", twice: its place is not invented.
    """

    category: ClassVar[Category] = "feature"
    variant: ClassVar[str] = "VLM token"

    def __init__(self, config: VlmTokenConfig, height: int, width: int, opening: int | None) -> None:
        super().__init__()
        self.config, self.height, self.width, self.opening = config, height, width, opening
        self.words = (OPEN, CLOSED, OUTSIDE)
        self.vocabulary = (*(f"<loc{i:04d}>" for i in range(config.bins)), *self.words)
        self.known = {word: i for i, word in enumerate(self.vocabulary)}
        self.tokens = 2 * len(config.bodies) + (opening is not None)
        self.extras = (*(f"{body}_pose" for body in config.bodies), f"camera.{config.camera}")

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.tokens, 1, len(self.vocabulary))

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        *poses, camera = (observation.extras[name].float() for name in self.extras)
        places = torch.stack([pose[:, :, 0] if pose.dim() == 4 else pose for pose in poses], dim=2)[..., :3]
        pixels, depth = project(places, camera, self.height, self.width)
        size = torch.tensor([self.width, self.height], device=pixels.device)
        inside = ((pixels >= 0) & (pixels < size)).all(dim=-1) & (depth > NEAR_M)
        ids = (pixels.nan_to_num() / size * self.config.bins).floor().clamp(0, self.config.bins - 1).long()
        ids = ids.flip(-1).masked_fill(~inside[..., None], self.known[OUTSIDE]).flatten(2)  # row, then column
        if self.opening is None:
            return ids
        wide = observation.state[..., self.opening] >= self.config.threshold
        word = torch.where(wide, self.known[OPEN], self.known[CLOSED])
        return torch.cat((ids, word[..., None]), dim=2)

    def points(self, values: Tensor) -> Tensor:
        """Ids (..., N) -> positions (..., bodies, 2) as x, y in pixels; NaN where no place is told."""
        ids = values[..., : 2 * len(self.config.bodies)].unflatten(-1, (-1, 2)).flip(-1)
        size = torch.tensor([self.width, self.height], device=values.device)
        pixels = (ids + 0.5) / self.config.bins * size
        return pixels.masked_fill((ids >= self.config.bins).any(dim=-1, keepdim=True), float("nan"))

    def opened(self, values: Tensor) -> Tensor:
        """Ids (..., N) -> (...) bool, whether the gripper is called open."""
        if self.opening is None:
            raise ConfigError(f"{PLACE}: these tokens say nothing of the gripper; set `opening`")
        return values[..., -1] == self.known[OPEN]

    def text(self, values: Tensor) -> str:
        """Ids (N,) of one step -> e.g. ``<loc0512><loc0300> gripper ; open``."""
        words = [self.vocabulary[i] for i in values.tolist()]
        parts = [
            f"{words[2 * i]}{words[2 * i + 1]} {body}".replace(OUTSIDE * 2, OUTSIDE)
            for i, body in enumerate(self.config.bodies)
        ]
        return " ; ".join(parts + words[2 * len(self.config.bodies) :])

    def parse(self, text: str) -> Tensor:
        """Inverse of :meth:`text`; raises :class:`DataError` on a text that states no target of these bodies."""
        place = rf"(?:{OUTSIDE}|<loc\d{{4}}><loc\d{{4}}>)"
        pattern = " ; ".join(f"({place}) {body}" for body in self.config.bodies)
        pattern += f" ; ({OPEN}|{CLOSED})" if self.opening is not None else ""
        found = re.fullmatch(pattern, text)
        words: list[str] = []
        for part in found.groups() if found else ():
            words += [OUTSIDE] * 2 if part == OUTSIDE else re.findall(r"<loc\d{4}>|\w+", part)
        if not found or any(word not in self.known for word in words):
            first = [0] * (2 * len(self.config.bodies)) + [self.known[OPEN]]
            example = self.text(torch.tensor(first[: self.tokens]))
            raise DataError(f"{PLACE}: {text!r} is no target of this kind. Expected a text like {example!r}.")
        return torch.tensor([self.known[word] for word in words])
