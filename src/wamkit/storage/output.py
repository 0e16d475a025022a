"""The rule for every place that a verb writes to.

One process at a time writes there. What the result is made of is stored beside it before any work is done, in
``<result>.inputs.json``, with whether the result is finished. Whoever comes next goes on with unfinished work that is
made of the same, is refused where it is made of something else, and replaces a finished result only when asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wamkit.errors import ConfigError, DataError
from wamkit.storage.claim import claim
from wamkit.storage.documents import (
    read_json,
    require_unchanged,
    write_atomically,
    write_document,
)
from wamkit.storage.fingerprint import differences, listing

FORMAT = "wamkit-inputs-1"
# What makes a folder the whole of something else, into which no verb writes its own files.
LANDMARKS = {"meta/info.json": "a dataset", "model.safetensors": "a checkpoint"}
ELSEWHERE = "Choose another `out`"


@dataclass(frozen=True)
class Result:
    """A result on disk, and how it is recognised.

    Attributes:
        file: main file of the result, such as ``runs/a/report.json``.
        verb: name of what makes it, for messages.
        whole_folder: true if the folder of ``file`` is the output, false if it is ``file`` alone.
        ours: returns true if ``file``, which exists, is a result of this verb and may be replaced when asked.
        begun: returns true if unfinished work lies there, such as a journal, that a next run goes on with.
        discard: removes that work, and whatever of the result would mix with a new one.
        tidy: removes what is of use only while the result is unfinished.
        grows: true if a finished result can be added to by a next run that is made of the same.
    """

    file: Path
    verb: str
    whole_folder: bool = True
    ours: Callable[[Path], bool] = lambda file: True
    begun: Callable[[], bool] = lambda: False
    discard: Callable[[], None] = lambda: None
    tidy: Callable[[], None] = lambda: None
    grows: bool = False

    @property
    def place(self) -> Path:
        """The output as the user named it."""
        return self.file.parent if self.whole_folder else self.file

    @property
    def inputs(self) -> Path:
        """File that says what the result is made of, and whether it is finished."""
        name = self.file.stem if self.whole_folder else self.file.name
        return self.file.with_name(f"{name}.inputs.json")


@contextmanager
def output(result: Result, inputs: Mapping[str, Any], overwrite: bool = False) -> Iterator[None]:
    """Hold a place while a result is written there; on a clean exit the result counts as finished.

    An error before anything was written leaves the place as it was.

    Args:
        result: what will be written.
        inputs: everything that determines the result, as plain values; its names are the words of a refusal.
        overwrite: true to replace a finished result, and to discard unfinished work that is made of something else.

    Raises:
        BusyError: another process is writing there.
        ConfigError: the place is of another kind, cannot be written, or holds a finished result or another unfinished
            one.
        DataError: the file of inputs is broken.
    """
    require_place(result.place, folder=result.whole_folder)
    with claim(result.place):
        require_free(result, inputs, overwrite)
        before = result.inputs.read_bytes() if result.inputs.exists() else None
        result_before, new = _stamp(result.file), not result.file.parent.exists()
        made = False
        try:
            write_document(result.inputs, inputs_document(result.verb, inputs, finished=False))
            yield
            made = True
        finally:
            if not made and not result.begun() and _stamp(result.file) == result_before:
                _put_back(result.inputs, before, new)
        write_document(result.inputs, inputs_document(result.verb, inputs, finished=True))
        result.tidy()


def inputs_document(verb: str, inputs: Mapping[str, Any], finished: bool) -> dict[str, Any]:
    """Content of the file that says what a result is made of."""
    return {"format": FORMAT, "verb": verb, "inputs": _plain(inputs), "finished": finished}


def _plain(inputs: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(inputs, default=str))


def _stamp(file: Path) -> tuple[int, int] | None:
    """Value that changes when a file is replaced; None while there is none."""
    if not file.exists():
        return None
    facts = file.stat()
    return facts.st_ino, facts.st_mtime_ns


def _put_back(file: Path, content: bytes | None, new_folder: bool) -> None:
    if content is not None:
        return write_atomically(file, content)
    file.unlink(missing_ok=True)
    if new_folder and file.parent.is_dir() and not any(file.parent.iterdir()):
        file.parent.rmdir()


def require_place(place: Path, folder: bool) -> None:
    """Raise :class:`ConfigError` unless a folder (or a file) can be written at ``place``.

    Missing parents are no fault: they are made. A folder that is the whole of something else (:data:`LANDMARKS`) is.
    """
    kind = "folder" if folder else "file"
    if place.exists() or place.is_symlink():
        if folder and not place.is_dir():
            raise ConfigError(f"{place} is a file, and the output is a folder. {ELSEWHERE}.")
        if not folder and not place.is_file():
            what = "a folder" if place.is_dir() else "no regular file"
            raise ConfigError(f"{place} is {what}, and the output is a file. {ELSEWHERE}.")
    for mark, whole in LANDMARKS.items():
        if folder and (place / mark).exists():
            raise ConfigError(f"{place} is {whole}, which this output would be mixed with. {ELSEWHERE}.")
    there = place if folder and place.is_dir() else next(p for p in _above(place) if p.exists())
    if not there.is_dir():
        raise ConfigError(f"{place}: {there} is a file, so no {kind} can be made in it. {ELSEWHERE}.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{place}: no permission to write in {there}. {ELSEWHERE}, or change its permissions."
        )


def _above(place: Path) -> tuple[Path, ...]:
    return tuple(Path(os.path.abspath(place)).parents)


def require_free(result: Result, inputs: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse, or clear away what may be: afterwards there is nothing, or work made of the same to go on with.

    :func:`output` does this; a folder that is written elsewhere and put in place as a whole needs no more of it.

    Raises:
        ConfigError: the place holds a finished result, another unfinished one, or something else.
        DataError: the file of inputs is broken.
    """
    exists = result.file.exists()
    if exists and not result.ours(result.file):
        raise ConfigError(
            f"{result.file} is no result of `{result.verb}`, so it is not replaced. {ELSEWHERE}."
        )
    there, finished = _read(result, overwrite)
    if exists and finished:
        result.tidy()  # a process that was killed while it did so has left some of it
    changed = [] if there is None else differences(there, _plain(inputs))
    if exists and (there is None or changed or (finished and not result.grows)):
        refusal = f"{_finished(result, there, changed)} {ELSEWHERE}, or set `overwrite` to replace it."
    elif result.begun() and (changed or (there is None and overwrite)):
        refusal = (
            f"{result.place} holds another, unfinished `{result.verb}`: {listing(changed)}. To go on with it, use what "
            f"it was begun with. {ELSEWHERE}, or set `overwrite` to discard it and begin anew."
        )
    else:
        return
    if not overwrite:
        raise ConfigError(refusal)
    result.discard()


