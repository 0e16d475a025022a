"""State of one perturbed episode: the perturbation, its seed and the images delivered last."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from wamkit.envs.perturbations.base import Perturbation, Picture, Scene, Shutter, Start

SCENE, START, WORDS, PICTURE, LASTING = range(5)


class PerturbedEpisode:
    """Calls the hooks of a perturbation with generators derived from the episode's seed.

    The strength is not part of the seed: a stronger variant of the same episode changes it in the same direction, by
    a larger amount.

    Args:
        perturbation: change of the episode; None or strength 0 for none.
        seed: environment seed of the episode.
    """

    def __init__(self, perturbation: Perturbation | None, seed: int) -> None:
        self.perturbation = perturbation if perturbation is not None and perturbation.strength else None
        self._seed = seed
        self._delivered: dict[str, Picture] = {}

    def _generator(self, perturbation: Perturbation, hook: int, *parts: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(perturbation.kind.encode()), hook, *parts])

    def scene(self, scene: Scene) -> None:
        """Change the scene before the episode begins."""
        if self.perturbation is not None:
            self.perturbation.on_scene(scene, self._generator(self.perturbation, SCENE))

    def start(self) -> Start:
        """Initial state of the episode."""
        if self.perturbation is None:
            return Start()
        return self.perturbation.on_start(Start(), self._generator(self.perturbation, START))

    def instruction(self, text: str, phrases: Sequence[str]) -> str:
        """Instruction given to the policy."""
        if self.perturbation is None:
            return text
        return self.perturbation.on_instruction(text, phrases, self._generator(self.perturbation, WORDS))

    def picture(self, picture: Picture, camera: str, tick: int) -> Picture:
        """Image given to the policy for a ``picture`` that ``camera`` captured at ``tick``."""
        if self.perturbation is None:
            return picture
        camera_key = zlib.crc32(camera.encode())
        shutter = Shutter(
            now=self._generator(self.perturbation, PICTURE, camera_key, tick),
            episode=self._generator(self.perturbation, LASTING, camera_key),
            previous=self._delivered.get(camera),
        )
        self._delivered[camera] = self.perturbation.on_picture(picture, shutter)
        return self._delivered[camera]
