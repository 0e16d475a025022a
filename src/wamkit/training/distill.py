"""Few-step distillation: where many steps of a teacher lead, in few (`ss.distill`; Luhman & Luhman 2021).

Teacher and student start from the same noise under the same context. The sampler is deterministic from there on, so
the teacher's sample is a function of the noise, and the student learns that function with the steps it is allowed: it
is trained through its own sampler, in just the way it will be used. Both modes of a bimodal density stay apart, because
every noise belongs to one of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from wamkit.contract.calls import Call
from wamkit.contract.protocols import Estimator
from wamkit.contract.streams import RowNoise, Target, masked_mean
from wamkit.contract.types import Batch, Budget, Losses
from wamkit.design import Design
from wamkit.design.sampling import NO_CONTEXT
from wamkit.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class DistillConfig:
    """Compress the checkpoint in ``pretrained`` into few steps. ``OptimConfig.only`` says what of it may change.

    Attributes:
        steps: stream name -> function evaluations of the student. Set the design's own steps to the same.
        teacher_steps: function evaluations of the teacher, for each of these streams.
    """

    steps: dict[str, int] = field(default_factory=dict)
    teacher_steps: int = 32


def few_step_loss(
    teacher: tuple[Estimator, Call],
    student: tuple[Estimator, Call],
    targets: Mapping[str, Target],
    config: DistillConfig,
    outputs: Sequence[str],
) -> dict[str, Tensor]:
    """Squared distance between the student's sample and the teacher's, per stream that ``config.steps`` names.

    Args:
        teacher: an estimator and what it is conditioned on.
        student: the same for the student; gradients flow through its sampler.
        targets: what the streams should have been; only their padding is read.
        config: steps of both.
        outputs: what the factor generates.
    """
    call = teacher[1]
    seeds, device = torch.randint(2**62, (call.rows,)).tolist(), call.context.pad.device
    many = dict.fromkeys(config.steps, config.teacher_steps)
    with torch.no_grad():
        reached = teacher[0].generate(outputs, call, Budget(nfe=many), RowNoise(seeds, device)).values
    found = student[0].generate(outputs, student[1], Budget(nfe=config.steps), RowNoise(seeds, device)).values
    return {
        name: masked_mean((found[name] - reached[name]).square(), targets[name].pad)
        for name in outputs
        if name in config.steps
    }


@final
class Distillation:
    """The objective of a run that distils: replaces :meth:`Design.loss`.

    Args:
        config: what to distil and what may change.
        student: a design that holds the teacher's weights.

    Raises:
        ConfigError: on streams that do not exist, and on designs whose samples have no gradient.
    """

    def __init__(self, config: DistillConfig, student: Design) -> None:
        self.config = config
        check_distillable(config, student)
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()

    def loss(self, student: Design, batch: Batch) -> Losses:
        """Losses of the factors with distilled streams; what they read besides the context is as demonstrated."""
        targets = student.targets(batch)
        terms: dict[str, Tensor] = {}
        seen = batch.observation.steps(slice(-len(student.window.observation), None))
        seen = replace(seen, goal=batch.goal)
        student.encoders.eval()  # no augmentation: both have to see the same
        with torch.no_grad():
            teacher_context = self.teacher.encode_context(seen)
        context = student.encode_context(seen)
        for factor in student.graph.factors:
            if not set(factor.generates) & set(self.config.steps):
                continue
            given = {name: targets[name].values for name in factor.given}
            trunk = student.graph.estimators[factor.estimator].trunk
            pair = []
            for design, cache in ((self.teacher, teacher_context), (student, context)):
                estimator = design.estimators[factor.estimator]
                assert isinstance(estimator, Estimator)
                known = cache[trunk] if trunk is not None else NO_CONTEXT
                pair.append((estimator, Call(known, given, (), batch.action.shape[0])))
            terms.update(few_step_loss(pair[0], pair[1], targets, self.config, factor.generates))
        total = sum((student.weights.get(name, 1.0) * term for name, term in terms.items()), torch.zeros(()))
        return Losses(total, terms)


def check_distillable(config: DistillConfig, student: Design) -> None:
    """Raise :class:`ConfigError` when this design cannot be distilled this way."""
    if not config.steps:
        raise ConfigError("distill: `steps` names no stream; say how many evaluations each stream may spend")
    for name in config.steps:
        if name not in student.streams:
            raise ConfigError(f"distill: unknown stream {name!r}. {did_you_mean(name, student.streams)}")
        student.streams[name].require(discrete=False, reader="few-step distillation")
        factor = student.graph.factor_of(name)
        family = student.graph.estimators[factor.estimator].family
        if family != "diffusion":
            raise ConfigError(
                f"distill: stream {name!r} is generated by an estimator of family {family!r}, which has no steps to "
                f"save. Distil streams of a denoiser."
            )
        hidden = [n for n in factor.given if student.streams[n].role == "state"]
        if hidden or student.past_blocks:
            raise ConfigError(
                f"distill: stream {name!r} reads what is carried between calls, which no single window shows. Distil "
                f"a design without a past."
            )
        for label, steps in (("steps", config.steps[name]), ("teacher_steps", config.teacher_steps)):
            if steps < 1:
                raise ConfigError(f"distill: {label} {steps} of stream {name!r} must be at least 1")
