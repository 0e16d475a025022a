"""A whole tiny run, and copies of it that still have to write their model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from small_runs import settings
from support import write_dataset
from wamkit.training import train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resuming")
    write_dataset(folder / "data")
    train(settings(folder, "whole"), progress=False)
    return folder


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    """A copy of the whole run, which is still to write its model."""
    shutil.copytree(root / "whole", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/model")
    return tmp_path / "run"
