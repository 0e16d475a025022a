"""Features of the context: which encoders see pictures, and what training them for a value adds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from small_runs import tiny
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.spec import data_spec
from wamkit.design import Design
from wamkit.encoders import ImagesConfig, StateConfig
from wamkit.evaluation.prediction.context import (
    PICTURES,
    STATE,
    TOKENS,
    TRUNK,
    context_features,
    encoders_of_pictures,
    tuned_features,
)
from wamkit.evaluation.prediction.probe import Samples, fit_ridge


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A white column somewhere in a black picture; the state does not say where."""
    root, rng = tmp_path_factory.mktemp("context") / "data", np.random.default_rng(0)
    seen = ObservationSpec({"eye": CameraSpec(32, 32)}, ("s",), 10.0)
    acts = ActionSpec(("a",), (-1.0,), (1.0,), 10.0, mode="absolute")
    with DatasetWriter(root, seen, acts) as writer:
        for _ in range(6):
            places = rng.integers(2, 28, 12)
            images = np.zeros((12, 32, 32, 3), np.uint8)
            for image, place in zip(images, places, strict=True):
                image[:, place : place + 2] = 255
            state = rng.standard_normal((12, 1)).astype(np.float32)
            writer.add(Episode({"eye": images}, state, (places[:, None] / 32).astype(np.float32), "go"))
    return Dataset(root)


def seeing(dataset: Dataset) -> Design:
    torch.manual_seed(0)
    encoders = {"images": ImagesConfig(pool="keypoints", keypoints=2), "state": StateConfig()}
    return Design(dataclasses.replace(tiny(), encoders=encoders), data_spec(dataset)).eval()


def test_features_are_those_of_state_pictures_all_encoders_and_trunk(dataset: Dataset) -> None:
    design = seeing(dataset)
    index = np.arange(20)
    found = context_features(design, dataset, index, batch_size=7)
    assert list(found) == [STATE, PICTURES, TOKENS, TRUNK]
    np.testing.assert_allclose(found[STATE], dataset.state[:20])
    assert all(len(values) == 20 for values in found.values())
    assert found[TOKENS].shape[1] > found[PICTURES].shape[1]
    observation = dataset.windows(index[:2], design.window).acting(design.window)
    assert encoders_of_pictures(design, observation) == ("images",)


def test_trained_for_a_value_the_pictures_tell_it_and_the_design_stays(dataset: Dataset) -> None:
    design = seeing(dataset)
    before = {name: value.clone() for name, value in design.state_dict().items()}
    index, owners = np.arange(dataset.num_frames), np.repeat(np.arange(6), 12)
    values = dataset.action.astype(np.float64)
    raw = context_features(design, dataset, index)[PICTURES]
    shown, unseen = owners < 4, owners >= 4
    tuned = tuned_features(
        design, (dataset, index[shown], values[shown]), (dataset, index[unseen]), 60, 0, batch_size=16
    )

    def error(fitted: np.ndarray, judged: np.ndarray) -> float:
        probe = fit_ridge(Samples(fitted, values[shown], owners[shown]))
        return float(np.abs(probe(judged) - values[unseen]).mean())

    assert error(*tuned) < 0.6 * error(raw[shown], raw[unseen])
    assert all(torch.equal(value, before[name]) for name, value in design.state_dict().items())
