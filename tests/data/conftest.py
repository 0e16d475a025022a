import shutil
from pathlib import Path

import pytest
from recordings import record, varied


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three episodes with 5, 9 and 4 frames, which nobody may change."""
    return record(tmp_path_factory.mktemp("original") / "set", varied([5, 9, 4]))


@pytest.fixture
def recorded(original: Path, tmp_path: Path) -> Path:
    """A copy of a dataset of three episodes with 5, 9 and 4 frames."""
    return Path(shutil.copytree(original, tmp_path / "set"))
