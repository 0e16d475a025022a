"""The recipes read pictures of any size without an option."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support import data_spec as toy_spec
from wamkit.contract.specs import CameraSpec
from wamkit.design import Design
from wamkit.views import View
from wamkit.zoo import GROUPS, recipe

SIZES = ((60, 80), (36, 64), (24, 32), (100, 30), (50, 50), (16, 16), (480, 640), (32, 64))


@pytest.mark.parametrize("name", GROUPS["couplings"])
def test_a_design_is_built_for_any_pictures(name: str) -> None:
    config, data = recipe(name), toy_spec()
    for rows, columns in SIZES:
        cameras = {camera: CameraSpec(rows, columns) for camera in data.observation.cameras}
        view = View(config.view, replace(data.observation, cameras=cameras), data.action)
        seen = {(size.height, size.width) for size in view.observation_spec.cameras.values()}
        assert seen == {(32, 64) if (rows, columns) == (32, 64) else (64, 64)}
        Design(config, replace(data, observation=view.observation_spec))
