"""Conversion between layouts of datasets: nothing lies at the new place until all of it is there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wamkit.data import layout
from wamkit.data.conversion import jobs
from wamkit.data.conversion.further import require_storable
from wamkit.data.conversion.hdf5 import Hdf5Source, Reading
from wamkit.data.conversion.jobs import Options
from wamkit.data.conversion.lerobot import LeRobotSource
from wamkit.data.conversion.meta import write_meta
from wamkit.data.conversion.source import Source
from wamkit.data.dataset import Dataset
from wamkit.data.info import where
from wamkit.data.replacement import Replacement
from wamkit.errors import DataError, WamkitError, did_you_mean
from wamkit.storage.documents import read_json, write_document

__all__ = ["Options", "Reading", "convert_dataset"]

PLAN = f"{jobs.WORK}.json"
AS_FOUND = Reading()
OF_A_DATASET = (".json", ".jsonl", ".parquet", ".mp4")
WRITTEN = (layout.VERSION, layout.OLD_VERSION)


def convert_dataset(
    source: Path | str,
    root: Path | str,
    version: str = layout.VERSION,
    *,
    reencode: bool = False,
    reading: Reading = AS_FOUND,
    progress: bool = True,
) -> Dataset:
    """Convert a dataset to another layout.

    Videos are copied packet by packet. The same call goes on with a conversion that was killed, as long as the source
    is the same; what was begun of another one is discarded.

    Args:
        source: LeRobotDataset folder (v3.0, v2.1, v2.0), or file of demonstrations (HDF5 in the layout of robomimic or
            LIBERO).
        root: folder of the new dataset, which must not exist.
        version: layout to write, ``v3.0`` or ``v2.1``.
        reencode: true to encode an episode's video anew where it cannot be cut out of its file without.
        reading: how an HDF5 file is read.
        progress: true to show a bar.

    Returns:
        The new dataset, opened.

    Raises:
        DataError: the source cannot be read or is in that layout already, ``root`` exists, or a video cannot be cut.
        BusyError: another process writes to ``root``.
        MissingExtraError: the source is an HDF5 file and ``h5py`` is not installed.
    """
    source, root = Path(source), Path(root)
    if version not in WRITTEN:
        raise DataError(f"version {version!r} cannot be written. {did_you_mean(version, WRITTEN)}")
    if root.exists() or root.is_symlink():
        raise DataError(f"{root} exists. Choose another folder, or remove it first.")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder. {where(source) or 'Name a dataset.'}")
    if source.resolve() in root.resolve().parents:
        raise DataError(
            f"{root} lies inside {source}, which would change while it is read. Choose another folder."
        )
    target = Replacement(root, overwrite=False)
    opened: Source = LeRobotSource(source) if _is_folder(source) else Hdf5Source(source, reading)
    with closing(opened):
        there = opened.info.get("codebase_version")
        if there == version:
            raise DataError(f"{source} is in the layout {version} already. {_other(version)}")
        require_storable(opened, version)
        options = Options(version, reencode)
        made_of = _made_of(opened, options, reading)
        with target.begin(lambda partial: _begun(partial) == made_of):
            try:
                return _write(opened, options, made_of, target, root, progress)
            except WamkitError:
                (target.partial / PLAN).unlink(missing_ok=True)  # bad input: there is nothing to go on with
                raise


def _is_folder(source: Path) -> bool:
    """Whether a source is a folder; raises :class:`DataError` for a file out of one, such as ``meta/info.json``."""
    if source.is_file() and source.suffix in OF_A_DATASET:
        raise DataError(
            f"{source} is one file of a dataset. {where(source) or 'Name the folder of the dataset.'}"
        )
    return source.is_dir()


def _other(version: str) -> str:
    return f"To write {next(v for v in WRITTEN if v != version)}, pass --to."


def _made_of(source: Source, options: Options, reading: Reading) -> dict[str, Any]:
    """Everything that the files of the new dataset follow from."""
    digest = hashlib.sha256()
    for path in source.files:
        facts = path.stat()
        digest.update(
            f"{os.path.abspath(path)} {facts.st_size} {facts.st_mtime_ns}\n".encode(
                "utf-8", "surrogateescape"
            )
        )
    plain = {"source": digest.hexdigest(), "options": asdict(options), "reading": asdict(reading)}
    return dict(json.loads(json.dumps(plain)))


def _begun(partial: Path) -> dict[str, Any] | None:
    """What an unfinished conversion is made of; None where there is none that can be gone on with."""
    try:
        found = read_json(partial / PLAN, "")
    except DataError:
        return None
    return {key: value for key, value in found.items() if key != "digest"}


def _write(
    source: Source, options: Options, made_of: dict[str, Any], target: Replacement, root: Path, progress: bool
) -> Dataset:
    partial = target.partial
    (partial / PLAN).parent.mkdir(parents=True, exist_ok=True)
    write_document(partial / PLAN, made_of)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not progress) as bar:
        looking = bar.add_task("reading videos", total=None)
        todo = jobs.plan(source, options)
        bar.remove_task(looking)
        shown = bar.add_task("converting frames", total=sum(_frames(source, job) for job in todo))
        for number, job in enumerate(todo):
            if not jobs.result_file(partial, number).exists():
                jobs.run(source, job, number, partial, options)
            bar.advance(shown, _frames(source, job))
    write_meta(source, todo, partial, options)
    Dataset(partial)  # what cannot be read is not handed over
    shutil.rmtree(partial / jobs.WORK)
    (partial / PLAN).unlink()
    target.finish()
    return Dataset(root)


def _frames(source: Source, job: jobs.Job) -> int:
    return sum(source.entries[episode].length for episode in job.episodes)
