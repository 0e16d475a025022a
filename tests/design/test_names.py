"""Cameras, parts and streams of any name: trained, saved, loaded, and acting as before."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support import ODD_NAMES, SIZE, ToyWindows, data_spec
from wamkit.api import recipe
from wamkit.contract import Batch, Budget, CameraSpec, DataSpec, Observation, ObservationSpec
from wamkit.design import Design, DesignConfig
from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.encoders import ImagesConfig
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.trunks import TransformerConfig

ODD = [
    *ODD_NAMES,
    "{0}",
    "head.rgb",
    "weight",
    "parameters",
    "a.",
    ".a",
    "planner",
    "$x$",
    "<b>",
    "a\nb",
    "nan",
]
LETTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0/\\")
NAMES = st.one_of(st.sampled_from(ODD), st.text(LETTERS, min_size=1, max_size=8)).filter(
    lambda name: bool(name.strip()) and name not in ("action", ".", "..")
)


class Renamed(ToyWindows):
    """The toy episode with cameras of other names."""

    def __init__(self, cameras: list[str]) -> None:
        super().__init__(80)
        self.images = dict(zip(cameras, self.images.values(), strict=True))


def spec(cameras: list[str]) -> DataSpec:
    data = data_spec()
    sizes = {name: CameraSpec(SIZE, SIZE) for name in cameras}
    return replace(data, observation=ObservationSpec(sizes, data.observation.state, 40.0))


def config(encoder: str, substrate: str, stream: str, trunk: str, estimator: str) -> DesignConfig:
    """The joint recipe, tiny, with a name of the caller's for each of its parts."""
    base = recipe("joint")
    (factor,) = base.factors
    (future,) = base.futures.values()
    renamed = {"future": stream, "action": "action"}
    return replace(
        base,
        width=16,
        encoders={encoder: ImagesConfig(channels=(4, 4))},
        substrates={substrate: next(iter(base.substrates.values()))},
        futures={stream: replace(future, substrate=substrate)},
        trunks={trunk: TransformerConfig(width=16, depth=1, heads=2)},
        estimators={estimator: RegressorConfig(trunk=trunk)},
        factors=(
            replace(factor, estimator=estimator, generates=tuple(renamed[n] for n in factor.generates)),
        ),
        loss_weights={},
    )


def seen(toy: Renamed, design: Design) -> tuple[Batch, Observation]:
    index = np.array([10, 20])
    return toy.windows(index, design.training_window), toy.windows(index, design.window).observation


@settings(max_examples=15, deadline=None)
@given(st.lists(NAMES, min_size=2, max_size=2, unique=True), NAMES, NAMES, NAMES, NAMES, NAMES)
@example(["rgb.head", "rgb"], "type", "keys", "forward", "items", "train")
@example(["head", "head.rgb"], "a.b", "__class__", "%", "[red]", "{0}")
def test_a_design_comes_back_with_its_names(
    cameras: list[str], encoder: str, substrate: str, stream: str, trunk: str, estimator: str
) -> None:
    torch.manual_seed(0)
    toy = Renamed(cameras)
    design = Design(config(encoder, substrate, stream, trunk, estimator), spec(cameras))
    design.fit(toy, 0)
    batch, now = seen(toy, design)
    optimizer = torch.optim.SGD(design.parameters(), 1e-3)
    losses = design.loss(batch)
    assert set(losses.terms) == {stream, "action"}
    losses.total.backward()
    optimizer.step()
    design.eval()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(design, Path(folder) / "model")
        again = from_pretrained(Path(folder) / "model")
    assert list(again.encoders) == [encoder]
    assert list(again.estimators) == [estimator]
    assert set(again.observation_spec.cameras) == set(cameras)
    made, _ = design.forecast(now, design.initial_state(2), Budget(), [1, 2])
    found, _ = again.forecast(now, again.initial_state(2), Budget(), [1, 2])
    assert torch.equal(made.action, found.action)
    assert torch.equal(made.future[stream], found.future[stream])
    assert set(again.parts()) == set(design.parts())
    for label, part in again.parts().items():
        assert again.get_submodule(label) is part


def test_the_name_of_a_planners_state_is_taken() -> None:
    with pytest.raises(
        ConfigError, match=r"estimator 'planner\.carry': a planner's state has this name; rename"
    ):
        Design(config("images", "video", "future", "main", "planner.carry"), data_spec())


def test_cameras_are_told_apart_by_name() -> None:
    """Two names that torch would confuse have two stems."""
    torch.manual_seed(0)
    design = Design(config("images", "video", "future", "main", "world"), spec(["a.b", "a"]))
    keys = [key for key in design.state_dict() if key.startswith("encoders.images.stems.")]
    assert {key.split(".")[3] for key in keys} == {"a", "a%2E_b"}
