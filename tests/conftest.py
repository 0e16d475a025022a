"""One torch thread everywhere: two are slower under contention, and results stay bit-equal.

Files with a test marked ``long`` start first, so that no process is left alone with one at the end.
"""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ.pop("COLUMNS", None)  # what is printed is as wide as for a pipe
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # interpreters that tests start find the package compiled

import pytest
import torch

from support import ToyWindows, data_spec
from wamkit.contract.data import DataSpec

sys.dont_write_bytecode = False
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> DataSpec:
    return data_spec()


@pytest.fixture(scope="session")
def toy() -> ToyWindows:
    return ToyWindows()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)
