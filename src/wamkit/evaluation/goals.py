"""Where the goal of an episode comes from: the last frame of a demonstration of the same task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from wamkit.data import Dataset
from wamkit.envs import instructions
from wamkit.errors import ConfigError
from wamkit.specs import ObservationSpec, require_same
from wamkit.types import Observation, WindowSpec

GOAL_MEMORY_GB = 0.25  # one frame per episode is needed; whole episodes are decoded for it and then dropped


@final
class Goals:
    """Goal observations by task and seed.

    Args:
        root: a dataset with at least one demonstration of every task.
        tasks: task names.
        spec: what the design was trained to see; the goal is seen in the same way.

    Raises:
        DataError: the dataset cannot be used.
        SpecError: the dataset shows something else than the design was trained to see.
        ConfigError: a task has no demonstration.
    """

    def __init__(self, root: Path, tasks: Sequence[str], spec: ObservationSpec) -> None:
        self._data = Dataset(root, image_memory_gb=GOAL_MEMORY_GB)
        require_same(spec, self._data.observation_spec, "the design", f"goals in {root}")
        solved = [episode for episode in self._data.episodes if episode.success is not False]
        self._ends: dict[str, list[int]] = {}
        for task in tasks:
            wordings = set(instructions(task))
            self._ends[task] = [e.stop - 1 for e in solved if wordings & set(e.tasks)]
            if not self._ends[task]:
                raise ConfigError(
                    f"{root} has no demonstration of task {task!r} that reached its goal; it shows "
                    f"{sorted({words for e in solved for words in e.tasks})}. Collect one with the same cameras."
                )

    def choose(self, task: str, seed: int) -> Observation:
        """The last frame of a demonstration of ``task``, (1, 1), the same for the same ``seed``."""
        ends = self._ends[task]
        frame = ends[int(np.random.default_rng(seed).integers(len(ends)))]
        return self._data.windows(np.array([frame]), WindowSpec(horizon=1)).observation
