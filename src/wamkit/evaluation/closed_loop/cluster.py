"""The shards of an evaluation as tasks on a Ray cluster; the driver merges what they report."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wamkit.errors import ConfigError, MissingExtraError, WamkitError
from wamkit.evaluation.closed_loop.journal import discard_journal
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shard, variants
from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.evaluation.closed_loop.shards import merge
from wamkit.evaluation.report.report import Report
from wamkit.storage.fingerprint import differences

PASSED_ON = ("MUJOCO_GL", "OMP_NUM_THREADS", "PYTHONPATH")  # variables of the driver that the tasks need
ANSWERS_S = 10.0  # seconds within which the head node must take a connection


def evaluate_on_cluster(
    load: Callable[[], Policy],
    config: EvaluationConfig,
    address: str,
    shards: int,
    out: Path,
    *,
    dataset: str | None = None,
    checkpoint: str | None = None,
) -> Report:
    """Run an evaluation as ``shards`` Ray tasks and merge their reports.

    A task takes as many CPUs as ``config.workers``. Ray starts a task whose node dies on another node. It goes on
    from its journal where ``out`` is on a file system that both see, and begins its shard anew where not. The driver
    keeps every shard's report in ``out``; started again, it runs only the shards that have none.

    Args:
        load: factory of the policy, run in the task; it must be picklable, and its files must be on every node.
        config: the whole evaluation, without a shard.
        address: address of the cluster, as ``ray.init`` takes it: ``auto``, ``host:port`` or ``ray://host:port``.
        shards: number of tasks.
        out: folder for the shards' reports and journals.
        dataset: fingerprint of the training data, for the report.
        checkpoint: digest of the policy's files.

    Raises:
        ConfigError: the config has a shard, no node has enough CPUs, or no cluster answers.
        WamkitError: a shard failed for good; the others' reports are kept.
    """
    if config.shard is not None or shards < 1:
        raise ConfigError(
            f"cluster: {shards} shards of an evaluation with shard = {config.shard!r}; leave the shard out and use at "
            f"least one."
        )
    ray = import_ray()
    parts = {str(shard): part for shard, part in _parts(config, shards).items()}
    folders = {name: out.absolute() / f"shard-{name.replace('/', '-of-')}" for name in parts}
    done = {name: _kept(folders[name], part, dataset, checkpoint) for name, part in parts.items()}
    left = [name for name, report in done.items() if report is None]
    if left:
        _connect(ray, address)
        try:
            _require_room(ray, config.workers, address)
            task = ray.remote(num_cpus=config.workers)(_run_shard)
            asked = {
                task.remote(load, parts[name], folders[name], dataset, checkpoint): name for name in left
            }
            done |= _collect(ray, asked, folders)
        finally:
            ray.shutdown()
    reports = [report for report in done.values() if report is not None]
    return merge(reports, [variant.id for variant in variants(config)])


def import_ray() -> Any:
    """Ray, or an error that names the extra."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("a cluster needs Ray: pip install 'wamkit[cluster]'") from error
    return ray


def _parts(config: EvaluationConfig, shards: int) -> dict[Shard, EvaluationConfig]:
    """The shards that have variants."""
    names = [variant.id for variant in variants(config)]
    found = [Shard(index, shards) for index in range(shards)]
    return {
        shard: dataclasses.replace(config, shard=str(shard))
        for shard in found
        if any(shard.holds(name) for name in names)
    }


def _kept(
    folder: Path, config: EvaluationConfig, dataset: str | None, checkpoint: str | None
) -> Report | None:
    """The report of a shard that an earlier driver collected, if it is of this evaluation."""
    path = folder / "report.json"
    if not path.is_file():
        return None
    report = Report.load(path)
    here = _plain(config, report)
    found = differences(report.config, here)
    for name, value in (("checkpoint", checkpoint), ("dataset", dataset)):
        if getattr(report, name) != value:
            found.append(f"{name}: {getattr(report, name)!r} there, {value!r} here")
    if found:
        raise ConfigError(
            f"{path} is of another evaluation: {'; '.join(found)}. Delete {folder} or choose another `out`."
        )
    return report


def _plain(config: EvaluationConfig, report: Report) -> dict[str, Any]:
    """The config as a report states it; a controller that was left to the policy is the one the report names."""
    from wamkit.config import encode

    plain = encode(config)
    return plain if config.controller is not None else {**plain, "controller": report.config["controller"]}


def _connect(ray: Any, address: str) -> None:
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        if ":" in address:  # Ray itself would go on trying for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_S).close()
        ray.init(address=address, runtime_env={"env_vars": passed}, log_to_driver=False)
    except (OSError, ValueError) as error:  # a refused or timed out connection, or no number behind the colon
        raise ConfigError(
            f"cluster: no Ray cluster answers at {address!r} ({error}). Start one with `ray start --head`, and give "
            f"the address that it prints."
        ) from error


def _require_room(ray: Any, cpus: int, address: str) -> None:
    """Raise :class:`ConfigError` when no node could ever run a task; Ray would wait for one forever."""
    sizes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    largest = max(sizes, default=0)
    if largest < cpus:
        raise ConfigError(
            f"cluster {address!r}: a shard takes {cpus} CPUs (`workers`), the largest node has {largest:g}. "
            f"Set `workers` to at most that."
        )


def _collect(ray: Any, asked: dict[Any, str], folders: dict[str, Path]) -> dict[str, Report]:
    """Save each shard's report as it comes; raise for the first that failed once all have ended."""
    reports: dict[str, Report] = {}
    broken: dict[str, str] = {}
    while asked:
        (ready, *_), _ = ray.wait(list(asked), num_returns=1)
        name = asked.pop(ready)
        try:
            reports[name] = ray.get(ready)
        except ray.exceptions.RayError as error:
            broken[name] = str(error)
            continue
        reports[name].save(folders[name] / "report.json")
        discard_journal(folders[name] / "journal.jsonl")
    if broken:
        name, reason = next(iter(broken.items()))
        raise WamkitError(
            f"cluster: {len(broken)} shards failed, {len(reports)} are kept. Shard {name}: {reason}\nRun the same "
            f"command again for those that failed."
        )
    return reports


def _run_shard(
    load: Callable[[], Policy],
    config: EvaluationConfig,
    folder: Path,
    dataset: str | None,
    checkpoint: str | None,
) -> Report:
    """The task."""
    journal = folder / "journal.jsonl"
    return rollout(
        load(), config, dataset=dataset, checkpoint=checkpoint, journal=journal, progress=False
    ).report
