"""How a verb ends when it is stopped or the system refuses something: one line, a status, no traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from reports import small_report
from safetensors import SafetensorError

from wamkit.cli import VERBS, main
from wamkit.errors import DataError
from wamkit.storage.space import system_fault
from wamkit.verbs.ending import describe_fault, require_scored, status_of

RUN = "import sys; from wamkit.cli import main; sys.exit(main())"
WAIT = (
    "import signal, sys, time\nfrom wamkit.verbs.ending import status_of\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background inherits that it is ignored
    "def run():\n"
    "    try: print('begun', flush=True); time.sleep(60)\n"
    "    finally: print('closed', flush=True); time.sleep(float(sys.argv[1]))\n"
    "sys.exit(status_of('train', 'The last checkpoint is kept.', run))"
)


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_verb_with_one_line(number: signal.Signals, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    printed, said = process.communicate(timeout=30)
    assert (process.returncode, printed) == (status, "closed\n")
    assert said == "wamkit train: stopped. The last checkpoint is kept.\n"


def test_a_second_signal_does_not_wait() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT, "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "closed\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143
    assert process.stderr is not None
    assert process.stderr.read() == "wamkit train: stopped at once.\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "run/log"), "run/log: No space left on device. Free"),
        (OSError(errno.EFBIG, "File too large"), "File too large. Free space on the disk"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied. Change the permissions"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only file system. Change the permissions"),
        (OSError(errno.EMFILE, "Too many open files"), r"Too many open files. Raise the limit with `ulimit -n`"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a", None, "b"), "a: b: No such file"),
        (OSError("nothing more"), "nothing more. Mend that"),
        (OSError(), "OSError. Mend that"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "No space left"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos"), "a file could not be written"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_one_line(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("train", "", raising(error)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"wamkit train: {said}")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ValueError("ours"), SafetensorError("InvalidHeader"), RuntimeError("shape")]
)
def test_a_fault_of_our_own_keeps_its_traceback(error: Exception) -> None:
    assert system_fault(error) is None
    with pytest.raises(type(error), match=str(error)):
        status_of("train", "", raising(error))


def test_handlers_of_signals_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert status_of("list", "", raising(DataError("no"))) == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_every_verb_that_writes_says_what_is_kept() -> None:
    for name in ("train", "evaluate", "sweep"):
        assert "the same command goes on" in VERBS[name].kept
    assert all(verb.kept.endswith(".") for verb in VERBS.values())


@pytest.mark.whole
@pytest.mark.parametrize("verb", ["list", "list denoiser", "inspect direct --json", "--help", "train --help"])
def test_nobody_reads_or_the_disk_is_full(verb: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", RUN, *verb.split()]
    reader, writer = os.pipe()
    os.close(reader)
    closed = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (closed.returncode, without_progress(closed.stderr)) == (141, "")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "No space left on device. Free space" in done.stderr
    assert without_progress(done.stderr).count("\n") == 1


def without_progress(said: str) -> str:
    """What a verb says besides its progress."""
    return "".join(line for line in said.splitlines(True) if not line.startswith("[0:"))


def test_an_evaluation_that_scored_nothing_says_why() -> None:
    good = small_report().episodes
    require_scored(good)
    broken = tuple(
        type(e)(**{**vars(e), "status": "error", "error": "Traceback\nConfigError: no ticks."}) for e in good
    )
    require_scored((*broken, good[0]))
    with pytest.raises(
        DataError, match=rf"all {len(broken)} ended in an error\. The first, .*: ConfigError: no ticks\. "
    ):
        require_scored(broken)


def test_an_unknown_verb_and_bad_input_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.startswith("wamkit trian: no verb 'trian'")
    assert describe_fault(OSError(errno.EIO, "Input/output error")).count(". ") == 1
