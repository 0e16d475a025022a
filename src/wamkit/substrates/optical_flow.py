"""Optical flow, estimated between now and a future frame (`ps.motion-geometry`, eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Positive, Size, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.specs import size_option
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, MissingExtraError
from wamkit.substrates.views import since_now

LEAST = 16  # smallest side, in pixels, for which the estimator can build its pyramid


def import_cv2() -> Any:
    """Import OpenCV; raises :class:`MissingExtraError` when it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError("OpenCV is not installed: pip install 'wamkit[flow]'.") from error
    return cv2


@SubstrateConfig.register_subclass("optical_flow")
@dataclass(frozen=True)
class OpticalFlowConfig(SubstrateConfig):
    """Dense flow since now, estimated from the pictures alone (Farneback 2003; survey eq. 15).

    Attributes:
        camera: camera whose pictures are compared.
        grid: rows and columns of the field; a cell holds the mean flow of its pixels.
        window: side, in pixels, of the window that the estimator averages over.
        unit: displacement that counts as one, as a fraction of the picture's width.
    """

    packages: ClassVar[tuple[str, ...]] = ("flow",)
    camera: Word = "scene"
    grid: Size = 8
    window: Size = 9
    unit: Positive = 0.1

    @override
    def build(self, data: DataSpec) -> OpticalFlow:
        """Build; raises :class:`ConfigError` on an unknown camera or a grid that does not fit."""
        import_cv2()
        size = data.camera(self.camera, "substrate 'optical_flow'")
        if min(size.height, size.width) < LEAST or size.height % self.grid or size.width % self.grid:
            raise ConfigError(
                f"substrate 'optical_flow': camera {self.camera!r} has {size.height} x {size.width} pixels; both "
                f"must be at least {LEAST} and multiples of grid = {self.grid}. "
                f"{size_option(max(LEAST, size.height), max(LEAST, size.width), self.grid)}"
            )
        return OpticalFlow(self, size.height, size.width)


@final
class OpticalFlow(Substrate):
    """Flow (B, T, grid, grid * 2): one token per row of cells, displacement of each in x and y in ``unit``."""

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "estimated flow"
    relative = True

    def __init__(self, config: OpticalFlowConfig, height: int, width: int) -> None:
        super().__init__()
        self.config, self.height, self.width = config, height, width

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.config.grid, self.config.grid * 2)

    def flow(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Displacement (h, w, 2), x and y in pixels, of each pixel of ``before``; grey pictures (h, w) uint8."""
        return dense_flow(before, after, self.config.window)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        later, before = (grey(frames.view(self.config.camera)).cpu().numpy() for frames in (observation, now))
        flow = since_now(self.flow, before, later)
        field = torch.from_numpy(flow).to(observation.state.device) / (self.width * self.config.unit)
        h, w = self.height // self.config.grid, self.width // self.config.grid
        return rearrange(field, "b t (i h) (j w) c -> b t i j c h w", h=h, w=w).mean(dim=(-1, -2)).flatten(3)

    def field(self, values: Tensor) -> Tensor:
        """Displacement (B, T, grid, grid, 2) of values, x and y in pixels."""
        return values.unflatten(3, (self.config.grid, 2)) * (self.width * self.config.unit)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {"flow": Reading("displacement", self.field(values).flatten(2, 3), "px")}


def dense_flow(before: np.ndarray, after: np.ndarray, window: int) -> np.ndarray:
    """Displacement (h, w, 2), x and y in pixels, of each pixel of ``before`` (Farneback 2003).

    Args:
        before: grey picture (h, w) uint8.
        after: grey picture (h, w) uint8.
        window: side of the averaging window, pixels.
    """
    return np.asarray(
        import_cv2().calcOpticalFlowFarneback(before, after, None, 0.5, 3, window, 5, 5, 1.1, 0)
    )


def grey(images: Tensor) -> Tensor:
    """Luma of ITU-R BT.601, (B, T, h, w) uint8, of images (B, T, 3, h, w) uint8."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
    return (images.float() * weights[:, None, None]).sum(dim=2).round().to(torch.uint8)
