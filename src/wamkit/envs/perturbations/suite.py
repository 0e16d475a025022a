"""Fixed lists of perturbed episodes: equal arguments give equal variants in every evaluation."""

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
from wamkit.storage import write_atomically

CLEAN = "Original"


@dataclass(frozen=True)
class Variant:
    """One episode of a suite, perturbed or clean.

    Attributes:
        id: stable name for reports and files; policies never receive it.
        task: name of the task.
        episode: number of the episode, counted per task; clean and perturbed episodes have the same numbers.
        perturbation: change of the episode, or None for a clean one.
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
        """Registered type of the perturbation, or ``clean``."""
        return "clean" if self.perturbation is None else self.perturbation.kind

    @property
    def strength(self) -> int:
        """Strength of the perturbation, 0 to 5."""
        return 0 if self.perturbation is None else self.perturbation.strength


def every_kind(surfaces: Mapping[str, Sequence[str]]) -> tuple[Perturbation, ...]:
    """Every kind at strength 1, and surface perturbations once for each of ``surfaces[kind]``."""
    kinds: list[Perturbation] = []
    for name in sorted(Perturbation.get_known_choices()):
        kind = Perturbation.get_choice_class(name)
        if issubclass(kind, SurfacePerturbation):
            kinds += [kind(strength=1, surface=surface) for surface in surfaces.get(name, ())]
        else:
            kinds.append(kind(strength=1))
    return tuple(kinds)


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
    """The clean episodes, then ``per_dimension`` variants of each dimension, on the same tasks and episodes.

    Pairs of kind and strength occur equally often (to within one) in a fixed random order, so that they are not tied
    to tasks. Adding a dimension does not change the variants of another dimension.

    Args:
        tasks: names of the tasks, used in turn.
        kinds: supported perturbations, :meth:`wamkit.envs.EnvConfig.perturbations` of the environment.
        per_dimension: number of variants per dimension, and of clean episodes.
        dimensions: dimensions to perturb, from :data:`DIMENSIONS`.
        strengths: strengths to use, 1 to 5.

    Raises:
        ConfigError: no task, ``per_dimension`` below 1, an unknown dimension or strength, or a dimension without kinds.
    """
    if not tasks or per_dimension < 1:
        raise ConfigError(
            f"suite: {len(tasks)} tasks and {per_dimension} variants per dimension; each must be at least 1."
        )
    for name in dimensions:
        if name not in DIMENSIONS:
            raise ConfigError(f"suite: unknown dimension {name!r}. {did_you_mean(name, DIMENSIONS)}")
    for strength in strengths:
        if not 1 <= strength <= STRONGEST:
            raise ConfigError(f"suite: strength {strength} must be 1 to {STRONGEST}; 0 is the clean episode.")
    slots = [(tasks[i % len(tasks)], i // len(tasks)) for i in range(per_dimension)]
    variants = [clean(task, episode) for task, episode in slots]
    for dimension in (d for d in DIMENSIONS if d in dimensions):
        pairs = [(k, strength) for k in kinds if k.dimension == dimension for strength in strengths]
        if not pairs:
            raise ConfigError(
                f"suite: the environment does not support any kind of {dimension!r}; leave the dimension out."
            )
        rng = np.random.default_rng(zlib.crc32(dimension.encode()))
        order: list[int] = []
        while len(order) < per_dimension:
            order += rng.permutation(len(pairs)).tolist()
        for (task, episode), index in zip(slots, order, strict=False):
            kind, strength = pairs[index]
            perturbation = draccus.decode(
                Perturbation, {**draccus.encode(kind, Perturbation), "strength": strength}
            )
            name = "-".join([kind.kind, *([kind.surface] if isinstance(kind, SurfacePerturbation) else [])])
            variants.append(Variant(f"{name}-s{strength}/{task}/{episode:03d}", task, episode, perturbation))
    return tuple(variants)


def write_variants(path: Path, variants: Sequence[Variant]) -> None:
    """Write one JSON object per line: id, dimension, kind, strength, task, episode and the perturbation's fields."""
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
    write_atomically(path, "".join(lines).encode())
