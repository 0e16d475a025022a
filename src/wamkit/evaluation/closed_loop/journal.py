"""Journal of finished episodes, from which a killed evaluation resumes.

A line is a checksum and a JSON object. The first line is the head, which identifies the evaluation. ``session`` (a
start), ``measured`` (times and memory) and ``episode`` lines follow in chronological order, each flushed to disk before
the evaluation continues. A process killed while writing leaves a torn last line, which is dropped. A checksum covers
its line and all lines before it, so that a line that was changed, moved, repeated or taken out is noticed.

The result of an episode does not depend on where the evaluation was interrupted: the seeds of the simulator and of the
policy's noise follow from the episode. Only the batching differs, which changes the last bits of a network's output, as
any other number of slots does.
"""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, final

import draccus
import draccus.utils
import numpy as np

from wamkit.config import config_hash
from wamkit.errors import BusyError, ConfigError, DataError, reason
from wamkit.evaluation.closed_loop.assemble import Finished, SessionCosts
from wamkit.evaluation.closed_loop.episodes import ActionBlock
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.filmstrip import load_strips, save_pictures
from wamkit.storage.fingerprint import differences
from wamkit.storage.provenance import decisive

FORMAT = "wamkit-journal-2"
DIGITS = 16  # of a checksum


@dataclass(frozen=True)
class Head:
    """First line of a journal: the evaluation it belongs to.

    Attributes:
        config: resolved evaluation config, plain values.
        checkpoint: digest of the policy's files, or None for a policy without files.
        policy: name of the policy.
        versions: package versions at the start of the journal.
    """

    config: Mapping[str, Any]
    checkpoint: str | None
    policy: str
    versions: Mapping[str, str]

    def plain(self) -> dict[str, Any]:
        """The first line."""
        return {"format": FORMAT, "config_hash": config_hash(self.config), **dataclasses.asdict(self)}


@final
class Journal:
    """Finished episodes on disk. Made by :func:`open_journal`.

    Attributes:
        finished: key -> episode that an earlier session finished.
        sessions: number of earlier sessions.
        measured: time and memory of the last session that measured them, or None.
        begun_with: package versions in the first session.
        now_with: package versions in this session.
    """

    def __init__(
        self, path: Path, file: IO[bytes], lines: Sequence[Line], versions: Mapping[str, str]
    ) -> None:
        self._path, self._file = path, file
        self._last = lines[-1].checksum if lines else ""
        self.finished: dict[str, Finished] = {}
        self.sessions = sum("session" in line.content for line in lines)
        self.measured: SessionCosts | None = None
        self.now_with = versions
        self.begun_with: Mapping[str, str] = lines[0].content["versions"] if lines else versions
        for line in lines[1:]:
            with _read_as_written(line.place):
                if "episode" in line.content:
                    self._recall(line.content["episode"], line.place)
                elif "measured" in line.content:
                    self.measured = draccus.decode(SessionCosts, line.content["measured"])

    def append(self, episode: Finished) -> None:
        """Store an episode durably, its pictures first; it is on disk when this returns."""
        if episode.strips:
            save_pictures(self._pictures(episode.key), episode.strips)
        self.write(
            {
                "episode": {
                    "key": episode.key,
                    "record": draccus.encode(episode.record),
                    "counts": dict(episode.counts),
                    "blocks": [_pack(block) for block in episode.blocks],
                    "strips": [strip.caption() for strip in episode.strips],
                }
            }
        )

    def measure(self, measured: SessionCosts) -> None:
        """Store the time and memory of this session in place of those stored before."""
        self.write({"measured": draccus.encode(measured)})

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line and wait until the disk has it."""
        text = json.dumps(line, allow_nan=False, ensure_ascii=False)
        self._last = checksum(self._last, text.encode())
        try:
            self._file.write(f"{self._last} {text}\n".encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            error.filename = str(self._path)  # the system names no file when a disk is full
            raise

    def _recall(self, plain: Mapping[str, Any], place: str) -> None:
        record = draccus.decode(EpisodeRecord, plain["record"])
        strips = load_strips(self._pictures(plain["key"]), plain["strips"]) if plain["strips"] else ()
        if plain["key"] in self.finished:
            raise DataError(f"{place}: episode {plain['key']!r} stands there twice. {_way_out(self._path)}")
        blocks = tuple(_unpack(block) for block in plain["blocks"])
        self.finished[plain["key"]] = Finished(plain["key"], record, dict(plain["counts"]), blocks, strips)

    def _pictures(self, key: str) -> Path:
        return self._path.with_suffix(".films") / (key.replace("/", "__") + ".npz")


@contextmanager
def open_journal(path: Path, head: Head) -> Iterator[Journal]:
    """Open the journal at ``path``, or begin it.

    Raises:
        BusyError: another process is writing it.
        ConfigError: it belongs to another config, checkpoint or version.
        DataError: a line other than the last one is broken, or was changed, moved, repeated or taken out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{path}: another process is running this evaluation. Wait for it, or choose another `out`."
            ) from None
        lines = _read(path, file)
        if lines:
            require_same_head(path, lines[0].content, head.plain())
        journal = Journal(path, file, lines, head.versions)
        if not lines:
            journal.write(head.plain())
        journal.write({"session": dict(head.versions)})
        yield journal


