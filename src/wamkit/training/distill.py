"""Few-step distillation: a student matches the teacher's many-step samples (`ss.distill`; Luhman & Luhman 2021).

Teacher and student start from the same noise under the same context. The sampler is deterministic, so the teacher's
sample is a function of the noise. The student learns this function within its own budget of steps: it is trained
through its own sampler, exactly as it will be used. The modes of a multimodal density stay apart, because each noise
sample belongs to one of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Size
from wamkit.config.values import Config
from wamkit.contract.calls import Call
from wamkit.contract.protocols import Estimator
from wamkit.contract.streams import RowNoise, Target, masked_mean
from wamkit.contract.types import Batch, Budget, Losses
from wamkit.design import Design
from wamkit.design.learning import learnable
from wamkit.design.sampling import context_of
from wamkit.errors import ConfigError, did_you_mean
from wamkit.training.objective import Objective


@dataclass(frozen=True)
class DistillConfig(Config):
    """Compression of the checkpoint in ``pretrained`` into few steps; ``OptimConfig.only`` selects what may change.

    Attributes:
        steps: stream name -> function evaluations of the student; set the design's own steps to the same numbers.
        teacher_steps: function evaluations of the teacher for each of these streams.
    """

    steps: dict[str, Size] = field(default_factory=dict)
    teacher_steps: Size = 32


def few_step_loss(
    teacher: tuple[Estimator, Call],
    student: tuple[Estimator, Call],
    targets: Mapping[str, Target],
    config: DistillConfig,
    outputs: Sequence[str],
) -> dict[str, Tensor]:
    """Squared distance between the student's sample and the teacher's, per stream in ``config.steps``.

    Args:
        teacher: the teacher's estimator and its conditions.
        student: the student's estimator and its conditions; gradients flow through its sampler.
        targets: ground truth of the streams, of which only the padding is read.
        config: steps of both.
        outputs: streams that the factor generates.
    """
    call = teacher[1]
    seeds, device = torch.randint(2**62, (call.rows,)).tolist(), call.context.pad.device
    many = dict.fromkeys(config.steps, config.teacher_steps)
    with torch.no_grad():
        wanted = teacher[0].generate(outputs, call, Budget(nfe=many), RowNoise(seeds, device)).values
    reached = (
        student[0].generate(outputs, student[1], Budget(nfe=config.steps), RowNoise(seeds, device)).values
    )
    return {
        name: masked_mean((reached[name] - wanted[name]).square(), targets[name].pad, call.real.get(name))
        for name in outputs
        if name in config.steps
    }


@final
class Distillation(Objective):
    """Distance of the student's few-step samples from its teacher's. Moving averages stay those of the teacher.

    Args:
        config: streams and steps.
        student: design that holds the teacher's weights; a frozen copy of it becomes the teacher.

    Raises:
        ConfigError: unknown streams, or a design whose samples have no gradient.
    """

    def __init__(self, config: DistillConfig, student: Design) -> None:
        self.config = config
        check_distillable(config, student)
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()

    @override
    def loss(self, design: Design, batch: Batch, weights: Mapping[str, float]) -> Losses:
        """Losses of the factors with distilled streams; streams that a factor reads are those of the demonstration."""
        targets = design.targets(batch)
        terms: dict[str, Tensor] = {}
        observation = batch.observation.steps(slice(-len(design.window.observation), None))
        observation = replace(observation, goal=batch.goal)
        # Without augmentation, so that teacher and student see the same.
        design.encoders.eval()
        with torch.no_grad():
            teacher_context = self.teacher.encode_context(observation)
        real, rows = design.real(observation), observation.batch_size
        contexts = ((self.teacher, teacher_context), (design, design.encode_context(observation)))
        for factor in design.graph.factors:
            if not set(factor.generates) & set(self.config.steps):
                continue
            given = {name: targets[name].values for name in factor.given}
            teacher, student = (
                (
                    side.estimators[factor.estimator],
                    Call(context_of(factor.estimator, side.graph, context), given, (), rows, real=real),
                )
                for side, context in contexts
            )
            # A tap is read off the generation and has no steps of its own.
            outputs = [name for name in factor.generates if name not in design.config.taps]
            known = learnable(factor, None, targets)
            terms.update(few_step_loss(teacher, student, known, self.config, outputs))
        return Losses.weighted(terms, weights)


def check_distillable(config: DistillConfig, student: Design) -> None:
    """Raise :class:`ConfigError` when the design cannot be distilled."""
    if not config.steps:
        raise ConfigError("distill: `steps` names no stream; say how many evaluations each stream may spend")
    for name in config.steps:
        if name not in student.streams:
            raise ConfigError(f"distill: unknown stream {name!r}. {did_you_mean(name, student.streams)}")
        if name in student.config.given:
            raise ConfigError(f"distill: stream {name!r} is given and not generated, so no step can be saved")
        student.streams[name].require(discrete=False, reader="few-step distillation")
        factor = student.graph.factor_of(name)
        family = student.graph.estimators[factor.estimator].family
        if family != "diffusion":
            raise ConfigError(
                f"distill: stream {name!r} is generated by an estimator of family {family!r}, which has no steps to "
                f"save. Distil streams of a denoiser."
            )
        states = [n for n in factor.given if student.streams[n].role == "state"]
        if states or student.past_blocks:
            raise ConfigError(
                f"distill: stream {name!r} reads what is carried between calls, which no single window shows. Distil "
                f"a design without a past."
            )
