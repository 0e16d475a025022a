"""Labels of episodes (quality, mistakes, strategy, style) -> tokens, requested when acting (`st.context-metadata`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Size
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.requests import VariableConfig
from wamkit.contract.specs import CLOCK
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError

PART = "encoder 'metadata'"
# Whether the episode succeeded, which every dataset that wamkit records knows.
OUTCOME = VariableConfig(extra=CLOCK, entry=2, values=("failure", "success"), request="success")


@EncoderConfig.register_subclass("metadata")
@dataclass(frozen=True)
class MetadataConfig(EncoderConfig):
    """Labels of the recordings as context; when acting, the values that are requested (π0.7, 2026).

    A model that is told what was good and what was bad learns from both, and the best is requested of it. Labels are
    read from extras of the dataset. When acting no sensor reports them: the ``request`` of each variable is read, or
    what a call puts into the observation instead (``Design.requests``, ``EvaluationConfig.request``), or nothing,
    which is a learned token. ``missing={NAME: ...}`` leaves a variable open.

    Attributes:
        variables: name -> the variable and its declared values; by default ``outcome``, whether the episode succeeds.
        hidden: hidden width of the network that embeds a number.
    """

    extras: ClassVar[tuple[str, ...]] = ("{variables}",)
    variables: dict[str, VariableConfig] = field(default_factory=lambda: {"outcome": OUTCOME})
    hidden: Size = 32

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> MetadataEncoder:
        """Build; raises :class:`ConfigError` without variables, or when the dataset lacks a label."""
        if not self.variables:
            raise ConfigError(f"{PART}: `variables` is empty. Name what the recordings are labelled with.")
        for name, variable in self.variables.items():
            source = variable.extra or name
            size = math.prod(data.extra(source, f"{PART}: variable {name!r}"))
            if variable.entry >= size:
                raise ConfigError(
                    f"{PART}: variable {name!r} is entry {variable.entry} of {source!r}, which has {size} per frame"
                )
            if source != name and name in data.extras:
                raise ConfigError(
                    f"{PART}: variable {name!r} is labelled by {source!r}, but the dataset has an extra {name!r} too. "
                    f"Rename the variable, so that a request is not taken for that extra."
                )
        return MetadataEncoder(self, width)


@final
class MetadataEncoder(Encoder):
    """One token per variable (N = variables), of its label at the last step; a variable left open has a learned one."""

    def __init__(self, config: MetadataConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.requests = config.variables
        self.extras = tuple(dict.fromkeys(v.extra or name for name, v in config.variables.items()))
        self.unsensed = self.extras
        count = len(config.variables)
        self.embed = nn.ModuleList(
            nn.Embedding(len(v.values), width)
            if v.values
            else nn.Sequential(nn.Linear(1, config.hidden), nn.GELU(), nn.Linear(config.hidden, width))
            for v in config.variables.values()
        )
        self.open = nn.Parameter(torch.randn(count, width) * 0.02)
        self.kind = nn.Parameter(torch.randn(count, width) * 0.02)

    def said(self, name: str, observation: Observation) -> tuple[Tensor, Tensor]:
        """Label of a variable in every row, (B,) float32, and where it is left open, (B,) bool.

        Raises:
            SpecError: a label is not in the declared set.
        """
        variable, rows = self.config.variables[name], observation.batch_size
        source = variable.extra or name
        asked = name if name in observation.extras else source
        if asked in observation.extras:
            entry = variable.entry if asked == source else 0
            label = observation.extras[asked][:, -1].reshape(rows, -1)[:, entry].float()
        else:
            number = variable.number(name, variable.request) if variable.request else math.nan
            label = torch.full((rows,), number, device=observation.pad.device)
        unsaid = (
            label.isnan() if asked not in observation.extras else torch.zeros_like(label, dtype=torch.bool)
        )
        if name in observation.missing:
            unsaid = unsaid | observation.missing[name][:, -1]
        variable.check(name, label[~unsaid])
        if variable.values:
            unsaid = unsaid | (label < 0)
        return label, unsaid

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        tokens = []
        for i, (name, variable) in enumerate(self.config.variables.items()):
            label, unsaid = self.said(name, observation)
            if self.training and variable.dropout:
                unsaid = unsaid | (torch.rand(label.shape, device=label.device) < variable.dropout)
            shown = torch.where(unsaid, torch.full_like(label, variable.low), label)
            if variable.values:
                token = self.embed[i](torch.where(unsaid, 0.0, label).long())
            else:
                token = self.embed[i](
                    2 * (shown[:, None] - variable.low) / (variable.high - variable.low) - 1
                )
            tokens.append(torch.where(unsaid[:, None], self.open[i], token) + self.kind[i])
        made = torch.stack(tokens, dim=1)
        return made, torch.zeros(made.shape[:2], dtype=torch.bool, device=made.device)