def resumption(journal: Journal, planned: int) -> list[str]:
    """Remarks on earlier sessions for the report."""
    if not journal.sessions:
        return []
    notes = [
        f"resumed: {len(journal.finished)} of {planned} episodes were finished by {journal.sessions} earlier "
        f"session{'s' if journal.sessions > 1 else ''}; latency, stages, batched calls, nfe, memory and seconds are "
        f"those of the last session that ran episodes"
    ]
    changed = differences(journal.begun_with, journal.now_with)
    if changed:
        notes.append(
            f"the first session (there) and the last (here) ran other versions: {'; '.join(changed)}"
        )
    return notes


def require_journal_of(path: Path, head: Head) -> None:
    """Raise what :func:`open_journal` would say of the head of a journal at ``path``, and leave the file as it is.

    Raises:
        ConfigError: there is one, of another config or checkpoint.
        DataError: its first line is broken.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        first = file.readline()
    if first.endswith(b"\n"):  # else the process died before it had said what it evaluates
        require_same_head(path, _parse(path, 1, first[:-1], "").content, head.plain())


def discard_journal(path: Path) -> None:
    """Remove a journal and its pictures: its evaluation has become a report."""
    films = path.with_suffix(".films")
    for picture in films.glob("*.npz"):
        picture.unlink()
    if films.is_dir():
        films.rmdir()
    path.unlink(missing_ok=True)


def require_same_head(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` unless a journal's head says that it is this evaluation; names what differs."""
    if there.get("format") != FORMAT:
        raise ConfigError(f"{path}: 'format' is {there.get('format')!r}, not {FORMAT!r}. {_way_out(path)}")
    found = [
        f"{name} {there.get(name)!r} there, {here.get(name)!r} here"
        for name in ("checkpoint", "policy")
        if there.get(name) != here.get(name)
    ]
    found += differences(there.get("config"), here["config"])
    old, new = decisive(there.get("versions") or {}), decisive(here["versions"])
    found += differences({"versions": old}, {"versions": new})
    if found:
        raise ConfigError(
            f"{path} holds another, unfinished evaluation: {'; '.join(found)}. To go on with it, use its config, "
            f"checkpoint and versions. {_way_out(path)}"
        )


def _way_out(path: Path) -> str:
    return f"To begin anew, delete {path} or choose another `out`."


@dataclass(frozen=True)
class Line:
    """A line as it was read: its number and file for messages, its checksum and its content."""

    place: str
    checksum: str
    content: dict[str, Any]


def checksum(before: str, text: bytes) -> str:
    """Checksum of a line and, through that of the line ``before`` it, of all earlier ones."""
    return hashlib.blake2b(before.encode() + text, digest_size=DIGITS // 2).hexdigest()


def _read(path: Path, file: IO[bytes]) -> list[Line]:
    """The whole lines of the file, which is cut after the last of them."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)
    lines: list[Line] = []
    for number, text in enumerate(content[:whole].split(b"\n")[:-1], start=1):
        lines.append(_parse(path, number, text, lines[-1].checksum if lines else ""))
        if lines[0].content.get("format") != FORMAT:
            break  # another version's lines are not read
    return lines


def _parse(path: Path, number: int, text: bytes, before: str) -> Line:
    place, (written, _, plain) = f"{path}, line {number}", text.partition(b" ")
    if number == 1 and text.startswith(b"{"):  # of version 1, which had no checksums
        written, plain = checksum("", text).encode(), text
    if written.decode("ascii", "replace") != checksum(before, plain):
        raise DataError(
            f"{place}: the line is not as it was written, or it or a line before it was moved, repeated or taken out. "
            f"{_way_out(path)}"
        )
    with _read_as_written(place):
        content = json.loads(plain)
    if not isinstance(content, dict):
        raise DataError(f"{place}: expected an object, found {content!r}. {_way_out(path)}")
    return Line(place, written.decode(), content)


@contextmanager
def _read_as_written(place: str) -> Iterator[None]:
    """Name the line where its content does not have the form that this version writes."""
    try:
        yield
    except (draccus.utils.ParsingError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{place}: {reason(error)}. Delete the journal, or choose another `out`.") from error


def _pack(block: ActionBlock) -> dict[str, Any]:
    """Actions as text, bit for bit."""
    actions = np.ascontiguousarray(block.actions, np.float32)
    text = base64.b64encode(actions.tobytes()).decode()
    return {"actions": text, "shape": list(actions.shape), "look": list(block.look)}


def _unpack(plain: Mapping[str, Any]) -> ActionBlock:
    values = np.frombuffer(base64.b64decode(plain["actions"]), np.float32)
    return ActionBlock(values.reshape(plain["shape"]), tuple(plain["look"]))
