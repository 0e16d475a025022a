"""How a verb ends when it is stopped from outside: one line that says what is kept and how to go on, and a status.

======  ===============================================================================================
status  meaning
======  ===============================================================================================
0       done
1       ``data check`` found faults
2       refused, or the operating system refused something: bad input, a full disk, no permission
130     stopped by Ctrl-C (SIGINT)
141     nobody reads the output any more (SIGPIPE), as in ``wamkit list | head -1``
143     stopped by SIGTERM, as cluster schedulers send it
======  ===============================================================================================
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console
from typing_extensions import override

from wamkit.errors import DataError, WamkitError
from wamkit.storage.space import system_fault

if TYPE_CHECKING:
    from wamkit.evaluation.report.episode import EpisodeRecord

UNCUT = 10_000  # columns of output that no terminal shows
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SIGNAL_STATUS = 128  # a shell's status of a process that a signal ended is this plus the signal's number
WAYS_OUT = {
    errno.ENOSPC: "Free space on the disk, or choose another place for the output; then run the same command again.",
    errno.EMFILE: "Raise the limit with `ulimit -n`, or use fewer workers.",
    errno.EACCES: "Change the permissions, or choose another place.",
    errno.ENOENT: "Check the path: it was removed while the command ran, or is mistyped.",
    errno.ENAMETOOLONG: "Choose shorter names.",
    errno.ENOMEM: "Use fewer workers or smaller batches.",
    errno.EIO: "Check the disk, or choose another place for the output; then run the same command again.",
}
SAME = {
    errno.EFBIG: errno.ENOSPC,
    errno.EDQUOT: errno.ENOSPC,
    errno.ENFILE: errno.EMFILE,
    errno.EPERM: errno.EACCES,
    errno.EROFS: errno.EACCES,
}


def status_of(name: str, kept: str, run: Callable[[], int | None]) -> int:
    """Run a verb, say in one line why it ended early, and return its exit status.

    An error that is neither bad input nor the operating system's is a fault of wamkit and keeps its traceback.

    Args:
        name: name of the verb.
        kept: what is kept of its work when it is stopped, and how to go on.
        run: the verb; it may return a status of its own.
    """
    try:
        with stoppable(name):
            status = run()
            sys.stdout.flush()  # while it can still be told that this cannot be written
    except WamkitError as error:
        return told(name, str(error), 2)
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, StoppedError) else signal.SIGINT
        return told(name, f"stopped. {kept}", SIGNAL_STATUS + number)
    except BrokenPipeError:
        mute()
        return SIGNAL_STATUS + signal.SIGPIPE
    except Exception as error:
        fault = system_fault(error)
        if fault is not None:
            mute()
            return told(name, describe_fault(fault), 2)
        raise
    return status or 0


def told(name: str, text: str, status: int) -> int:
    """Say on stderr how a verb ended, and return its status whether anybody hears it or not."""
    with suppress(OSError):
        sys.stderr.write(f"{f'wamkit {name}'.strip()}: {text.strip()}\n")
    return status


def require_scored(episodes: Sequence[EpisodeRecord]) -> None:
    """Raise :class:`DataError`, with the first error, if every episode ended in one: nothing was measured."""
    errors = [episode for episode in episodes if episode.status == "error"]
    if errors and len(errors) == len(episodes):
        why = (errors[0].error or "no reason given").strip().splitlines()[-1].rstrip(".")
        raise DataError(
            f"no episode could be scored: all {len(errors)} ended in an error. The first, {errors[0].key}: {why}. "
            f"Mend that, then run the command again with --overwrite."
        )


class Terminal(Console):
    """Console that leaves it to :func:`status_of` what a closed pipe means, and cuts no line for a file or a pipe."""

    def __init__(self) -> None:
        # Names of tasks, designs and files are printed as they are, brackets and colons included.
        narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
        super().__init__(markup=False, emoji=False, width=None if narrow else UNCUT)

    @override
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class StoppedError(KeyboardInterrupt):
    """A signal asked the process to stop.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable(name: str) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into :class:`StoppedError`, so that everything that is open is closed on the way out.

    A second signal does not wait for that: the process ends at once, which loses nothing that the first would keep.
    Outside the main thread, which alone gets signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping:
            os.write(2, f"wamkit {name}: stopped at once.\n".encode())
            os._exit(SIGNAL_STATUS + number)
        stopping.append(number)
        raise StoppedError(number)

    # A shell starts a job in the background with Ctrl-C ignored, because it is meant for the job in front.
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe_fault(fault: OSError) -> str:
    """One line: the file, what the system says of it, and the way out."""
    files = [str(name) for name in (fault.filename, fault.filename2) if name is not None]
    what = fault.strerror or (str(fault).strip().splitlines() or [type(fault).__name__])[0]
    number = 0 if fault.errno is None else fault.errno
    way_out = WAYS_OUT.get(SAME.get(number, number), "Mend that, then run the same command again.")
    return f"{': '.join([*files, what])}. {way_out}"


def mute() -> None:
    """Send what is still unprinted to nowhere: the interpreter would complain about it when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no file, as where a program caught what was printed
        return
    finally:
        os.close(nowhere)
