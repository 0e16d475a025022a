"""Mutation run: small datasets and checkpoints are broken in one place each, and read.

Every mutant must be read as the original (`same`) or be refused in our own words (`refused`). All else is a defect:
another error (`foreign`), other values without a word (`different`), or files that reading destroyed (`lost`).

`python tests/mutants.py 2000` prints the table by kind and lists the defects.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "data")]

import corruption
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from recordings import ACTION, OBSERVATION, SMALL, episode, pictures, record

from support import write_dataset
from wamkit.config import encode
from wamkit.contract import Budget, WindowSpec
from wamkit.data import Dataset, DatasetWriter
from wamkit.design import DesignConfig, from_pretrained
from wamkit.encoders import ImagesConfig, InstructionConfig, StateConfig
from wamkit.errors import WamkitError
from wamkit.training import OptimConfig, TrainConfig, train
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

OUTCOMES = ("same", "refused", "foreign", "different", "lost")
FLOAT_DIGITS = 9  # digits of statistics that count: the last bits of a text are no value


@dataclass(frozen=True)
class Subject:
    """Something on disk that is broken and read.

    Attributes:
        name: name in the table.
        root: the intact folder.
        read: folder -> digest of everything that a user gets from it.
        resumed: true if reading goes on writing into the folder.
    """

    name: str
    root: Path
    read: Callable[[Path], str]
    resumed: bool = False


@dataclass(frozen=True)
class Result:
    """What one mutant did to its reader.

    Attributes:
        subject: name of the subject.
        kind: kind of the corruption.
        what: file and change.
        outcome: one of :data:`OUTCOMES`.
        said: message of the error, if any.
    """

    subject: str
    kind: str
    what: str
    outcome: str
    said: str


def digest(values: Any) -> str:
    """Digest of nested values; arrays by type, shape and content, other floats by their first digits."""
    total = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            total.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        elif isinstance(value, dict):
            for key in sorted(value):
                total.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            total.update(f"[{len(value)}".encode())
            for entry in value:
                add(entry)
        elif isinstance(value, float):
            total.update(f"{value:.{FLOAT_DIGITS}g}".encode())
        else:
            total.update(repr(value).encode())

    add(values)
    return total.hexdigest()


def read_dataset(root: Path) -> str:
    """Everything that a training can read of a dataset: specs, tasks, statistics, values, pictures."""
    data = Dataset(root)
    extras = [key for key in data.info["features"] if key.startswith("extra.")]
    data = data.with_extras([key.removeprefix("extra.") for key in extras])
    window = WindowSpec(observation=(-1, 0), horizon=2, future=(1, 2))
    batch = data.windows(np.arange(data.num_frames), window)
    seen = [batch.observation, batch.future]
    return digest(
        {
            "specs": [dataclasses.asdict(data.observation_spec), dataclasses.asdict(data.action_spec)],
            "stats": {key: value.to_json() for key, value in data.stats.items()},
            "episodes": [(e.index, e.start, e.stop, list(e.tasks), e.success) for e in data.episodes],
            "values": [data.state, data.action, data.extras],
            "windows": [[o.images, o.state, o.task, o.pad, o.extras] for o in seen if o is not None],
        }
    )


def read_checkpoint(root: Path) -> str:
    """Weights, config, conventions, statistics and one forecast of a checkpoint."""
    design = from_pretrained(root)
    spec = design.data
    config = encode(design.config)
    stats = {key: {n: np.asarray(v).tolist() for n, v in s.items()} for key, s in spec.stats.items()}
    facts = [config, dataclasses.asdict(spec.observation), dataclasses.asdict(spec.action), stats]
    batch = FORECAST_FROM.windows(np.array([3, 9]), design.training_window)
    forecast, _ = design.forecast(batch.observation, design.initial_state(2), Budget(), [1, 2])
    return digest([facts, dict(design.state_dict()), forecast.action])


def small(name: str) -> DesignConfig:
    """A recipe, small enough for a training in a second."""
    base = recipe(name)
    encoders = {
        "images": ImagesConfig(channels=(8, 8)),
        "state": StateConfig(),
        "instruction": InstructionConfig(hidden=8),
    }
    return dataclasses.replace(
        base,
        horizon=4,
        stride=4,
        width=32,
        encoders={key: encoders.get(key, part) for key, part in base.encoders.items()},
        trunks={key: TransformerConfig(width=32, depth=1, heads=2) for key in base.trunks},
        controller=dataclasses.replace(base.controller, execute=4),
    )


def run_config(design: str) -> TrainConfig:
    """A run in the current folder, on the demonstrations beside it."""
    return TrainConfig(
        dataset=Path("../data"), out=Path("run"), design=small(design), steps=3, batch_size=4, checkpoint_every=1,
        log_every=1, optim=OptimConfig(warmup=1),
    )  # fmt: skip


def resume(root: Path) -> str:
    """Weights of the model at the end of a stopped training that is started again."""
    with contextlib.chdir(root):
        model = train(run_config("direct"), progress=False)
        return digest(dict(from_pretrained(model).state_dict()))


def add_pictures(root: Path) -> None:
    """Turn a dataset into another program's, with a camera of PNG pictures in its table."""
    path = next(root.glob("data/*/*.parquet"))
    table = pq.read_table(path)
    cells = []
    for image in pictures(table.num_rows, 16, 16, 3):
        with tempfile.SpooledTemporaryFile() as file:
            Image.fromarray(image).save(file, "PNG")
            file.seek(0)
            cells.append({"bytes": file.read(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(
        table.append_column("observation.images.front", pa.array(cells, kind)), path, write_page_checksum=True
    )
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.front"] = {
        "dtype": "image", "shape": [16, 16, 3], "names": ["height", "width", "channels"],
    }  # fmt: skip
    del info["wamkit"]
    (root / "meta/info.json").write_text(json.dumps(info, indent=4))


def datasets(folder: Path) -> Iterator[Subject]:
    """Small datasets of different shapes."""
    from wamkit.data import rebuild_stats

    lengths = (8, 6, 9)
    recorded = [episode(n, i, ("open", "close")[i % 2]) for i, n in enumerate(lengths)]
    record(folder / "extras", recorded)
    record(folder / "many files", [*recorded, *(episode(8, i) for i in range(3, 8))], SMALL)
    no_cameras = dataclasses.replace(OBSERVATION, cameras={})
    with DatasetWriter(folder / "no camera", no_cameras, ACTION) as writer:
        for item in recorded:
            writer.add(dataclasses.replace(item, images={}, extras={}))
    one = dataclasses.replace(OBSERVATION, cameras={"scene": OBSERVATION.cameras["scene"]})
    for name in ("one camera", "pictures"):
        with DatasetWriter(folder / name, one, ACTION) as writer:
            for item in recorded:
                writer.add(dataclasses.replace(item, images={"scene": item.images["scene"]}, extras={}))
    add_pictures(folder / "pictures")
    rebuild_stats(folder / "pictures")
    for name in ("one camera", "extras", "no camera", "many files", "pictures"):
        yield Subject(f"dataset: {name}", folder / name, read_dataset)


def checkpoints(folder: Path) -> Iterator[Subject]:
    """Small checkpoints, and a training that was stopped."""
    global FORECAST_FROM
    FORECAST_FROM = Dataset(write_dataset(folder / "data", 3, 30))
    home = folder / "trained"
    for name in ("direct", "joint", "fast_tokens", "masked"):
        work = home / name
        work.mkdir(parents=True)
        with contextlib.chdir(work):
            train(dataclasses.replace(run_config(name), dataset=folder / "data", steps=1), progress=False)
        yield Subject(f"checkpoint: {name}", work / "run" / "model", read_checkpoint)
    work = folder / "stopped"
    work.mkdir()
    with contextlib.chdir(work):
        train(run_config("direct"), progress=False)
        shutil.rmtree("run/model")
        shutil.rmtree("run/checkpoints/step-00000003")
    yield Subject("run: stopped after 2 of 3 steps", work, resume, resumed=True)


def subjects(folder: Path) -> list[Subject]:
    """Everything that is broken; ``folder`` receives the intact ones."""
    folder.mkdir(parents=True, exist_ok=True)
    return [*datasets(folder), *checkpoints(folder)]


def contents(root: Path) -> dict[str, str]:
    """File -> digest of its bytes; locks are no content."""
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in corruption.files(root)
    }


def attempt(subject: Subject, mutant: corruption.Mutant, expected: str) -> Result:
    """Read one mutant."""
    before, said = contents(mutant.root), ""
    try:
        outcome = "same" if subject.read(mutant.root) == expected else "different"
    except WamkitError as error:
        outcome, said = "refused", str(error)
    except Exception as error:  # noqa: BLE001 (this is what the run looks for)
        outcome, said = "foreign", f"{type(error).__name__}: {error}"
    after = contents(mutant.root)
    changed = sorted(name for name in before if after.get(name) != before[name])
    if changed and not (subject.resumed and outcome == "same"):
        # A refusal leaves everything as it was: what could be saved by hand is still there.
        outcome, said = "lost", f"{outcome}, and changed {changed[:3]}: {said}"
    return Result(subject.name, mutant.kind, mutant.what, outcome, said)


def run(
    count: int, seed: int, folder: Path, kinds: tuple[str, ...] = tuple(corruption.FILE_KINDS)
) -> list[Result]:
    """Break and read ``count`` mutants, spread evenly over subjects and kinds."""
    with quiet():
        return run_all(count, seed, folder, kinds)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Warnings of the package are not shown inside: thousands of mutants would fill the screen."""
    logger = logging.getLogger("wamkit")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def run_all(count: int, seed: int, folder: Path, kinds: tuple[str, ...]) -> list[Result]:
    """Break and read the mutants; the arguments are those of :func:`run`."""
    intact = subjects(folder / "intact")
    expected = {}
    for subject in intact:
        copy = folder / "scratch" / "mutant"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(subject.root, copy)
        expected[subject.name] = subject.read(placed(subject, copy, folder))
    results = []
    for number in range(count):
        subject = intact[number % len(intact)]
        rng = random.Random(f"{seed}.{number}")
        kind = kinds[number // len(intact) % len(kinds)]
        broken = corruption.mutant(subject.root, folder / "scratch" / "mutant", rng, (kind,))
        results.append(attempt(subject, broken, expected[subject.name]))
    return results


def placed(subject: Subject, copy: Path, folder: Path) -> Path:
    """Put the demonstrations where a resumed run looks for them: beside its folder."""
    if subject.resumed and not (copy.parent / "data").exists():
        shutil.copytree(folder / "intact" / "data", copy.parent / "data")
    return copy


def table(results: list[Result]) -> str:
    """The outcomes as a Markdown table: kind of subject and of corruption by outcome."""
    counts: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        counts[result.subject, result.kind][result.outcome] += 1
        counts["all", result.kind][result.outcome] += 1
        counts["all", "all"][result.outcome] += 1
    lines = ["| read | broken by | " + " | ".join(OUTCOMES) + " |", "|---|---|" + "---|" * len(OUTCOMES)]
    for (subject, kind), outcomes in counts.items():
        lines.append(f"| {subject} | {kind} | " + " | ".join(str(outcomes[o]) for o in OUTCOMES) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print the table and the defects of a run of ``sys.argv[1]`` mutants; 1 if there is a defect."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    kinds = tuple(sys.argv[3].split(",")) if len(sys.argv) > 3 else tuple(corruption.FILE_KINDS)
    with tempfile.TemporaryDirectory() as folder:
        results = run(count, seed, Path(folder), kinds)
    print(table(results))
    defects = [r for r in results if r.outcome not in ("same", "refused")]
    for result in defects:
        print(f"{result.outcome}: {result.subject}: {result.kind}: {result.what}: {result.said[:200]}")
    return bool(defects)


if __name__ == "__main__":
    sys.exit(main())
