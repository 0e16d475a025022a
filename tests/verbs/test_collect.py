"""Demonstrations on disk: complete and the same whatever the workers, or not there at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_world import WORDS, PlainConfig

from wamkit.config import parse
from wamkit.data import Dataset, layout
from wamkit.envs import AlohaConfig, EnvConfig, MetaWorldConfig
from wamkit.envs.demonstrations import ActionNoise
from wamkit.envs.worker import WorkerLostError
from wamkit.errors import ConfigError, DataError
from wamkit.verbs.collect import CollectConfig, TaskCount, collect

pytestmark = pytest.mark.long
TASKS = ("button-press-topdown-v3", "window-open-v3")


def config(out: Path, **changes: Any) -> CollectConfig:
    base: dict[str, Any] = {"tasks": TASKS, "episodes": 2, "workers": 1, "image_size": 32}
    return CollectConfig(out, **(base | changes))


def plain(out: Path, **changes: Any) -> CollectConfig:
    """In a world that only this repository's tests have."""
    base: dict[str, Any] = {"tasks": ("left", "right"), "episodes": 3, "workers": 1, "env": PlainConfig()}
    return CollectConfig(out, **(base | changes))


@pytest.fixture
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EnvConfig._choice_registry, "plain", PlainConfig)  # a dataset names its robot


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
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_configuration_errors_name_the_value(tmp_path: Path) -> None:
    for changes, message in (
        ({"tasks": ("window-opn-v3",)}, "Did you mean 'window-open-v3'"),
        ({"tasks": ()}, r"CollectConfig\.tasks: must not be empty"),
        ({"episodes": 0}, r"CollectConfig\.episodes: must be at least 1, got 0"),
        ({"seed": 100}, "seed 100"),
    ):
        with pytest.raises(ConfigError, match=message):
            config(tmp_path, **changes)
    with pytest.raises(ConfigError, match="probability"):
        ActionNoise(probability=1.5)


# --------------------------------------------------------------------------------------- other environments


@pytest.mark.usefixtures("_named")
def test_any_environment_with_a_demonstrator_is_collected(tmp_path: Path) -> None:
    report = collect(plain(tmp_path / "d"), progress=False)
    # Seeds 0, 1 and 2 begin at 0, 1 and 2: 7, 5 and 3 steps of a half until beyond 3, and four more ticks.
    assert report.tasks == {"left": TaskCount(3, 3), "right": TaskCount(3, 3)}
    assert report.frames == 2 * (7 + 5 + 3 + 3 * 4)
    data = Dataset(tmp_path / "d")
    assert data.observation_spec == PlainConfig().observation_spec()
    assert {text for episode in data.episodes for text in episode.tasks} <= set(WORDS)
    assert '"robot_type": "plain"' in (tmp_path / "d/meta/info.json").read_text()


@pytest.mark.usefixtures("_named")
def test_a_finished_dataset_is_recorded_anew_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "d"
    collect(plain(out), progress=False)
    before = contents(out)
    assert Dataset(out).observation_spec == PlainConfig().observation_spec()
    for changes, said in (
        ({}, r"of this very `collect`: nothing is left to do\."),
        ({"workers": 2, "timeout_s": 50.0}, r"nothing is left to do\."),
        ({"max_ticks": PlainConfig().max_ticks}, r"nothing is left to do\."),  # the same, said elsewhere
        ({"seed": 1}, r"another `collect`: seed: 0 there, 1 here\."),
        ({"episodes": 2}, r"episodes: 3 there, 2 here\."),
        ({"tasks": ("left",)}, r"tasks: \['left', 'right'\] there, \['left'\] here\."),
        ({"recorded": "executed"}, r"recorded: 'clean' there, 'executed' here\."),
        ({"noise": ActionNoise(0.5)}, r"noise\.probability: 0\.05 there, 0\.5 here"),
        ({"max_ticks": 30}, r"env\.max_ticks: \d+ there, 30 here\."),
        ({"env": PlainConfig(gives_up_at=1)}, r"env\.gives_up_at: "),
    ):
        with pytest.raises(ConfigError, match=said + r".*set `overwrite` to replace it"):
            collect(plain(out, **changes), progress=False)
        assert contents(out) == before
    collect(plain(out, tasks=("left",), overwrite=True), progress=False)
    with pytest.raises(ConfigError, match=r"tasks: \['left'\] there"):
        collect(plain(out), progress=False)


