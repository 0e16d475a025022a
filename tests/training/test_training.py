"""Training: bit-equal resume after SIGKILL, checkpoints whole or absent, errors before the first step."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from support import write_dataset
from wamkit.config import encode
from wamkit.design import DesignConfig, from_pretrained
from wamkit.errors import ConfigError, DataError, SpecError
from wamkit.training import OptimConfig, TrainConfig, train
from wamkit.training import loop as loop_module
from wamkit.training.resume import latest_checkpoint
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

STEPS = 12


def tiny(name: str) -> DesignConfig:
    config = recipe(name)
    trunks = {n: TransformerConfig(width=32, depth=1, heads=2) for n in config.trunks}
    return dataclasses.replace(config, width=32, trunks=trunks)


def config(root: Path, out: str, name: str = "joint", **changes: object) -> TrainConfig:
    base = TrainConfig(
        dataset=root / "data",
        out=root / out,
        design=tiny(name),
        optim=OptimConfig(warmup=2),
        steps=STEPS,
        batch_size=8,
        checkpoint_every=5,
        log_every=1,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    write_dataset(folder / "data")
    train(config(folder, "whole"), progress=False)
    return folder


def unseal(folder: Path) -> None:
    """Follow the advice for a checkpoint that was changed on purpose: remove its digests."""
    values = json.loads((folder / "config.json").read_text())
    del values["digests"]
    (folder / "config.json").write_text(json.dumps(values))


def kill_at(settings: TrainConfig, step: int) -> None:
    """Run the same training in another process and SIGKILL it once it has logged ``step``."""
    file = settings.out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(encode(settings), sort_keys=False))
    command = [sys.executable, "-m", "wamkit.cli", "train", "--config_path", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    log = settings.out / "log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and log.read_text().count("\n") >= step:
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    assert log.exists(), process.stderr.read().decode()


@pytest.mark.whole
@pytest.mark.parametrize("step", [2, 7, 11])
def test_killed_and_resumed_equals_never_killed(root: Path, step: int) -> None:
    settings = config(root, f"killed{step}")
    kill_at(settings, step)
    train(settings, progress=False)
    whole, resumed = (
        load_file(root / run / "model/model.safetensors") for run in ("whole", settings.out.name)
    )
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    lines = [json.loads(line)["step"] for line in (settings.out / "log.jsonl").read_text().splitlines()]
    assert lines == list(range(1, STEPS + 1))


def test_another_seed_gives_other_weights(root: Path) -> None:
    other = train(config(root, "seed", seed=1), progress=False)
    a, b = load_file(root / "whole/model/model.safetensors"), load_file(other / "model.safetensors")
    assert any(not torch.equal(a[name], b[name]) for name in a if "trunks" in name)


def test_half_written_checkpoint_is_ignored(root: Path) -> None:
    settings = config(root, "partial")
    train(settings, progress=False)
    (settings.out / "checkpoints" / ".step-00000099.partial").mkdir()
    found = latest_checkpoint(settings.out)
    assert found is not None
    assert found.name == f"step-{STEPS:08d}"


def test_resuming_with_another_config_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=rf"another config .*steps: {STEPS} there, {STEPS + 1} here"):
        train(config(root, "whole", steps=STEPS + 1), progress=False)


def test_the_order_of_fields_in_a_written_config_does_not_matter(root: Path) -> None:
    settings = config(root, "reordered")
    train(settings, progress=False)
    path = settings.out / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    weights = (settings.out / "model" / "model.safetensors").read_bytes()
    model = train(settings, progress=False)
    assert (model / "model.safetensors").read_bytes() == weights


def test_checkpoint_is_config_weights_and_transforms(root: Path) -> None:
    folder = root / "whole" / "model"
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "transforms.json"}
    stored = json.loads((folder / "transforms.json").read_text())
    assert "mean" in stored["action"]
    design = from_pretrained(folder)
    assert design.config == tiny("joint")


def test_missing_statistic_in_a_checkpoint_raises(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "whole" / "model", tmp_path / "model")
    stats = json.loads((tmp_path / "model/transforms.json").read_text())
    del stats["action"]["std"]
    (tmp_path / "model/transforms.json").write_text(json.dumps(stats))
    with pytest.raises(DataError, match=r"transforms\.json: not as it was written"):
        from_pretrained(tmp_path / "model")
    unseal(tmp_path / "model")
    with pytest.raises(Exception, match="statistic 'std' of feature 'action' is missing"):
        from_pretrained(tmp_path / "model")


def test_errors_name_the_way_out(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint at"):
        from_pretrained("./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"config\.json"):
        from_pretrained(tmp_path / "empty")
    shutil.copytree(root / "whole/model", tmp_path / "older")
    older = json.loads((tmp_path / "older/config.json").read_text())
    del older["extras"]
    (tmp_path / "older/config.json").write_text(json.dumps(older))
    with pytest.raises(DataError, match="'extras' is missing"):
        from_pretrained(tmp_path / "older")


def test_starting_from_a_checkpoint(root: Path, tmp_path: Path) -> None:
    """Training from a checkpoint at next to no rate leaves its weights; another convention is refused first."""
    still = config(root, "tuned", pretrained=str(root / "whole/model"), steps=1)
    still = dataclasses.replace(still, optim=OptimConfig(lr=1e-9, warmup=1, ema=0.0))
    tuned = load_file(train(still, progress=False) / "model.safetensors")
    source = load_file(root / "whole/model/model.safetensors")
    assert all(torch.allclose(tuned[name], source[name], rtol=0, atol=1e-8) for name in source)
    config_file = root / "whole/model/config.json"
    shutil.copytree(root / "whole/model", tmp_path / "other")
    changed = json.loads(config_file.read_text())
    changed["action"]["gripper"] = "positive_closes"
    (tmp_path / "other/config.json").write_text(json.dumps(changed))
    unseal(tmp_path / "other")
    with pytest.raises(SpecError, match=r"gripper: 'positive_closes' against 'none'"):
        train(config(root, "refused", pretrained=str(tmp_path / "other")), progress=False)
    with pytest.raises(ConfigError, match="parts differ"):
        train(config(root, "refused2", "direct", pretrained=str(root / "whole/model")), progress=False)


def test_the_loop_fits_one_screen() -> None:
    for function in (loop_module.train, loop_module.run_steps):
        assert len(inspect.getsource(function).splitlines()) <= 50
