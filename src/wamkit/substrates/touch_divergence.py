"""Divergence of the flow of touch pictures: how a pressed gel spreads, a force proxy (`ps.sensor-latent`, eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Positive, Size, Word
from wamkit.contract.protocols import Category, DataSpec, Standing, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.substrates.optical_flow import LEAST, dense_flow, grey, import_cv2
from wamkit.substrates.views import since_now

PLACE = "substrate 'touch_divergence'"


@SubstrateConfig.register_subclass("touch_divergence")
@dataclass(frozen=True)
class TouchDivergenceConfig(SubstrateConfig):
    """Mean divergence of the touch picture's flow since now, an uncalibrated proxy of the force (VTAM, 2026).

    Attributes:
        sensor: name of the extra, (height, width, 3) per step, uint8 or float in [0, 1].
        window: side, in pixels, of the window that the flow is averaged over.
        unit: growth that counts as one; 0.1 is a picture that has spread by a tenth in both directions.
    """

    extras: ClassVar[tuple[str, ...]] = ("{sensor}",)
    packages: ClassVar[tuple[str, ...]] = ("flow",)
    sensor: Word = "tactile"
    window: Size = 9
    unit: Positive = 0.1

    @override
    def build(self, data: DataSpec) -> TouchDivergence:
        """Build; raises :class:`ConfigError` when the extra is not a picture, or one too small to follow."""
        import_cv2()
        shape = data.extra(self.sensor, PLACE)
        if len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < LEAST:
            raise ConfigError(
                f"{PLACE}: {self.sensor!r} has the shape {shape} per step; it must be (height, width, 3) with sides of "
                f"at least {LEAST}"
            )
        return TouchDivergence(self)


@final
class TouchDivergence(Substrate):
    """Divergence (B, T, 1, 1) in ``unit``: above zero where the picture spreads, below where it shrinks."""

    category: ClassVar[Category] = "sensor"
    variant: ClassVar[str] = "touch divergence"
    standing: Standing = "body"
    relative = True

    def __init__(self, config: TouchDivergenceConfig) -> None:
        super().__init__()
        self.config = config
        self.extras = (config.sensor,)

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, 1)

    def _pictures(self, observation: Observation) -> np.ndarray:
        values = observation.extras[self.config.sensor]
        scaled = (values * 255).round().to(torch.uint8) if values.is_floating_point() else values
        return grey(scaled.movedim(-1, 2)).cpu().numpy()

    def growth(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Half the mean divergence of the flow between two grey pictures (h, w) uint8: growth per direction."""
        flow = dense_flow(before, after, self.config.window)
        across, down = np.gradient(flow[..., 0], axis=1), np.gradient(flow[..., 1], axis=0)
        return np.asarray((across + down).mean() / 2)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        grown = since_now(self.growth, self._pictures(now), self._pictures(observation))
        values = torch.from_numpy(grown).to(observation.state.device, torch.float32) / self.config.unit
        return values[:, :, None, None]

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {"growth": Reading("quantity", values[..., 0] * self.config.unit)}
