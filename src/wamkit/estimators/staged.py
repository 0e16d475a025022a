"""Several estimators in one factor, on one trunk, one after the other (`bb.shared-trunk`, survey eqs. 30 and 31).

Ids and continuous values cannot share a process: ids are written token by token or unmasked, values are denoised. A
mixture of both in one network is a sequence of stages. Each stage has an estimator of its own for its streams, and
reads what earlier stages have generated:

    p(s, a | c) = p(s | c) p(a | s, c)    both on the same trunk, trained together, one factor of the design

In training a stage reads the true values of earlier streams. The losses of all stages meet in the trunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

from typing_extensions import override

from wamkit.config.ranges import SomeWords, Words
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated, LearnsApart
from wamkit.contract.protocols import Estimator, EstimatorConfig, Exposure, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError, did_you_mean
from wamkit.estimators.denoiser import Denoiser, DenoiserConfig
from wamkit.nn.named import Named

PLACE = "estimator 'staged'"


@EstimatorConfig.register_subclass("staged")
@dataclass(frozen=True)
class StagedConfig(EstimatorConfig):
    """Ids and continuous values in one factor, in stages on one trunk (F1, RynnVLA-002; survey eq. 30).

    Attributes:
        parts: stage name -> estimator of the stage, in the order in which the stages generate. All run on ``trunk``.
        streams: stage name -> streams that it generates; every stream of the factor belongs to one stage.
        reads: stream -> streams of earlier stages that it may read; a stream without an entry reads all of them.
            Streams of one stage read the same. Who reads whom inside a stage is a setting of its estimator.
    """

    parts: dict[str, EstimatorConfig] = field(default_factory=dict)
    streams: dict[str, SomeWords] = field(default_factory=dict)
    reads: dict[str, Words] = field(default_factory=dict)

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Staged:
        """Build the estimator.

        Raises:
            ConfigError: fewer than two stages, a stage on another trunk, streams that are not dealt to exactly one
                stage, or ``reads`` that name something else than a stream of an earlier stage.
        """
        self.check_parts([spec.name for spec in outputs])
        parts: dict[str, Estimator] = {}
        sources: dict[str, tuple[str, ...]] = {}
        earlier: list[StreamSpec] = []
        for name, part in self.parts.items():
            own = [spec for spec in outputs if spec.name in self.streams[name]]
            sources[name] = self._sources(name, [spec.name for spec in earlier])
            told = [*given, *(spec for spec in earlier if spec.name in sources[name])]
            parts[name] = part.build(own, told, trunk)
            earlier += own
        return Staged(self, [spec.name for spec in outputs], parts, sources)

    def check_parts(self, outputs: Sequence[str]) -> None:
        """Raise :class:`ConfigError` unless every stream belongs to one of two or more stages on this trunk."""
        if len(self.parts) < 2 or set(self.parts) != set(self.streams):
            raise ConfigError(
                f"{PLACE}: `parts` names the stages {list(self.parts)} and `streams` {list(self.streams)}; name at "
                f"least two, the same in both. One stage alone is the estimator itself."
            )
        for name, part in self.parts.items():
            if isinstance(part, DenoiserConfig) and part.remembers:
                raise ConfigError(
                    f"{PLACE}: stage {name!r} has `remembers`, and a stage keeps the past of what it generates or is "
                    f"given. Give it {list(part.remembers)} by an earlier factor, or use two factors."
                )
            if part.trunk != self.trunk:
                raise ConfigError(
                    f"{PLACE}: stage {name!r} runs on trunk {part.trunk!r}, the others on {self.trunk!r}. Name one, or "
                    f"use two factors."
                )
        dealt = [stream for streams in self.streams.values() for stream in streams]
        if sorted(dealt) != sorted(outputs):
            raise ConfigError(
                f"{PLACE}: `streams` deals {sorted(dealt)} to its stages, and the factor generates {sorted(outputs)}. "
                f"Give every stream to one stage."
            )
        for name in self.reads:
            if name not in dealt:
                raise ConfigError(f"{PLACE}: `reads` names stream {name!r}. {did_you_mean(name, dealt)}")

    def _sources(self, stage: str, earlier: Sequence[str]) -> tuple[str, ...]:
        """Streams of earlier stages that the streams of one stage read."""
        tables = {stream: set(self.reads.get(stream, earlier)) for stream in self.streams[stage]}
        for stream, sources in tables.items():
            for name in sorted(sources - set(earlier)):
                raise ConfigError(
                    f"{PLACE}: `reads` lets stream {stream!r} read {name!r}, which no earlier stage generates. "
                    f"{did_you_mean(name, earlier)} Put the stage that generates it first."
                )
        if len({frozenset(sources) for sources in tables.values()}) > 1:
            shown = "; ".join(f"{stream!r} reads {sorted(sources)}" for stream, sources in tables.items())
            raise ConfigError(
                f"{PLACE}: the streams of stage {stage!r} are generated together and must read the same earlier "
                f"streams, but {shown}. Change `reads`, or give them stages of their own."
            )
        return tuple(name for name in earlier if name in next(iter(tables.values())))


@final
class Staged(Estimator, LearnsApart):
    """Runs the estimators of its stages in order, each given the streams of earlier stages that it may read."""

    family: ClassVar[Family] = "mixture"

    def __init__(
        self,
        config: StagedConfig,
        outputs: Sequence[str],
        parts: Mapping[str, Estimator],
        sources: Mapping[str, tuple[str, ...]],
    ) -> None:
        super().__init__()
        self.config = config
        self.parts = Named(parts)
        self.sources = dict(sources)
        self.streams = {name: [s for s in outputs if s in config.streams[name]] for name in parts}
        self.processes = sum(part.processes for part in parts.values())
        self.past = max(part.past for part in parts.values())
        self.guidable = all(part.guidable for part in parts.values())
        self.exits = all(part.exits for part in parts.values())
        self.reads = {stream: self._read_by(stream) for stream in outputs}
        exposes: dict[str, Exposure] = {}
        for part in parts.values():
            exposes.update(part.exposes)
        self.exposes = exposes

    def remember(self, ticks: int) -> None:
        """Let every stage with a ``history`` keep its past in blocks of ``ticks`` control ticks."""
        for part in self.parts.values():
            if isinstance(part, Denoiser) and part.config.history:
                part.remember((), ticks)

    def stage_of(self, stream: str) -> str:
        """Name of the stage that generates ``stream``."""
        return next(name for name, streams in self.streams.items() if stream in streams)

    def _read_by(self, stream: str) -> tuple[str, ...]:
        """Streams that ``stream`` may read: those of its stage as its estimator says, and those of earlier stages."""
        stage = self.stage_of(stream)
        beside = self.parts[stage].reads.get(stream, tuple(self.streams[stage]))
        return (*self.sources[stage], *(name for name in beside if name != stream))

    def _stages(self, outputs: Sequence[str]) -> list[tuple[str, Estimator, list[str]]]:
        """Stages that generate one of ``outputs``: name, estimator and the streams, in their declared order."""
        found = [(n, part, [s for s in self.streams[n] if s in outputs]) for n, part in self.parts.items()]
        return [(name, part, own) for name, part, own in found if own]

    def _call(self, stage: str, own: Sequence[str], call: Call) -> Call:
        """Conditions of one stage; what it may not read is left out, and a guide goes to the stage it steers."""
        late = {s for n, streams in self.streams.items() for s in streams if n != stage} - {
            *self.sources[stage]
        }
        given = {name: value for name, value in call.given.items() if name not in late}
        carry = call.carry[stage] if call.carry else ()
        guide = call.guide if call.guide is not None and call.guide.stream in own else None
        return replace(call, given=given, carry=carry, guide=guide)

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Losses of all stages; a stage reads the true values of earlier streams."""
        known = {name: targets[name].values for name in self.reads if name in targets}
        terms: dict[str, Any] = {}
        inferred: dict[str, Any] = {}
        for name, part, own in self._stages(outputs):
            truth = {stream: {**known, **inferred}[stream] for stream in self.sources[name]}
            told = self._call(name, own, replace(call, given={**truth, **call.given}))
            result = part.loss(own, told, targets, past)
            terms.update(result.terms)
            inferred.update(result.inferred)
        return FactorLoss(terms, inferred)

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Generate stage by stage."""
        values = dict(call.given)
        spent: dict[str, int] = {}
        for name, part, own in self._stages(outputs):
            result = part.generate(own, self._call(name, own, replace(call, given=values)), budget, noise)
            values.update(result.values)
            spent.update(result.nfe)
        return Generated({name: values[name] for name in outputs}, spent)

    @override
    def sees(self, spec: StreamSpec, outputs: Sequence[str]) -> tuple[frozenset[str], ...]:
        """What the stage's estimator says of its own streams, and all that leads to the earlier ones that it reads."""
        stage = self.stage_of(spec.name)
        earlier: set[str] = set()
        todo = [name for name in self.sources[stage] if name in outputs]
        while todo:
            name = todo.pop()
            earlier.add(name)
            todo += [source for source in self.reads[name] if source in outputs and source not in earlier]
        own = [name for name in self.streams[stage] if name in outputs]
        return tuple(frozenset(step | earlier) for step in self.parts[stage].sees(spec, own))

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        """True when the stage of every output reads ``stream``: it comes earlier, or the stage's estimator takes it."""
        at = self.stage_of(stream)
        return all(
            self.parts[name].takes(own, stream) if name == at else stream in self.sources[name]
            for name, _, own in self._stages(outputs)
        )

    @override
    def learns_without(self, outputs: Sequence[str], missing: Sequence[str]) -> set[str]:
        """Streams of stages that read no missing stream of an earlier one, as far as their own estimator can."""
        kept: set[str] = set()
        for name, part, own in self._stages(outputs):
            absent = [stream for stream in own if stream in missing]
            if set(self.sources[name]) & set(missing):
                continue
            if not absent:
                kept.update(own)
            elif isinstance(part, LearnsApart):
                kept |= part.learns_without(own, absent)
        return kept

    @override
    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        for _, part, own in self._stages(outputs):
            part.check_budget(own, budget)

    @override
    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """True for a stream that no later stage in this call reads, and that its own stage can leave out."""
        stage = self.stage_of(stream)
        for name, part, own in self._stages(outputs):
            if stream in self.sources[name]:
                return False
            if name == stage and own != [stream] and not part.skippable(own, stream, budget):
                return False
        return True

    @override
    def initial_carry(self, batch_size: int) -> Any:
        """Return the carry of every stage; nothing where no stage keeps a past."""
        if not self.past:
            return ()
        return {name: part.initial_carry(batch_size) for name, part in self.parts.items()}

    @override
    def observe(self, carry: Any, context: Cache, past: Past) -> Any:
        """Show the block to every stage."""
        if not self.past:
            return carry
        return {name: part.observe(carry[name], context, past) for name, part in self.parts.items()}