@pytest.mark.usefixtures("_named")
def test_a_dataset_of_unknown_origin_is_not_replaced_unasked(tmp_path: Path) -> None:
    out = tmp_path / "d"
    collect(plain(out), progress=False)
    (out / layout.INPUTS).write_text("{")
    with pytest.raises(DataError, match=r"info\.inputs\.json: not JSON .*set `overwrite`"):
        collect(plain(out), progress=False)
    Dataset(out)  # its readers do without
    (out / layout.INPUTS).unlink()
    with pytest.raises(ConfigError, match=r"info\.json exists\..*set `overwrite`"):
        collect(plain(out), progress=False)
    collect(plain(out, overwrite=True), progress=False)
    with pytest.raises(ConfigError, match="nothing is left to do"):
        collect(plain(out), progress=False)


@pytest.mark.usefixtures("_named")
def test_an_attempt_that_the_demonstrator_gives_up_is_discarded(tmp_path: Path) -> None:
    config = plain(tmp_path / "d", env=PlainConfig(gives_up_at=1), tasks=("left",))
    assert collect(config, progress=False).tasks == {"left": TaskCount(3, 4)}  # seed 1 begins at 1


@pytest.mark.usefixtures("_named")
def test_noise_follows_the_unit_that_the_environment_states(tmp_path: Path) -> None:
    noise = ActionNoise(probability=1.0, scale=0.1)
    collect(plain(tmp_path / "d", noise=noise, recorded="executed"), progress=False)
    action = Dataset(tmp_path / "d").action
    disturbed = np.any(action != np.array([0.5, 0, 0, 0], np.float32), axis=0)
    assert disturbed.tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("env", "changes", "message"),
    [
        (AlohaConfig(), {"tasks": ("aloha-transfer-cub",)}, "Did you mean 'aloha-transfer-cube'"),
        (PlainConfig(), {"tasks": ("lift",)}, "PlainConfig: unknown task 'lift'. Did you mean 'left'"),
        (AlohaConfig(), {"record": ("depth",)}, r"record = \('depth',\) cannot be set: AlohaConfig"),
        (AlohaConfig(), {"action_repeat": 2}, "action_repeat = 2 cannot be set: AlohaConfig"),
        (AlohaConfig(), {"cameras": ("scene",)}, "camera 'scene'"),
        (PlainConfig(), {"image_size": 8}, "image_size = 8 cannot be set: PlainConfig"),
        (MetaWorldConfig(), {"record": ("depht",)}, "Did you mean 'depth'"),
    ],
)
def test_what_the_environment_does_not_have_is_refused(
    tmp_path: Path, env: EnvConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        CollectConfig(tmp_path, **({"tasks": (env.task,), "env": env} | changes))


def test_options_override_the_environment(tmp_path: Path) -> None:
    default = CollectConfig(tmp_path, TASKS)
    assert default.environment(TASKS[1]) == MetaWorldConfig(task=TASKS[1])
    env = MetaWorldConfig(image_size=48, action_repeat=4, record=("contact",))
    changed = CollectConfig(tmp_path, TASKS, env=env, image_size=32, cameras=("gripper",))
    assert changed.environment(TASKS[0]) == MetaWorldConfig(
        task=TASKS[0], image_size=32, action_repeat=4, record=("contact",), cameras=("gripper",)
    )


def test_the_command_line_chooses_the_environment(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)]
    chosen = parse(
        CollectConfig, [*out, "--env.type", "aloha", "--tasks", "[aloha-transfer-cube]", "--cameras", "[top]"]
    )
    assert chosen.environment("aloha-transfer-cube") == AlohaConfig(cameras=("top",))
    given = parse(
        CollectConfig, [*out, "--tasks", "[reach-v3]", "--record", "[depth]", "--env.action_repeat", "4"]
    )
    assert given.environment("reach-v3") == MetaWorldConfig(
        task="reach-v3", record=("depth",), action_repeat=4
    )


@pytest.mark.sim
def test_aloha_is_collected(tmp_path: Path) -> None:
    pytest.importorskip("gym_aloha")
    env = AlohaConfig(image_size=16, cameras=("top",))
    config = CollectConfig(tmp_path / "d", (env.task,), episodes=1, workers=1, env=env)
    assert collect(config, progress=False).tasks[env.task].kept == 1
    data = Dataset(tmp_path / "d")
    assert data.observation_spec == env.observation_spec()
    assert data.action_spec == env.action_spec()
    assert data.episodes[0].success
    assert data.episodes[0].tasks[0] in env.phrases()
    assert '"robot_type": "aloha"' in (tmp_path / "d/meta/info.json").read_text()
