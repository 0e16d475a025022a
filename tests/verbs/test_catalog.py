"""The list of parts says what a part reads, needs and takes, and says it whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import wamkit
from wamkit.cli import main
from wamkit.contract import DataSpec, EncoderConfig, SubstrateConfig, WindowSpec
from wamkit.contract.specs import CLOCK
from wamkit.encoders import DepthConfig, RegionConfig
from wamkit.envs import MetaWorldConfig
from wamkit.envs.ground_truth import RECORDABLE
from wamkit.memory import PastMotionConfig
from wamkit.substrates import HeatmapConfig, MotionVectorsConfig, PolylineConfig, RGBDConfig
from wamkit.verbs.catalog import DESIGNS, find_part, list_parts
from wamkit.verbs.declarations import Declaration, declaration
from wamkit.verbs.load import unit_stats
from wamkit.verbs.usage import target_of

PARTS = [entry for entry in list_parts() if entry.kind not in ("recipe", "design")]
WINDOW = WindowSpec(observation=(-4, 0), horizon=8)
MODELS = (
    "language_model",
    "vision_language_model",
    "vision_model",
    "teacher_context",
)  # need a folder to build
# What an entry of `extras` says in brackets is a condition; these configs fulfil it.
OTHERS = {
    "depth": [DepthConfig(frame="gripper")],
    "heatmap": [HeatmapConfig(where="contact"), HeatmapConfig(where="object"), HeatmapConfig(discount=0.9)],
    "polyline": [PolylineConfig(camera="scene")],
    "rgbd": [RGBDConfig(normals=True)],
    "region": [RegionConfig(source="labels", ids=(1,))],
}
# Parts that hold another one and so cannot be built from their defaults.
HOLDERS: dict[str, Any] = {"past_motion": PastMotionConfig(motion=MotionVectorsConfig(block=8))}


@pytest.fixture(scope="module")
def data() -> DataSpec:
    """Specs of data with every extra that there is."""
    env = MetaWorldConfig(record=RECORDABLE)
    observation, action = env.observation_spec(), env.action_spec()
    stats = {"action": unit_stats(action.width), "observation.state": unit_stats(len(observation.state))}
    extras = {name: shape for name, (shape, _) in env.extras_spec().items()}
    sensors = {"tactile": (32, 32, 3), "audio": (2176,), CLOCK: (3,)}
    return DataSpec(observation, action, stats, {**extras, **sensors})


def wanted(entry: str) -> tuple[re.Pattern[str], bool]:
    """An entry of `extras` -> the names that it stands for, and whether they are read under a condition only."""
    names, bracket, _ = entry.partition("(")
    holes = "|".join(
        re.sub(r"\\\{\w+\\\}", r"[^.]+", re.escape(name.strip())) for name in names.split(" or ")
    )
    return re.compile(holes if names.strip() else ".*"), bool(bracket) and " or " not in names


@pytest.mark.parametrize("kind", ["encoder", "substrate"])
def test_a_part_says_which_extras_it_reads(kind: str, data: DataSpec) -> None:
    base: Any = EncoderConfig if kind == "encoder" else SubstrateConfig
    for entry in [part for part in PARTS if part.kind == kind and part.name not in MODELS]:
        says = [wanted(text) for text in entry.extras]
        met = set()
        plain = HOLDERS.get(entry.name) or base.get_choice_class(entry.name)()
        for config in [plain, *OTHERS.get(entry.name, [])]:
            built = config.build(data, WINDOW, 32) if kind == "encoder" else config.build(data)
            for name in built.extras:
                hits = [pattern for pattern, _ in says if pattern.fullmatch(name)]
                assert hits, f"{entry.name} reads {name}, and says {entry.extras}"
                met.update(hits)
            for pattern, conditional in says:
                assert conditional or any(pattern.fullmatch(name) for name in built.extras), (
                    entry.name,
                    pattern,
                )
        assert met >= {pattern for pattern, _ in says if pattern.pattern != ".*"}, entry.name


def test_a_part_says_which_packages_it_needs() -> None:
    project = tomllib.loads((Path(wamkit.__file__).parents[2] / "pyproject.toml").read_text())
    known = set(project["project"]["optional-dependencies"])
    for entry in PARTS:
        assert set(entry.packages) <= known, entry.name
    # A file that loads such a library has a part that says so.
    root = Path(wamkit.__file__).parent
    for module in {entry.module for entry in PARTS if entry.module.startswith("wamkit.")}:
        text = (root / Path(*module.split(".")[1:])).with_suffix(".py").read_text()
        loaded = set(re.findall(r"wamkit\[(\w+)\]", text))
        loaded |= {"pretrained"} if "from wamkit.nn.pretrained import" in text else set()
        said = {package for entry in PARTS if entry.module == module for package in entry.packages}
        assert loaded <= said, module
    assert {"text", "flow", "pretrained", "primitives", "metaworld"} <= {n for e in PARTS for n in e.packages}


def nested(found: Declaration, seen: set[str]) -> list[str]:
    """Fields without a text of a config and of the configs in its fields."""
    if found.name in seen:
        return []
    seen.add(found.name)
    empty = [f"{found.name}.{option.name}" for option in found.fields if not option.text]
    inner = [target_of(option).config for option in found.fields]
    return empty + [fault for config in inner if config is not None for fault in nested(config, seen)]


def test_every_field_of_every_config_has_a_text() -> None:
    seen: set[str] = set()
    for place in [
        *DESIGNS.values(),
        "wamkit.training.config.TrainConfig",
        "wamkit.verbs.collect.CollectConfig",
        "wamkit.verbs.evaluate.EvaluateConfig",
        "wamkit.verbs.sweep.SweepConfig",
    ]:
        assert nested(declaration(place), seen) == []
    assert {"FutureConfig", "Factor", "OptimConfig", "EvaluationConfig"} <= seen
    assert [(entry.name, f.name) for entry in PARTS for f in entry.fields if not f.text] == []


def test_one_part_of_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "estimator", "denoiser", "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert (entry["kind"], entry["name"], entry["packages"]) == ("estimator", "denoiser", [])
    assert main(["list", "recipe", "depth"]) == 0
    printed = capsys.readouterr().out
    assert "recipe depth" in printed
    assert "encoder depth" not in printed
    assert main(["list", "substrate", "optical_flow"]) == 0
    assert "needs pip install 'wamkit[flow]'" in capsys.readouterr().out
    assert main(["list", "encoder", "scene_memory"]) == 0
    printed = capsys.readouterr().out
    assert "(wamkit.memory.scene)" in printed
    assert "reads the extras depth.{cameras}, camera.{cameras}" in printed
    assert find_part("design", "factor").fields[0].default == "required"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("encoder heatmp", "no encoder 'heatmp'"),
        ("substrate heatmp", "no substrate 'heatmp'. Did you mean 'heatmap'"),
        ("estimater denoiser", "no kind 'estimater'. Did you mean 'estimator'"),
        ("estimator denoiser x", "unknown option 'x'"),
        ("estimator denoiser --josn", "unknown option '--josn'. Did you mean '--json'"),
    ],
)
def test_what_is_not_there_is_refused(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


def test_a_pipe_gets_every_row_on_one_line() -> None:
    # Named here, because readline sets the terminal's size behind the back of `os.environ`.
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "wamkit.cli", "list", "encoder"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    rows = [line for line in done.stdout.splitlines() if "encoder │" in line]
    for row, entry in zip(rows, [entry for entry in PARTS if entry.kind == "encoder"], strict=True):
        assert entry.name in row
        assert f"({entry.module})" in row
    narrow = subprocess.run(command, capture_output=True, text=True, check=True, env={**env, "COLUMNS": "60"})
    assert max(map(len, narrow.stdout.splitlines())) == 60
