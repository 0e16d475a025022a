"""Features of predicted and true futures, and the Frechet distances between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import SubstrateConfig
from wamkit.contract.streams import Reading, row_seed
from wamkit.contract.types import Observation
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.prediction.frechet import frechet
from wamkit.evaluation.prediction.prediction import Distance

ARMS = ("model", "copy", "truth")


@final
class FeatureExtractor:
    """Features of pictures, computed by a substrate fitted on the demonstrations.

    Args:
        name: name of the features.
        config: config of the substrate.
        data: data spec of the demonstrations.
        dataset: demonstrations.
        seed: seed of the fit.

    Raises:
        ConfigError: the substrate reads more than a single picture.
    """

    def __init__(
        self, name: str, config: SubstrateConfig, data: DataSpec, dataset: Dataset, seed: int
    ) -> None:
        self.name = name
        self.substrate = config.build(data)
        if self.substrate.extras or self.substrate.relative or self.substrate.moving:
            raise ConfigError(
                f"features {self.name!r} cannot be computed from a picture alone. Choose a substrate of pictures, such "
                f"as 'teacher_feature'."
            )
        self.cameras = tuple(sorted(data.observation.cameras))
        self.substrate.fit(dataset, seed)
        self.substrate.eval()

    def extract(self, pictures: Mapping[str, Tensor], like: Observation) -> Tensor:
        """Features (B, T, N, D) of pictures.

        Args:
            pictures: camera -> (B, T, 3, h, w) in [0, 1].
            like: observation whose other entries (state, task, padding mask) accompany the pictures.

        Raises:
            ConfigError: a camera that the features need is missing.
        """
        missing = [camera for camera in self.cameras if camera not in pictures]
        if missing:
            raise ConfigError(
                f"features {self.name!r} need the cameras {missing}, which the future does not show"
            )
        levels = {c: (pictures[c].cpu() * 255).round().to(torch.uint8) for c in self.cameras}
        return self.substrate.encode(replace(like, images=levels))


@final
class FeatureDistances:
    """Collects features of futures in the three arms ``model``, ``copy`` and ``truth``, batch by batch.

    Futures whose values are features are compared as they are; futures that decode to pictures are compared by every
    extractor.

    Args:
        design: design whose futures are measured.
        extractors: features of pictures.
    """

    def __init__(self, design: Design, extractors: Sequence[FeatureExtractor]) -> None:
        self._config, self._extractors = design.config, extractors
        self._samples: dict[tuple[str, str, int], list[dict[str, NDArray[np.float64]]]] = {}

    def add(
        self,
        stream: str,
        steps: Sequence[int],
        arms: Mapping[str, Mapping[str, Reading]],
        observed: Observation,
    ) -> None:
        """Add the readings of B windows.

        Args:
            stream: name of the future stream.
            steps: offsets of its T steps, control ticks.
            arms: readings (B, T, ...) of every arm.
            observed: observation of the T steps.
        """
        keep = (~observed.pad).cpu().numpy()
        features: dict[str, dict[str, Tensor]] = {}
        for arm in ARMS:
            readings = arms[arm]
            for reading in readings.values():
                if reading.kind == "feature" and reading.known is None:
                    substrate = self._config.substrates[self._config.substrate_of(stream)]
                    features.setdefault(substrate.get_choice_name(type(substrate)), {})[arm] = reading.values
            pictures = {
                c: r.values for c, r in readings.items() if r.kind == "picture" and c in observed.images
            }
            for extractor in self._extractors if pictures else ():
                features.setdefault(extractor.name, {})[arm] = extractor.extract(pictures, observed)
        for name, sets in features.items():
            pooled = {arm: values.mean(dim=2).double().cpu().numpy() for arm, values in sets.items()}
            for i, step in enumerate(steps):
                samples = {arm: values[keep[:, i], i] for arm, values in pooled.items()}
                self._samples.setdefault((stream, name, step), []).append(samples)

    def distances(self, seed: int) -> tuple[Distance, ...]:
        """Frechet distance of every stream, features and step; ``seed`` draws the halves of the ground truth."""
        distances = []
        for (stream, features, step), parts in self._samples.items():
            sets = {arm: np.concatenate([part[arm] for part in parts]) for arm in parts[0]}
            distances.append(fidelity_distance(stream, features, step, sets, seed))
        return tuple(distances)


def fidelity_distance(
    stream: str, features: str, step: int, sets: Mapping[str, NDArray[np.float64]], seed: int
) -> Distance:
    """Frechet distances of one stream and step; with too few samples, a note explains why there are none."""
    truth, name = sets["truth"], f"frechet[{features}]"
    n, width = truth.shape
    order = np.random.default_rng(row_seed(seed, "halves")).permutation(n)
    first, second = truth[order[: n // 2]], truth[order[n // 2 :]]
    try:
        model, copy = (frechet(sets[arm], truth, features) for arm in ("model", "copy"))
    except DataError as error:
        return Distance(name, stream, step, n, width, None, None, None, str(error))
    floor = frechet(first, second, features) if n // 2 > width else None
    return Distance(name, stream, step, n, width, model, copy, floor)
