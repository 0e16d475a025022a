from pathlib import Path

import pytest
from recordings import record, varied


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A dataset of three episodes with 5, 9 and 4 frames."""
    return record(tmp_path / "set", varied([5, 9, 4]))
