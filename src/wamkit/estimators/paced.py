"""A learned, state-adaptive number of steps around any estimator that works in steps (`ss.learned-schedule`).

A gate reads the context and chooses one of a few step counts for each row. It is trained against the estimator as it
stands: all counts start from the same noise, and the longest is the reference. The gate minimises the expected cost

    sum_n p(n | c) ( (d_n / tolerance)^2 + n / n_max )

with d_n the root mean square difference (for token ids: the share that differs) between the sample of n steps and the
reference. An error as large as the tolerance thus costs as much as the whole schedule. No gradient of the gate reaches
the estimator, its trunk or the encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wamkit.contract.calls import Call, FactorLoss, Generated, Revises
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget, map_tensors
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.denoiser import DenoiserConfig


@EstimatorConfig.register_subclass("paced")
@dataclass(frozen=True)
class PacedConfig(EstimatorConfig):
    """Step counts chosen per state by a small gate around a denoiser (NoiseGate, SANTS; `ss.learned-schedule`).

    Attributes:
        inner: the estimator whose steps are chosen; it works in steps (family ``diffusion``).
        counts: step counts to choose from, ascending. One alone is the uniform schedule.
        tolerance: difference from the longest schedule that costs as much as all of its steps.
        hidden: width of the gate.
        train: ``all``, ``inner`` or ``gate`` alone. Train ``inner`` first and start from it as ``pretrained`` with
            ``gate``, and the denoiser stays as it was.
    """

    inner: EstimatorConfig = field(default_factory=DenoiserConfig)
    counts: tuple[int, ...] = (1, 2, 4, 8)
    tolerance: float = 0.1
    hidden: int = 64
    train: Literal["all", "inner", "gate"] = "all"

    def build(self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None) -> Paced:
        """Build; raises :class:`ConfigError` when ``inner`` has no steps to choose, or keeps a past."""
        place = "estimator 'paced'"
        if self.inner.trunk != self.trunk:
            raise ConfigError(
                f"{place}: `inner` runs on trunk {self.inner.trunk!r} and the gate on {self.trunk!r}; name one"
            )
        if not self.counts or self.counts[0] < 1 or list(self.counts) != sorted(set(self.counts)):
            raise ConfigError(f"{place}: counts {self.counts} must be ascending and at least 1")
        if self.tolerance <= 0:
            raise ConfigError(f"{place}: tolerance {self.tolerance} must be above 0")
        inner = self.inner.build(outputs, given, trunk)
        if inner.family != "diffusion" or inner.past:
            raise ConfigError(
                f"{place}: `inner` is of family {inner.family!r} and keeps {inner.past} blocks of past; it has to "
                f"work in steps and keep no past. Use a denoiser without `history`, or an unmasker."
            )
        return Paced(self, inner, require_trunk(trunk, place))


def difference(sample: Tensor, reference: Tensor) -> Tensor:
    """(B, ...) twice -> (B,): root mean square of values, share of differing token ids."""
    if not sample.is_floating_point():
        return (sample != reference).flatten(1).float().mean(dim=1)
    return (sample - reference).flatten(1).square().mean(dim=1).sqrt()


@final
class Paced(Estimator, Revises):
    """Chooses the step count of each row and lets the inner estimator generate the rows of each count."""

    family: ClassVar[Family] = "diffusion"

    def __init__(self, config: PacedConfig, inner: Estimator, trunk: Trunk) -> None:
        super().__init__()
        self.config = config
        self.inner = inner
        self.processes = inner.processes
        self.reads = inner.reads
        seen = trunk.empty(1, 1).values[-1].numel()  # features of one token's values, all heads
        self.gate = nn.Sequential(
            nn.LayerNorm(seen),
            nn.Linear(seen, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, len(config.counts)),
        )

    def scores(self, call: Call) -> Tensor:
        """(B, counts): how much the gate is for each count, from the mean of the context's last values."""
        values, keep = call.context.values[-1].detach(), ~call.context.pad
        kept = (values * keep[:, None, :, None]).sum(dim=2) / keep.sum(dim=1).clamp(min=1)[:, None, None]
        return self.gate(kept.flatten(1))

    def _whole(self, outputs: Sequence[str], count: int, budget: Budget) -> Budget:
        return replace(budget, nfe={**budget.nfe, **dict.fromkeys(outputs, count)})

    @torch.no_grad()
    def costs(self, outputs: Sequence[str], call: Call) -> Tensor:
        """(B, counts): what each count would cost these rows, all of them from the same fresh noise."""
        seeds = torch.randint(2**62, (call.rows,)).tolist()
        device = call.context.pad.device
        made = [
            self.inner.generate(
                outputs, call, self._whole(outputs, n, Budget()), RowNoise(seeds, device)
            ).values
            for n in self.config.counts
        ]
        found = []
        for n, values in zip(self.config.counts, made, strict=True):
            gaps = torch.stack([difference(values[name], made[-1][name]) for name in outputs])
            share = n / self.config.counts[-1]
            found.append((gaps / self.config.tolerance).square().mean(dim=0) + share)
        return torch.stack(found, dim=1)

    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """The inner estimator's losses, and the expected cost of the gate's choice as a term of its own."""
        made = FactorLoss({})
        if self.config.train != "gate":
            made = self.inner.loss(outputs, call, targets, past)
        if self.config.train == "inner":
            return made
        expected = (self.scores(call).softmax(dim=1) * self.costs(outputs, call)).sum(dim=1).mean()
        return FactorLoss({**made.terms, f"{'+'.join(outputs)}.steps": expected}, made.inferred)

    def choose(self, call: Call) -> Tensor:
        """(B,) step counts."""
        counts = torch.tensor(self.config.counts, device=call.context.pad.device)
        return counts[self.scores(call).argmax(dim=1)]

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Each row with the steps chosen for it; ``nfe`` is the mean over rows, rounded.

        A budget that says how many evaluations a stream may spend replaces the gate.
        """
        if any(name in budget.nfe for name in outputs):
            return self.inner.generate(outputs, call, budget, noise)
        if noise.copies > 1:
            noise = noise.fork()  # a generator per row, so that rows can be told apart
        chosen = self.choose(call)
        order: list[Tensor] = []
        parts: list[Generated] = []
        for count in chosen.unique().tolist():
            index = (chosen == count).nonzero()[:, 0]
            some = RowNoise((), noise.device)
            some.generators = [noise.generators[i] for i in index.tolist()]
            rows = replace(map_tensors(call, lambda t, index=index: t[index]), rows=len(index))
            parts.append(self.inner.generate(outputs, rows, self._whole(outputs, count, budget), some))
            order.append(index)
        back = torch.cat(order).argsort()
        values = {name: torch.cat([part.values[name] for part in parts])[back] for name in outputs}
        return Generated(values, dict.fromkeys(outputs, round(chosen.float().mean().item())))

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """See :class:`wamkit.contract.Estimator`: as the inner estimator."""
        self.inner.check_budget(outputs, budget)

    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """As the inner estimator."""
        return self.inner.skippable(outputs, stream, budget)

    def revisable(self, outputs: Sequence[str]) -> bool:
        """As the inner estimator."""
        return isinstance(self.inner, Revises) and self.inner.revisable(outputs)
