"""A full disk: every file that a training writes is named with the bytes that it needs, and the run goes on after."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from small_runs import STEPS, same_weights, settings
from support import write_dataset
from wamkit.storage.space import free_bytes, writing
from wamkit.training import TrainConfig, train

LAST = f"checkpoints/step-{STEPS:08d}"
NEEDED = re.compile(r"\((\d+) bytes needed, (\d+) free\)")


def config(root: Path, out: Path, **changes: Any) -> TrainConfig:
    return settings(root, out, held_out=1, evaluate_every=2, **changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    write_dataset(folder / "data")
    train(config(folder, folder / "whole"), progress=False)
    return folder


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to make any file larger than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def goes_on(root: Path, out: Path) -> None:
    """The same call, once there is space, ends as if nothing had been; nothing half-written is left."""
    assert train(config(root, out), progress=False) == out / "model"
    for folder in ("model", "best", LAST):
        assert same_weights(out / folder, root / "whole" / folder)
    assert (out / "log.jsonl").read_text() == (root / "whole/log.jsonl").read_text()
    left = [p for p in out.rglob(".*") if p.name.endswith((".part", ".partial", ".old"))]
    assert left == []


@pytest.mark.parametrize(
    ("file", "named"),
    [
        *((name, name) for name in ("config.json", "data.json", "held_out.json", "about.json", "log.jsonl")),
        *((f".step-00000004.partial/{name}", "checkpoints/step-00000004") for name in
          ("config.json", "transforms.json", "model.safetensors", "training.pt", "run.json")),
        *((f".{folder}.partial/{name}", folder) for folder in ("best", "model") for name in
          ("config.json", "transforms.json", "model.safetensors")),
    ],
)  # fmt: skip
def test_every_file_is_named_and_the_run_goes_on(
    file: str, named: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the file is brought to it, where systems report what they promised before."""
    sync, out = os.fsync, tmp_path / "run"

    def full(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        where, name = os.path.split(path)
        if path.endswith(file) or (where == str(out) and name.startswith(f".{file}.")):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        train(config(root, out), progress=False)
    assert raised.value.filename == str(out / named)
    found = NEEDED.search(str(raised.value))
    assert found is not None
    weights = (root / "whole/model/model.safetensors").stat().st_size
    assert (int(found[1]) > 0.8 * weights) == ("partial" in file)
    monkeypatch.undo()
    goes_on(root, out)


@pytest.mark.parametrize(
    ("step", "size", "named"),
    [
        (1, 70, "log.jsonl"),  # the second line is cut in its middle
        (1, 2_500, "best"),
        (2, 9_000, "best"),  # weights, written by the library for them
        (2, 40_000, "checkpoints/step-00000002"),  # the state of the optimiser, written by torch
    ],
)
def test_what_libraries_write_is_named_too(
    step: int, size: int, named: str, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with largest_file(resource.RLIM_INFINITY):

        def hook(now: int, *_: Any) -> None:
            if now == step:
                resource.setrlimit(
                    resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
                )

        with pytest.raises(OSError, match=r"bytes needed") as raised:
            train(config(root, out), hook=hook, progress=False)
    assert raised.value.filename == str(out / named)
    assert raised.value.errno in (errno.EFBIG, errno.ENOSPC)
    goes_on(root, out)


def test_the_last_good_checkpoint_is_kept_on_a_full_disk(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(root / "whole", out)
    shutil.rmtree(out / "model")
    with largest_file(9_000), pytest.raises(OSError, match="bytes needed") as raised:
        train(config(root, out), progress=False)
    assert raised.value.filename == str(out / "model")
    assert same_weights(out / LAST, root / "whole" / LAST)
    goes_on(root, out)


def test_other_faults_of_the_system_keep_their_words(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="Permission denied") as raised, writing(tmp_path / "a", 10):
        raise PermissionError(errno.EACCES, "Permission denied", "elsewhere")
    assert raised.value.filename == str(tmp_path / "a")
    assert "bytes" not in str(raised.value)
    with pytest.raises(ValueError, match="ours"), writing(tmp_path / "a", 10):
        raise ValueError("ours")
    assert free_bytes(tmp_path / "not" / "yet") > 0
