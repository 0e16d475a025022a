"""One perturbed episode: the perturbation, its seed and what its cameras delivered last."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from wamkit.envs.perturbations.base import Perturbation, Picture, Scene, Shutter, Start

SCENE, START, WORDS, PICTURE, LASTING = range(5)


class PerturbedEpisode:
    """Calls the hooks of a perturbation with generators that follow the episode's seed.

    The strength is not part of the seed: a stronger variant of the same episode goes the same way, further.

    Args:
        perturbation: what is changed; None or strength 0 for nothing at all.
        seed: the episode's seed.
    """

    def __init__(self, perturbation: Perturbation | None, seed: int) -> None:
        self.perturbation = perturbation if perturbation is not None and perturbation.strength else None
        self._seed = seed
        self._delivered: dict[str, Picture] = {}

    def _generator(self, hook: int, *more: int) -> np.random.Generator:
        assert self.perturbation is not None
        return np.random.default_rng([self._seed, zlib.crc32(self.perturbation.kind.encode()), hook, *more])

    def scene(self, scene: Scene) -> None:
        """Change the scene, before the episode begins."""
        if self.perturbation is not None:
            self.perturbation.on_scene(scene, self._generator(SCENE))

    def start(self) -> Start:
        """What the episode begins with."""
        if self.perturbation is None:
            return Start()
        return self.perturbation.on_start(Start(), self._generator(START))

    def instruction(self, text: str, phrases: Sequence[str]) -> str:
        """What the policy is told."""
        if self.perturbation is None:
            return text
        return self.perturbation.on_instruction(text, phrases, self._generator(WORDS))

    def picture(self, picture: Picture, camera: str, tick: int) -> Picture:
        """What the policy is shown of a picture that ``camera`` took at ``tick``."""
        if self.perturbation is None:
            return picture
        place = zlib.crc32(camera.encode())
        shutter = Shutter(
            now=self._generator(PICTURE, place, tick),
            episode=self._generator(LASTING, place),
            previous=self._delivered.get(camera),
        )
        self._delivered[camera] = self.perturbation.on_picture(picture, shutter)
        return self._delivered[camera]
