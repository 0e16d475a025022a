"""Shards on a real Ray cluster of two nodes on this machine. Takes about a minute: set WAMKIT_TEST_RAY=1."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from plain_evaluation import CONFIG, EPISODES, policy
from plain_world import PlainConfig

from wamkit.envs import EnvConfig
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.cluster import evaluate_on_cluster
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.evaluation.report.report import Report

pytestmark = pytest.mark.skipif("WAMKIT_TEST_RAY" not in os.environ, reason="WAMKIT_TEST_RAY is not set")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    tools = pytest.importorskip("ray.cluster_utils")
    folder = str(Path(__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EnvConfig._choice_registry, "plain", PlainConfig)
        patch.setenv("PYTHONPATH", os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]))
        found = tools.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        found.add_node(num_cpus=1)
        yield found
        found.shutdown()


def load(marks: Path, fail: bool = False) -> Any:
    """Runs in the task: registers the world there, and leaves a mark that says on which node."""
    import ray

    EnvConfig._choice_registry["plain"] = PlainConfig
    if fail:
        raise RuntimeError("no such checkpoint on this node")
    (marks / ray.get_runtime_context().get_task_id()).write_text(ray.get_runtime_context().get_node_id())
    return policy()


def test_two_nodes_give_what_one_process_gives(cluster: Any, tmp_path: Path) -> None:
    marks, out = tmp_path / "marks", tmp_path / "out"
    marks.mkdir()
    whole = rollout(policy(), CONFIG, checkpoint="abc", progress=False).report
    run = partial(evaluate_on_cluster, address=cluster.address, shards=4, out=out, checkpoint="abc")
    merged = run(partial(load, marks), CONFIG)
    assert merged.episodes == whole.episodes
    assert merged.shifts == whole.shifts
    assert merged.config_hash == whole.config_hash
    assert len(merged.episodes) == EPISODES
    tasks = sorted(marks.iterdir())
    assert len(tasks) == 4
    assert len({mark.read_text() for mark in tasks}) == 2  # both nodes worked
    assert sorted(p.name for p in out.iterdir()) == [f"shard-{i}-of-4" for i in range(4)]
    assert not list(out.glob("*/journal*"))

    # Started again: every shard is there, no task runs. One report gone: one task.
    assert run(partial(load, marks), CONFIG).episodes == whole.episodes
    (out / "shard-2-of-4" / "report.json").unlink()
    assert run(partial(load, marks), CONFIG).episodes == whole.episodes
    assert len(list(marks.iterdir())) == 5
    with pytest.raises(ConfigError, match=r"seed: 0 there, 3 here.*Delete"):
        run(partial(load, marks), dataclasses.replace(CONFIG, seed=3))
    assert Report.load(out / "shard-0-of-4" / "report.json").config["shard"] == "0/4"


def test_what_cannot_run_is_said(cluster: Any, tmp_path: Path) -> None:
    run = partial(evaluate_on_cluster, address=cluster.address, shards=2, out=tmp_path)
    with pytest.raises(Exception, match=r"2 shards failed(?s:.*)no such checkpoint on this node"):
        run(partial(load, tmp_path, fail=True), CONFIG)
    with pytest.raises(ConfigError, match=r"takes 2 CPUs .*, the largest node has 1"):
        run(partial(load, tmp_path), dataclasses.replace(CONFIG, workers=2))
    with pytest.raises(ConfigError, match="leave the shard out"):
        run(partial(load, tmp_path), dataclasses.replace(CONFIG, shard="0/2"))
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"):
        run(partial(load, tmp_path), CONFIG, address="127.0.0.1:1")
