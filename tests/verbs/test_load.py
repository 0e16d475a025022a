"""A design is loaded, inspected and begun from a value, a name, a file or a checkpoint, with the data that it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from support import ToyWindows, data_spec
from wamkit import api
from wamkit.config import encode
from wamkit.contract.specs import CLOCK
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.spec import data_spec as spec_of
from wamkit.design import Design, DesignConfig, FutureConfig, save_pretrained
from wamkit.encoders import BodySensorsConfig, StateConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.substrates import ProgressConfig, WrenchConfig
from wamkit.trunks import TransformerConfig


def sensing() -> DesignConfig:
    """The joint recipe, tiny, that sees and predicts forces."""
    return replace(
        api.recipe("joint"),
        width=16,
        encoders={"state": StateConfig(), "touch": BodySensorsConfig()},
        substrates={"force": WrenchConfig(), "progress": ProgressConfig()},
        futures={"future": FutureConfig("force", (8,)), "reached": FutureConfig("progress", (8,))},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
        factors=(replace(api.recipe("joint").factors[0], generates=("future", "reached", "action")),),
    )


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    spec, root = data_spec(), tmp_path / "data"
    with DatasetWriter(
        root, spec.observation, spec.action, extras={"contact_force": ((3, 3), "float32")}
    ) as writer:
        for seed in range(2):
            toy = ToyWindows(20, seed)
            images = {c: np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for c, v in toy.images.items()}
            forces = {"contact_force": np.ones((20, 3, 3), np.float32) * toy.state[:, :1, None]}
            writer.add(Episode(images, toy.state, toy.action, "push it", extras=forces, success=True))
    return root


def test_a_dataset_without_the_extras_is_refused_before_anything_is_fitted(recorded: Path) -> None:
    bare = Dataset(recorded)
    design = Design(sensing(), spec_of(bare))
    assert design.extras == ("contact_force", CLOCK)
    says = rf"learns from contact_force, {CLOCK}, and the dataset was opened without contact_force, {CLOCK}\. Open"
    with pytest.raises(SpecError, match=says) as caught:
        design.fit(bare, seed=0)
    assert "`dataset.with_extras(design.extras)`" in str(caught.value)
    batch = bare.windows(np.array([3, 30]), design.training_window)
    says = (
        r"batch\.observation\.extras has no extra 'contact_force'\..*`dataset\.with_extras\(design\.extras\)`"
    )
    with pytest.raises(SpecError, match=says):
        design.loss(batch)
    whole = bare.with_extras(design.extras)
    design.fit(whole, seed=0)
    assert set(design.loss(whole.windows(np.array([3, 30]), design.training_window)).terms) == {
        "future", "reached", "action",
    }  # fmt: skip


def test_a_design_is_inspected_as_a_value_a_name_a_file_and_a_checkpoint(
    tmp_path: Path, recorded: Path
) -> None:
    config = api.recipe("direct")
    facts = api.inspect(config)
    assert facts["formula"] == "p(a|c)"
    assert api.inspect("direct") == facts
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(encode(config)))
    assert api.inspect(str(tmp_path / "mine.yaml")) == api.inspect(tmp_path / "mine.yaml") == facts
    save_pretrained(api.load(config), tmp_path / "model")
    assert api.inspect(tmp_path / "model") == facts
    mine = api.inspect(sensing(), recorded)
    assert mine["inputs"]["state"] == list(data_spec().observation.state)
    with pytest.raises(ConfigError, match="a checkpoint carries the specs and statistics of the data"):
        api.inspect(tmp_path / "model", recorded)
