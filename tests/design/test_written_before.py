"""Checkpoints written at commit 7f802c6: their configs decode to designs with the tensors that were stored.

Since pictures are read as a whole map, such a config must say what was the only way then: ``norm: none, stride: 1``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.design.checkpoint import read_design

WRITTEN: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "checkpoints.json").read_text())


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_config_and_tensors_are_still_the_same(name: str, tmp_path: Path) -> None:
    written = WRITTEN[name]
    facts = {**written, "stats": unit_stats(written)}
    design = read_design(facts, name)
    with DatasetWriter(tmp_path / "data", design.observation_spec, design.action_spec) as writer:
        rng = np.random.default_rng(0)
        cameras = design.observation_spec.cameras
        for _ in range(3):
            images = {
                c: rng.integers(0, 256, (60, s.height, s.width, 3), np.uint8) for c, s in cameras.items()
            }
            state = rng.uniform(-1, 1, (60, len(design.observation_spec.state))).astype(np.float32)
            action = rng.uniform(-1, 1, (60, design.action_spec.width)).astype(np.float32)
            writer.add(Episode(images, state, action, "look"))
    design.fit(Dataset(tmp_path / "data"), seed=0)  # some buffers have their shapes from the data
    lines = [f"{key} {list(value.shape)}" for key, value in sorted(design.state_dict().items())]
    assert len(lines) == written["tensors"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == written["names_and_shapes"]


def unit_stats(written: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Statistics of data in [-1, 1]."""
    widths = {
        "action": len(written["action"]["names"]),
        "observation.state": len(written["observation"]["state"]),
    }
    rows = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0, "q01": -1.0, "q50": 0.0, "q99": 1.0}
    return {key: {name: [value] * width for name, value in rows.items()} for key, width in widths.items()}
