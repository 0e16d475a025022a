"""Base of the estimators that generate streams together, each with a noise level of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Dropout, Probability, Size, Word
from wamkit.contract.calls import LearnsApart, Revises
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_disjoint
from wamkit.estimators.joint import StreamReads
from wamkit.estimators.samplers import Spending, evaluations_spent
from wamkit.estimators.tokens import StreamTokens
from wamkit.nn.named import Named


@dataclass(frozen=True)
class LevelConfig(EstimatorConfig):
    """Base of the configs of estimators with a noise level per stream.

    Attributes:
        steps: default function evaluations per stream.
        nfe: stream name -> function evaluations, for streams that differ from ``steps``.
        reads: stream -> streams generated with it that it may read; a stream without an entry reads all of them. A
            stream that no wanted stream reads can be skipped without ``absent``.
        absent: stream name -> probability that training hides the whole stream. Only such streams, and those that no
            wanted stream reads, can be skipped at inference. Where all streams share one level, the others share it
            in such a row.
        clean: stream name -> probability that training shows the whole stream without noise. Streams that are given
            at inference belong here.
    """

    steps: Size = 8
    nfe: dict[str, Size] = field(default_factory=dict)
    reads: dict[str, tuple[Word, ...]] = field(default_factory=dict)
    absent: dict[str, Dropout] = field(default_factory=dict)
    clean: dict[str, Probability] = field(default_factory=dict)

    def check_streams(
        self,
        outputs: Sequence[StreamSpec],
        given: Sequence[StreamSpec],
        *,
        discrete: bool,
        shared: str | None,
        reader: str,
    ) -> None:
        """Raise :class:`ConfigError` on streams of the wrong kind, unknown names or settings that exclude each other.

        Args:
            outputs: generated streams.
            given: streams that are read.
            discrete: True when the outputs must be token ids, False when they must be continuous.
            shared: name of the setting that gives all streams one level, or None when each stream draws its own.
            reader: the estimator, for errors.
        """
        require_disjoint(outputs, given, reader)
        for spec in outputs:
            spec.require(discrete=discrete, reader=reader)
            spec.require_free(reader)
        names = sorted(spec.name for spec in outputs)
        for key, named in (("nfe", self.nfe), ("absent", self.absent), ("clean", self.clean)):
            for name in named:
                if name not in names:
                    raise ConfigError(f"{reader}: `{key}` names stream {name!r}, but it generates {names}")
        if shared is not None and self.clean:
            raise ConfigError(
                f"{reader}: `clean` shows a stream without noise beside a noisy one, so it needs {shared}: independent"
            )


class LevelEstimator(Estimator, Revises, LearnsApart):
    """Bidirectional network over all output streams in one sequence.

    Args:
        config: evaluations per stream, who reads whom, and the streams that can be skipped or given.
        outputs: generated streams.
        given: streams that are read.
        trunk: the network.
        independent: True when every stream draws its own level, False when all share one.
        reader: the estimator, for errors.
    """

    family: ClassVar[Family] = "diffusion"
    config: LevelConfig

    def __init__(
        self,
        config: LevelConfig,
        outputs: Sequence[StreamSpec],
        given: Sequence[StreamSpec],
        trunk: Trunk,
        *,
        independent: bool,
        reader: str,
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.outputs = Named({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = Named({s.name: StreamTokens(s, trunk.width) for s in given})
        # Levels of their own make futures frames of one clip (diffusion forcing), but future and action two processes.
        self.processes = len({spec.role for spec in outputs}) if independent else 1
        self.reads = dict(config.reads)
        self.joint = StreamReads([s.name for s in outputs], config.reads, reader)

    def sources_first(self, outputs: Sequence[str]) -> list[str]:
        """Sort ``outputs`` so that a stream that others read without reading them back comes before them."""
        return [name for block in self.joint.blocks(list(self.outputs)) for name in block if name in outputs]

    def spending(self, name: str, budget: Budget) -> Spending:
        """Evaluations of one stream; raises :class:`BudgetError` when ``budget`` is out of range."""
        return evaluations_spent(name, budget, self.config.nfe.get(name, self.config.steps))

    def with_extremes(self, name: str, drawn: Tensor, full: float) -> Tensor:
        """Replace noise amounts (B,) drawn for training by ``full`` or 0, with the configured probabilities."""
        chance = torch.rand(len(drawn), device=drawn.device)
        drawn = torch.where(chance < self.config.absent.get(name, 0.0), full, drawn)
        return torch.where(chance > 1 - self.config.clean.get(name, 0.0), 0, drawn)

    @override
    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """Require at least one evaluation per stream, and an exit within its evaluations."""
        for name in outputs:
            self.spending(name, budget)

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        """True for a stream of this estimator that reaches every output which it depends on itself."""
        present = [*outputs, stream]
        return stream in self.outputs and all(
            self.joint.depends(name, stream, present) or not self.joint.depends(stream, name, present)
            for name in outputs
        )

    @override
    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """True for a stream that training has hidden, or that no other output reads."""
        return self.joint.unread(outputs, stream) or self.config.absent.get(stream, 0.0) > 0

    @override
    def learns_without(self, outputs: Sequence[str], missing: Sequence[str]) -> set[str]:
        """All outputs: a missing stream is pure noise, or all masked, in its rows, and then nothing reads it."""
        return set(outputs)

    @override
    def revisable(self, outputs: Sequence[str]) -> bool:
        """True when training has shown every output clean and all outputs read each other."""
        return self.joint.mutual(outputs) and all(self.config.clean.get(name, 0.0) > 0 for name in outputs)

    @override
    def conditional(self, outputs: Sequence[str], known: Sequence[str]) -> bool:
        """True when training has shown every known stream clean and each output reads all of them."""
        shown = all(self.config.clean.get(name, 0.0) > 0 for name in known)
        return shown and all(self.joint.reaches(name, known) for name in outputs)
