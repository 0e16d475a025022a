"""Future body state: the sensor substrate available on every robot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.contract.calls import ByColumn
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Standing, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, State, StreamSpec, cleared
from wamkit.contract.types import Observation
from wamkit.nn.transforms import Mode, Normalizer


@SubstrateConfig.register_subclass("proprioception")
@dataclass(frozen=True)
class ProprioceptionConfig(SubstrateConfig):
    """Future body state: the whole normalised state, one token per step (survey section 3, sensor futures).

    Attributes:
        normalization: normalisation of the state.
    """

    normalization: Mode = "mean_std"

    @override
    def build(self, data: DataSpec) -> Proprioception:
        """Build the substrate."""
        return Proprioception(self, data)


@final
class Proprioception(Substrate, ByColumn):
    """Normalised state (B, T, 1, S)."""

    category: ClassVar[Category] = "sensor"
    variant: ClassVar[str] = "proprioception"
    standing: Standing = "body"

    def __init__(self, config: ProprioceptionConfig, data: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.width = len(data.observation.state)
        self.normalize = Normalizer(data.stats, "observation.state", config.normalization)

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, self.width)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        values = self.normalize(observation.state)[:, :, None]
        columns = observation.state_columns
        return values if columns is None else cleared(values, self.real(columns).expand_as(values))

    @override
    def real(self, columns: Tensor) -> Tensor:
        return columns[:, None, None]

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        physical = self.normalize.inverse(values)[:, :, 0]
        return {
            "body": Reading("quantity", values, "normalised"),
            "state": Reading("quantity", physical, shows=State()),
        }