def _finished(result: Result, there: Mapping[str, Any] | None, changed: list[str]) -> str:
    if there is None:
        return f"{result.file} exists."
    if changed:
        return f"{result.file} is the finished result of another `{result.verb}`: {listing(changed)}."
    return f"{result.file} is the finished result of this very `{result.verb}`: nothing is left to do."


def _read(result: Result, overwrite: bool) -> tuple[Mapping[str, Any] | None, bool]:
    """What the result there is made of, and whether it is finished; None where nothing says so."""
    if not result.inputs.exists():
        return None, False
    way_out = "Choose another `out`, or set `overwrite` to begin anew."
    try:
        stored = read_json(result.inputs, way_out)
        require_unchanged(stored, result.inputs, way_out)
        if stored.get("verb") != result.verb and not overwrite:
            raise ConfigError(f"{result.place} holds what `{stored.get('verb')}` has written. {way_out}")
        inputs, finished = stored.get("inputs"), stored.get("finished")
        known = stored.get("format") == FORMAT and stored.get("verb") == result.verb
        if not known or not isinstance(inputs, dict) or not isinstance(finished, bool):
            raise DataError(f"{result.inputs}: does not say what a `{result.verb}` is made of. {way_out}")
    except DataError:
        if overwrite:
            return None, False
        raise
    return inputs, finished
