"""Flow estimated between now and a future frame (`ps.motion-geometry`, eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from typing_extensions import override

from wamkit.contract.protocols import Category, DataSpec, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, MissingExtraError, did_you_mean

LEAST = 16  # pixels per side below which the estimator has no pyramid


def import_cv2() -> Any:
    """OpenCV; raises :class:`MissingExtraError` when it is not installed."""
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
        camera: the view.
        grid: rows and columns of the field; a cell holds the mean flow of its pixels.
        window: side of the window that the estimator averages over, pixels.
        unit: part of the picture's width that counts as one.
    """

    camera: str = "scene"
    grid: int = 8
    window: int = 9
    unit: float = 0.1

    @override
    def build(self, data: DataSpec) -> OpticalFlow:
        """Build; raises :class:`ConfigError` on an unknown camera or a grid that does not fit."""
        import_cv2()
        cameras = data.observation.cameras
        if self.camera not in cameras:
            raise ConfigError(
                f"substrate 'optical_flow': no camera {self.camera!r}. {did_you_mean(self.camera, cameras)}"
            )
        size = cameras[self.camera]
        if min(size.height, size.width) < LEAST or size.height % self.grid or size.width % self.grid:
            raise ConfigError(
                f"substrate 'optical_flow': camera {self.camera!r} has {size.height} x {size.width} pixels; both "
                f"must be at least {LEAST} and multiples of grid = {self.grid}"
            )
        return OpticalFlow(self, size.height, size.width)


@final
class OpticalFlow(Substrate):
    """(B, T, grid, grid * 2): a token per row of cells, each with its displacement in x and y in ``unit``."""

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
        """Grey pictures (h, w) uint8 -> where each pixel of ``before`` went, (h, w, 2) as x, y in pixels."""
        window = self.config.window
        return np.asarray(
            import_cv2().calcOpticalFlowFarneback(before, after, None, 0.5, 3, window, 5, 5, 1.1, 0)
        )

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        later, before = (
            grey(frames.images[self.config.camera]).cpu().numpy() for frames in (observation, now)
        )
        found = np.stack(
            [
                np.stack([self.flow(start[0], end) for end in ends])
                for start, ends in zip(before, later, strict=True)
            ]
        )
        field = torch.from_numpy(found).to(observation.state.device) / (self.width * self.config.unit)
        h, w = self.height // self.config.grid, self.width // self.config.grid
        return rearrange(field, "b t (i h) (j w) c -> b t i j c h w", h=h, w=w).mean(dim=(-1, -2)).flatten(3)

    def field(self, values: Tensor) -> Tensor:
        """Values -> displacement (B, T, grid, grid, 2) as x, y in pixels of the picture."""
        return values.unflatten(3, (self.config.grid, 2)) * (self.width * self.config.unit)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {"flow": Reading("displacement", self.field(values).flatten(2, 3), "px")}


def grey(images: Tensor) -> Tensor:
    """(B, T, 3, h, w) uint8 -> (B, T, h, w) uint8, luma of ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)
    return (images.float() * weights[:, None, None]).sum(dim=2).round().to(torch.uint8)
