"""Experts for one stream, of which a learned gate lets one generate (`bb.mot`; HarmoWAM, 2026; survey eq. 12).

A small network reads the context and chooses an expert per row: in one state the action may be read off an imagined
future, in another it may be a reaction to what is seen. Every expert learns from every row. The gate learns from what
the experts would have done: it minimises the expected error

    sum_k p(k | c) |sample of expert k - truth|^2 / mean over the experts

and no gradient of it reaches the experts, their trunk or the encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Size, Word
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, feature_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError, did_you_mean
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.rows import context_summary, generate_by_choice, summary_width
from wamkit.nn.named import Named

PLACE = "estimator 'gated'"


@EstimatorConfig.register_subclass("gated")
@dataclass(frozen=True)
class GatedConfig(EstimatorConfig):
    """Experts for one stream and a gate that chooses one of them per state (HarmoWAM, 2026; survey eq. 12).

    Attributes:
        experts: name -> estimator; all on this estimator's trunk.
        reads: expert -> streams of the factor's ``given`` that it reads; all of them without an entry.
        hidden: hidden width of the gate.
    """

    experts: dict[str, EstimatorConfig] = field(default_factory=dict)
    reads: dict[str, tuple[Word, ...]] = field(default_factory=dict)
    hidden: Size = 64

    @override
    def build(self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None) -> Gated:
        """Build the estimator.

        Raises:
            ConfigError: fewer than two experts or more than one stream, an expert on another trunk or with a past, or
                ``reads`` that name what is not there or leave a given stream unread.
        """
        trunk = require_trunk(trunk, PLACE)
        if len(self.experts) < 2 or len(outputs) != 1:
            raise ConfigError(
                f"{PLACE} chooses between at least two experts for one stream, got {sorted(self.experts)} for "
                f"{[s.name for s in outputs]}. Name more `experts`, or give every stream a factor of its own."
            )
        names = [spec.name for spec in given]
        for expert, streams in self.reads.items():
            if expert not in self.experts:
                raise ConfigError(
                    f"{PLACE}: reads: no expert {expert!r}. {did_you_mean(expert, self.experts)}"
                )
            for stream in streams:
                if stream not in names:
                    raise ConfigError(
                        f"{PLACE}: reads of {expert!r}: stream {stream!r} is not given. {did_you_mean(stream, names)}"
                    )
        read = {stream for expert in self.experts for stream in self.reads.get(expert, names)}
        if read != set(names):
            raise ConfigError(
                f"{PLACE}: no expert reads {sorted(set(names) - read)}. Leave it out of `given`."
            )
        built = {}
        for expert, part in self.experts.items():
            if part.trunk != self.trunk:
                raise ConfigError(
                    f"{PLACE}: expert {expert!r} runs on trunk {part.trunk!r} and the gate on {self.trunk!r}; name one"
                )
            seen = [spec for spec in given if spec.name in self.reads.get(expert, names)]
            built[expert] = part.build(outputs, seen, trunk)
            if built[expert].past:
                raise ConfigError(f"{PLACE}: expert {expert!r} keeps a past. Leave its `history` out.")
        return Gated(self, outputs[0], built, trunk)


def row_error(sample: Tensor, target: Target, real: Tensor | None = None) -> Tensor:
    """Error of every row, (B,): mean squared distance of values, or share of differing ids, without what is padded."""
    continuous = sample.is_floating_point()
    error = (sample - target.values).square() if continuous else (sample != target.values).float()
    keep = (~target.pad).float()
    return (feature_mean(error, real) * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)


@final
class Gated(Estimator):
    """Chooses an expert per row and lets it generate that row; the other experts do not run for it."""

    family: ClassVar[Family] = "mixture"

    def __init__(
        self, config: GatedConfig, output: StreamSpec, experts: Mapping[str, Estimator], trunk: Trunk
    ) -> None:
        super().__init__()
        self.config, self.output = config, output
        self.experts = Named(dict(experts))
        self.processes = sum(expert.processes for expert in experts.values())
        features = summary_width(trunk)
        self.gate = nn.Sequential(
            nn.LayerNorm(features),
            nn.Linear(features, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, len(experts)),
        )

    def scores(self, call: Call) -> Tensor:
        """Compute the gate's logits, (B, experts)."""
        return self.gate(context_summary(call))

    def choose(self, call: Call) -> Tensor:
        """Choose the number of the expert of every row, (B,)."""
        return self.scores(call).argmax(dim=1)

    @torch.no_grad()
    def errors(self, call: Call, target: Target) -> Tensor:
        """Compute the error (B, experts) of what every expert generates, all from the same fresh noise."""
        seeds = torch.randint(2**62, (call.rows,)).tolist()
        name, device = self.output.name, call.context.pad.device
        samples = [
            expert.generate([name], call, Budget(), RowNoise(seeds, device)).values[name]
            for expert in self.experts.values()
        ]
        return torch.stack([row_error(sample, target, call.real.get(name)) for sample in samples], dim=1)

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Mean loss of the experts, and the expected error of the gate's choice relative to the experts' mean error."""
        name = self.output.name
        losses = [expert.loss(outputs, call, targets, past) for expert in self.experts.values()]
        errors = self.errors(call, targets[name])
        relative = errors / errors.mean(dim=1, keepdim=True).clamp(min=1e-6)
        expected = (self.scores(call).softmax(dim=1) * relative).sum(dim=1).mean()
        together = torch.stack([loss.terms[name] for loss in losses]).mean()
        return FactorLoss({name: together, f"{name}.gate": expected})

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Generate each row by its chosen expert; ``nfe`` is the mean over rows, rounded."""
        experts, name = list(self.experts.values()), self.output.name

        def generate(number: int, rows: Call, own: RowNoise) -> Generated:
            return experts[number].generate(outputs, rows, budget, own)

        choice = self.choose(call)
        values, parts = generate_by_choice(choice, call, noise, generate)
        spent = sum(part.nfe[name] * int((choice == number).sum()) for number, part in parts.items())
        return Generated(values, {name: round(spent / call.rows)})

    @override
    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        for expert in self.experts.values():
            expert.check_budget(outputs, budget)
