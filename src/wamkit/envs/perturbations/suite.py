"""Which perturbed episodes an evaluation runs: a fixed list, the same for everybody who asks for the same one."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import draccus
import numpy as np

from wamkit.envs.perturbations.base import DIMENSIONS, STRONGEST, Perturbation
from wamkit.envs.perturbations.texture import SurfacePerturbation
from wamkit.errors import ConfigError, did_you_mean

CLEAN = "Original"


@dataclass(frozen=True)
class Variant:
    """One episode, perturbed or not.

    Attributes:
        id: stable name; it is for people and files and never reaches a policy.
        task: the task.
        episode: number of the episode; the clean arm has the same numbers.
        perturbation: what is changed, or None for the clean arm.
    """

    id: str
    task: str
    episode: int
    perturbation: Perturbation | None = None

    @property
    def dimension(self) -> str:
        """One of :data:`DIMENSIONS`, or ``Original``."""
        return CLEAN if self.perturbation is None else self.perturbation.dimension

    @property
    def kind(self) -> str:
        """The perturbation's name, or ``clean``."""
        return "clean" if self.perturbation is None else self.perturbation.kind

    @property
    def strength(self) -> int:
        """0 to 5."""
        return 0 if self.perturbation is None else self.perturbation.strength


def every_kind(surfaces: Mapping[str, Sequence[str]]) -> tuple[Perturbation, ...]:
    """Every kind at strength 1, a kind that changes a surface once for each of ``surfaces[kind]``."""
    found: list[Perturbation] = []
    for name in sorted(Perturbation.get_known_choices()):
        kind = Perturbation.get_choice_class(name)
        if issubclass(kind, SurfacePerturbation):
            found += [kind(strength=1, surface=surface) for surface in surfaces.get(name, ())]
        else:
            found.append(kind(strength=1))
    return tuple(found)


def clean(task: str, episode: int) -> Variant:
    """An unperturbed episode."""
    return Variant(f"clean/{task}/{episode:03d}", task, episode)


def suite(
    tasks: Sequence[str],
    kinds: Sequence[Perturbation],
    per_dimension: int = 40,
    dimensions: Sequence[str] = DIMENSIONS,
    strengths: Sequence[int] = tuple(range(1, STRONGEST + 1)),
) -> tuple[Variant, ...]:
    """The clean arm, then ``per_dimension`` variants of each dimension, on the same tasks and episodes.

    Kinds and strengths are spread evenly (each pair as often as any other, to within one) and by a fixed draw, so
    that they are not tied to tasks. Adding a dimension changes no other dimension's variants.

    Args:
        tasks: in turn.
        kinds: what can be changed; :meth:`wamkit.envs.EnvConfig.perturbations` of the environment.
        per_dimension: variants per dimension.
        dimensions: which of :data:`DIMENSIONS`.
        strengths: 1 to 5.

    Raises:
        ConfigError: no task, a number below 1, an unknown dimension or strength.
    """
    if not tasks or per_dimension < 1:
        raise ConfigError(
            f"suite: {len(tasks)} tasks and {per_dimension} variants per dimension; need at least 1"
        )
    for name in dimensions:
        if name not in DIMENSIONS:
            raise ConfigError(f"suite: unknown dimension {name!r}. {did_you_mean(name, DIMENSIONS)}")
    for strength in strengths:
        if not 1 <= strength <= STRONGEST:
            raise ConfigError(f"suite: strength {strength} must be 1 to {STRONGEST}; 0 is the clean arm")
    places = [(tasks[i % len(tasks)], i // len(tasks)) for i in range(per_dimension)]
    found = [clean(task, episode) for task, episode in places]
    for dimension in (d for d in DIMENSIONS if d in dimensions):
        pairs = [(k, strength) for k in kinds if k.dimension == dimension for strength in strengths]
        if not pairs:
            raise ConfigError(f"suite: the environment has no kind of {dimension!r}; leave the dimension out")
        rng = np.random.default_rng(zlib.crc32(dimension.encode()))
        drawn: list[int] = []
        while len(drawn) < per_dimension:
            drawn += rng.permutation(len(pairs)).tolist()
        for (task, episode), index in zip(places, drawn, strict=False):
            kind, strength = pairs[index]
            perturbation = draccus.decode(
                Perturbation, {**draccus.encode(kind, Perturbation), "strength": strength}
            )
            name = "-".join([kind.kind, *([kind.surface] if isinstance(kind, SurfacePerturbation) else [])])
            found.append(Variant(f"{name}-s{strength}/{task}/{episode:03d}", task, episode, perturbation))
    return tuple(found)


def write_variants(path: Path, variants: Sequence[Variant]) -> None:
    """One JSON object per line: id, dimension, kind, strength, task, episode and the perturbation's fields."""
    lines = []
    for variant in variants:
        fields = (
            draccus.encode(variant.perturbation, Perturbation) if variant.perturbation is not None else None
        )
        row = {
            name: getattr(variant, name)
            for name in ("id", "dimension", "kind", "strength", "task", "episode")
        }
        lines.append(json.dumps({**row, "perturbation": fields}) + "\n")
    path.write_text("".join(lines))
