"""A corrupted dataset is read as it was recorded, or refused in words: no foreign exception, no other value."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruption import FILE_KINDS, KINDS, mutant
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import EXTRAS, SMALL, episode, record, varied

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset
from wamkit.errors import WamkitError

SOURCES = ("one file", "many files", "one camera moves", "written elsewhere")


@cache
def folder() -> Path:
    """A folder for all datasets and mutants of this session."""
    return Path(tempfile.mkdtemp(prefix="corruption-"))


@cache
def source(name: str) -> Path:
    """An intact dataset."""
    root = folder() / name
    if name == "many files":
        return record(root, varied([12] * 4), SMALL)
    if name == "one camera moves":
        item = episode(6)
        still = {key: np.repeat(images[:1], 6, axis=0) for key, images in item.images.items()}
        return record(root, [dataclasses.replace(item, images={**item.images, "gripper": still["gripper"]})])
    record(root, varied([5, 9, 4]))
    if name == "written elsewhere":
        info = json.loads((root / "meta/info.json").read_text())
        del info["wamkit"]
        (root / "meta/info.json").write_text(json.dumps(info))
    return root


def seen(root: Path) -> dict[str, Any]:
    """Everything that a dataset hands out."""
    data = Dataset(root, extras=tuple(EXTRAS))
    batch = data.windows(np.arange(data.num_frames), WindowSpec(horizon=3, past_actions=1))
    arrays = {"action": batch.action, "pad": batch.action_pad, "state": batch.observation.state}
    arrays |= batch.observation.images | batch.observation.extras
    stats = {key: value.to_json() for key, value in data.stats.items()}
    return {
        **{name: (tuple(a.shape), a.numpy().tobytes()) for name, a in arrays.items()},
        "task": batch.observation.task,
        "tasks": [e.tasks for e in data.episodes],
        "success": [e.success for e in data.episodes],
        "rest": (data.observation_spec, data.action_spec, data.fps, stats),
    }


@cache
def truth(name: str) -> dict[str, Any]:
    return seen(source(name))


def outcome(name: str, seed: int, kinds: tuple[str, ...]) -> str:
    """What becomes of one mutant: ``refused``, or the names of the values that are not the original's."""
    found = mutant(source(name), folder() / "mutant", random.Random(seed), kinds)
    try:
        values = seen(found.root)
    except WamkitError:
        return "refused"
    return ", ".join(key for key, value in truth(name).items() if values[key] != value)


@pytest.mark.parametrize("kind", KINDS)
def test_what_wamkit_recorded_is_never_read_wrongly(kind: str) -> None:
    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(SOURCES[:3]), st.integers(0, 10**6))
    def check(name: str, seed: int) -> None:
        assert outcome(name, seed, (kind,)) in ("refused", ""), (name, seed, kind)

    check()


# Nothing else in a dataset of another program repeats these values: no digest, and statistics that are estimates.
UNKNOWN = {"depth", "pose", "contact", "scene", "gripper", "rest", "success"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_others_recorded_is_never_read_wrongly_where_two_places_tell(kind: str) -> None:
    @settings(max_examples=12, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 10**6))
    def check(seed: int) -> None:
        found = outcome(SOURCES[3], seed, (kind,))
        assert found in ("refused", "") or set(found.split(", ")) <= UNKNOWN, (seed, kind, found)

    check()


def test_the_corruptions_are_repeatable_and_leave_their_source_alone(tmp_path: Path) -> None:
    before = seen(source("one file"))
    for kind in FILE_KINDS:
        one, other = (
            mutant(source("one file"), tmp_path / name, random.Random(5), (kind,))
            for name in ("one", "other")
        )
        assert (one.kind, one.what) == (other.kind, other.what)
        files = [
            sorted(p.relative_to(m.root) for p in m.root.rglob("*") if p.is_file()) for m in (one, other)
        ]
        assert files[0] == files[1]
        assert all((one.root / p).read_bytes() == (other.root / p).read_bytes() for p in files[0])
    assert seen(source("one file")) == before


def teardown_module() -> None:
    shutil.rmtree(folder(), ignore_errors=True)
