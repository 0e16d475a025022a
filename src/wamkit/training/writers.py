"""Writers of a run's figures: ``log.jsonl``, and whatever else the option ``writers`` names."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, final

from typing_extensions import override

from wamkit.errors import ConfigError, MissingExtraError, did_you_mean
from wamkit.storage import read_json, write_atomically
from wamkit.storage.space import writing
from wamkit.training.resume import LOG, read_log

ENTRY = 64  # bytes of a figure in the files of other programs, about
TENSORBOARD_FOLDER, WANDB_FOLDER, WANDB_FILE = "tensorboard", "wandb", "wandb.json"


class Writer(ABC):
    """Where the figures of a run go, step by step."""

    @abstractmethod
    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the figures of a step.

        Raises:
            OSError: they cannot be written; the error names the file.
        """

    def close(self) -> None:  # noqa: B027 (many writers hold nothing open)
        """Write what is still held back."""


class Tracker(Writer):
    """Writer of another program, an extra.

    Attributes:
        module: module that must be importable.
    """

    module: ClassVar[str]

    @abstractmethod
    def __init__(self, out: Path, step: int, config: Mapping[str, Any]) -> None:
        """Go on after ``step`` in the folder of a run whose config is given as plain values."""


@final
class JsonLines(Writer):
    """Lines of ``log.jsonl``.

    Args:
        path: the file; lines of it after ``step`` are dropped, because those steps are taken again.
        step: steps taken before.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        write_atomically(path, "".join(line + "\n" for line in read_log(path, step)).encode())
        self._file = path.open("ab", buffering=0)

    @override
    def write(self, step: int, values: Mapping[str, float]) -> None:
        line = (json.dumps({"step": step, **values}) + "\n").encode()
        with writing(self._path, len(line)):
            # A disk that fills up takes a part of the line first and refuses the rest.
            while line:
                line = line[self._file.write(line) :]

    @override
    def close(self) -> None:
        self._file.close()


@final
class TensorBoard(Tracker):
    """Event file in ``<out>/tensorboard``. On resuming, figures after the last checkpoint are hidden."""

    module = "tensorboard"

    def __init__(self, out: Path, step: int, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = out / TENSORBOARD_FOLDER
        with writing(self._folder, ENTRY):
            self._events = SummaryWriter(str(self._folder), purge_step=step + 1 if step else None)

    @override
    def write(self, step: int, values: Mapping[str, float]) -> None:
        with writing(self._folder, ENTRY * len(values)):
            for name, value in values.items():
                self._events.add_scalar(name.replace(".", "/"), value, step)
            self._events.flush()

    @override
    def close(self) -> None:
        with writing(self._folder, ENTRY):
            self._events.close()


@final
class WeightsAndBiases(Tracker):
    """Run of Weights & Biases in ``<out>/wandb``; ``WANDB_MODE=offline`` keeps it on this machine.

    A resumed run goes on in the same run there; project and entity are those of the environment (``WANDB_PROJECT``,
    ``WANDB_ENTITY``).
    """

    module = "wandb"

    def __init__(self, out: Path, step: int, config: Mapping[str, Any]) -> None:
        import wandb

        file = out / WANDB_FILE
        known = file.is_file() and step > 0
        number = read_json(file, f"Remove {file}.")["id"] if known else os.urandom(8).hex()
        self._folder = out / WANDB_FOLDER
        write_atomically(file, json.dumps({"id": number}).encode())
        with writing(self._folder, ENTRY):
            self._run = wandb.init(
                id=number, resume="allow", dir=str(out), name=out.name, config=dict(config),
                project=os.environ.get("WANDB_PROJECT", "wamkit"),
            )  # fmt: skip

    @override
    def write(self, step: int, values: Mapping[str, float]) -> None:
        with writing(self._folder, ENTRY * len(values)):
            self._run.log(dict(values), step=step)

    @override
    def close(self) -> None:
        self._run.finish()


TRACKERS: Mapping[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


@final
class Several(Writer):
    """Several writers as one."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = writers

    @override
    def write(self, step: int, values: Mapping[str, float]) -> None:
        for writer in self._writers:
            writer.write(step, values)


def require_writers(names: Sequence[str]) -> None:
    """Check before any work that every writer that is named exists and can be used.

    Raises:
        ConfigError: there is no writer of this name.
        MissingExtraError: its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"writers: unknown writer {name!r}. {did_you_mean(name, TRACKERS)}")
        try:
            import_module(TRACKERS[name].module)
        except ImportError as error:
            raise MissingExtraError(
                f"writers: {name} needs the package {TRACKERS[name].module!r}, which cannot be imported ({error}): "
                f"pip install 'wamkit[{name}]', or leave it out of `writers`."
            ) from error


@contextmanager
def opened(names: Sequence[str], out: Path, step: int, config: Mapping[str, Any]) -> Iterator[Writer]:
    """Open ``log.jsonl`` and the writers that are named; all are closed at the end, whatever happens.

    Args:
        names: names of :data:`TRACKERS`.
        out: folder of the run.
        step: steps taken before.
        config: config of the run as plain values.
    """
    writers: list[Writer] = []
    whole = False
    try:
        writers.append(JsonLines(out / LOG, step))
        writers += (TRACKERS[name](out, step, config) for name in names)
        yield Several(writers)
        whole = True
    finally:
        for writer in writers:
            # What went wrong first is what is said: a disk that is full is full for closing too.
            with nullcontext() if whole else suppress(OSError):
                writer.close()
