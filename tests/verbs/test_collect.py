"""Demonstrations on disk: complete and the same whatever the workers, or not there at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wamkit.envs.demonstrations import ActionNoise
from wamkit.envs.worker import WorkerLostError
from wamkit.errors import ConfigError, DataError
from wamkit.verbs.collect import CollectConfig, TaskCount, collect

TASKS = ("button-press-topdown-v3", "window-open-v3")


def config(out: Path, **changes: Any) -> CollectConfig:
    base: dict[str, Any] = {"tasks": TASKS, "episodes": 2, "workers": 1, "image_size": 32}
    return CollectConfig(out, **(base | changes))


def contents(root: Path) -> dict[str, bytes]:
    files = [p for p in root.rglob("*") if p.is_file()]
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


@pytest.mark.sim
def test_the_dataset_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    report = collect(config(tmp_path / "one", record=("object_pose",)), progress=False)
    again = collect(config(tmp_path / "two", record=("object_pose",), workers=2), progress=False)
    assert report.tasks == again.tasks
    assert all(count == TaskCount(2, count.tried) for count in report.tasks.values())
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) >= 6


@pytest.mark.sim
def test_failures_are_counted_and_not_kept(tmp_path: Path) -> None:
    # 35 ticks are enough for some of the buttons and too few for others.
    noisy = config(
        tmp_path / "d", tasks=TASKS[:1], episodes=3, max_ticks=35, noise=ActionNoise(0.1, 0.8, 6), workers=2
    )
    count = collect(noisy, progress=False).tasks[TASKS[0]]
    assert count.kept == 3
    assert count.tried > 3


@pytest.mark.sim
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"timeout_s": 0.001}, WorkerLostError, "did not answer"),
        ({"max_ticks": 5, "episodes": 1}, DataError, "only 0 of"),
    ],
)
def test_a_run_that_breaks_leaves_no_dataset(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        collect(config(tmp_path / "broken", **changes), progress=False)
    assert list(tmp_path.iterdir()) == []


def test_configuration_errors_name_the_value(tmp_path: Path) -> None:
    for changes, message in (
        ({"tasks": ("window-opn-v3",)}, "Did you mean 'window-open-v3'"),
        ({"tasks": ()}, "at least one task"),
        ({"episodes": 0}, "episodes = 0"),
        ({"seed": 100}, "seed 100"),
    ):
        with pytest.raises(ConfigError, match=message):
            config(tmp_path, **changes)
    with pytest.raises(ConfigError, match="probability"):
        ActionNoise(probability=1.5)
