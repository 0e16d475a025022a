"""Learned, state-dependent number of steps around any estimator that works in steps (`ss.learned-schedule`).

A gate reads the context and chooses one of a few step counts per row. It is trained against the estimator's current
weights: all counts start from the same noise, and the longest is the reference. The gate minimises the expected cost

    sum_n p(n | c) ( (d_n / tolerance)^2 + n / n_max )

with d_n the root mean square difference (for token ids: the share that differs) between the sample of n steps and the
reference. An error as large as the tolerance thus costs as much as the longest schedule. No gradient of the gate
reaches the estimator, its trunk or the encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Length, Positive, Size
from wamkit.contract.calls import Call, FactorLoss, Generated, LearnsApart, Revises
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, feature_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.denoiser import DenoiserConfig
from wamkit.estimators.rows import context_summary, generate_by_choice, summary_width


@EstimatorConfig.register_subclass("paced")
@dataclass(frozen=True)
class PacedConfig(EstimatorConfig):
    """Step counts chosen per state by a small gate around a denoiser (NoiseGate, SANTS; `ss.learned-schedule`).

    Attributes:
        inner: estimator whose step count is chosen; its family must be ``diffusion``.
        counts: step counts to choose from, ascending. A single count is the uniform schedule.
        tolerance: difference from the longest schedule that costs as much as all of its steps.
        hidden: hidden width of the gate.
        train: parts to train: ``all``, ``inner`` or ``gate``. To leave a denoiser unchanged, train ``inner`` first,
            then start from it as ``pretrained`` with ``gate``.
    """

    inner: EstimatorConfig = field(default_factory=DenoiserConfig)
    counts: Annotated[tuple[Size, ...], Length(1, ascending=True)] = (1, 2, 4, 8)
    tolerance: Positive = 0.1
    hidden: Size = 64
    train: Literal["all", "inner", "gate"] = "all"

    @override
    def build(self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None) -> Paced:
        """Build the estimator.

        Raises:
            ConfigError: ``inner`` runs on another trunk, or does not work in steps or keeps a past.
        """
        place = "estimator 'paced'"
        if self.inner.trunk != self.trunk:
            raise ConfigError(
                f"{place}: `inner` runs on trunk {self.inner.trunk!r} and the gate on {self.trunk!r}; name one"
            )
        inner = self.inner.build(outputs, given, trunk)
        if inner.family != "diffusion" or inner.past:
            raise ConfigError(
                f"{place}: `inner` is of family {inner.family!r} and keeps {inner.past} blocks of past; it must "
                f"work in steps and keep no past. Use a denoiser without `history`, or an unmasker."
            )
        return Paced(self, inner, require_trunk(trunk, place))


def difference(sample: Tensor, reference: Tensor, real: Tensor | None = None) -> Tensor:
    """Compare two samples (B, T, ...): root mean square difference of values, or share of differing ids, (B,)."""
    if not sample.is_floating_point():
        return feature_mean((sample != reference).float(), real).mean(dim=1)
    return feature_mean((sample - reference).square(), real).mean(dim=1).sqrt()


@final
class Paced(Estimator, Revises, LearnsApart):
    """Chooses the step count of each row and lets the inner estimator generate the rows of each count."""

    family: ClassVar[Family] = "diffusion"

    def __init__(self, config: PacedConfig, inner: Estimator, trunk: Trunk) -> None:
        super().__init__()
        self.config = config
        self.inner = inner
        self.processes = inner.processes
        self.reads = dict(inner.reads)
        features = summary_width(trunk)
        self.gate = nn.Sequential(
            nn.LayerNorm(features),
            nn.Linear(features, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, len(config.counts)),
        )

    def scores(self, call: Call) -> Tensor:
        """Compute the gate's logits (B, counts), from the mean of the context's values in the last layer."""
        return self.gate(context_summary(call))

    def _whole(self, outputs: Sequence[str], count: int, budget: Budget) -> Budget:
        return replace(budget, nfe={**budget.nfe, **dict.fromkeys(outputs, count)})

    @torch.no_grad()
    def costs(self, outputs: Sequence[str], call: Call) -> Tensor:
        """Compute the cost (B, counts) of every count for these rows, all from the same fresh noise."""
        seeds = torch.randint(2**62, (call.rows,)).tolist()
        device = call.context.pad.device
        samples = [
            self.inner.generate(
                outputs, call, self._whole(outputs, n, Budget()), RowNoise(seeds, device)
            ).values
            for n in self.config.counts
        ]
        costs = []
        for n, values in zip(self.config.counts, samples, strict=True):
            gaps = torch.stack(
                [difference(values[name], samples[-1][name], call.real.get(name)) for name in outputs]
            )
            share = n / self.config.counts[-1]
            costs.append((gaps / self.config.tolerance).square().mean(dim=0) + share)
        return torch.stack(costs, dim=1)

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Loss terms of the inner estimator, plus a term for the expected cost of the gate's choice."""
        loss = FactorLoss({})
        if self.config.train != "gate":
            loss = self.inner.loss(outputs, call, targets, past)
        if self.config.train == "inner":
            return loss
        expected = (self.scores(call).softmax(dim=1) * self.costs(outputs, call)).sum(dim=1).mean()
        return FactorLoss({**loss.terms, f"{'+'.join(outputs)}.steps": expected}, loss.inferred)

    def choose(self, call: Call) -> Tensor:
        """Choose the step count of every row, (B,)."""
        counts = torch.tensor(self.config.counts, device=call.context.pad.device)
        return counts[self.scores(call).argmax(dim=1)]

    @override
    def sees(self, spec: StreamSpec, outputs: Sequence[str]) -> tuple[frozenset[str], ...]:
        return self.inner.sees(spec, outputs)

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        return self.inner.takes(outputs, stream)

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Generate each row with its chosen step count; ``nfe`` is the mean over rows, rounded.

        A budget with ``nfe`` for one of the outputs replaces the gate.
        """
        if any(name in budget.nfe for name in outputs):
            return self.inner.generate(outputs, call, budget, noise)
        chosen = self.choose(call)

        def generate(count: int, rows: Call, own: RowNoise) -> Generated:
            return self.inner.generate(outputs, rows, self._whole(outputs, count, budget), own)

        values, _ = generate_by_choice(chosen, call, noise, generate)
        return Generated(values, dict.fromkeys(outputs, round(chosen.float().mean().item())))

    @override
    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        self.inner.check_budget(outputs, budget)

    @override
    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        return self.inner.skippable(outputs, stream, budget)

    @override
    def learns_without(self, outputs: Sequence[str], missing: Sequence[str]) -> set[str]:
        return self.inner.learns_without(outputs, missing) if isinstance(self.inner, LearnsApart) else set()

    @override
    def revisable(self, outputs: Sequence[str]) -> bool:
        return isinstance(self.inner, Revises) and self.inner.revisable(outputs)

    @override
    def conditional(self, outputs: Sequence[str], known: Sequence[str]) -> bool:
        return isinstance(self.inner, Revises) and self.inner.conditional(outputs, known)
