"""Worker process that runs functions on request, one at a time, and keeps its environments in between.

The child is a fresh interpreter, not a fork: it does not inherit thread or GL state, ``MUJOCO_GL`` and the thread
counts are set before anything is imported, and the parent's main module is not run again. When the parent dies, the
pipe closes and the child exits.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any

from wamkit.contract.specs import require_same
from wamkit.envs.base import EnvConfig, SimulatedEnv
from wamkit.errors import SpecError, WamkitError

LAST_WORDS = 4000  # bytes of a dead worker's output quoted in the error
FREE_ENVIRONMENTS = 8  # idle environments a worker keeps; a MetaWorld one takes about 65 MB
_BOOT = "import sys; from wamkit.envs.worker import main; main(int(sys.argv[1]))"


class WorkerState:
    """Environments that a worker keeps between requests: those in use (by slot) and idle ones (by config)."""

    def __init__(self) -> None:
        self.slots: dict[int, tuple[EnvConfig, SimulatedEnv]] = {}
        self._idle: deque[tuple[EnvConfig, SimulatedEnv]] = deque()

    def take(self, config: EnvConfig) -> SimulatedEnv:
        """Take an idle environment for ``config``, or build a new one."""
        for entry in self._idle:
            if entry[0] == config:
                self._idle.remove(entry)
                return entry[1]
        env = config.build()
        require_declared(config, env)
        return env

    def give(self, config: EnvConfig, env: SimulatedEnv) -> None:
        """Keep ``env`` for later use; the longest idle environment is closed when there are too many."""
        self._idle.append((config, env))
        if len(self._idle) > FREE_ENVIRONMENTS:
            self._idle.popleft()[1].close()

    def assign(self, slot: int, config: EnvConfig) -> SimulatedEnv:
        """Put an environment for ``config`` into ``slot``."""
        if slot in self.slots:
            current, env = self.slots[slot]
            if current == config:
                return env
            del self.slots[slot]
            self.give(current, env)
        env = self.take(config)
        self.slots[slot] = (config, env)
        return env

    def discard(self, slot: int) -> None:
        """Close the environment of ``slot`` because its state is unknown."""
        if slot in self.slots:
            self.slots.pop(slot)[1].close()


def require_declared(config: EnvConfig, env: Any) -> None:
    """Raise :class:`SpecError` unless an environment has the specs that its config declares without building it."""
    kind, name = type(config).__name__, type(env).__name__
    if not isinstance(env, SimulatedEnv):
        raise SpecError(f"{kind}.build() returned a {name}; return a subclass of `wamkit.envs.SimulatedEnv`.")
    require_same(env.observation_spec, config.observation_spec(), f"environment {name}", f"its {kind}")
    require_same(env.action_spec, config.action_spec(), f"environment {name}", f"its {kind}")
    if env.extras_spec != config.extras_spec():
        raise SpecError(
            f"environment {name} records the extras {env.extras_spec}, its {kind} declares {config.extras_spec()}. "
            f"Pass `config.extras_spec()` to the environment."
        )


def words(error: Exception) -> str:
    """An error of ours in its own words, another one with its traceback. Call it in the handler of ``error``."""
    return f"{type(error).__name__}: {error}" if isinstance(error, WamkitError) else traceback.format_exc()


@dataclass(frozen=True)
class Answer:
    """Answer to one request.

    Attributes:
        key: key of the request.
        value: return value, None after an exception.
        error: message of an error of ours, traceback of any other exception, or None.
    """

    key: int
    value: Any
    error: str | None


class WorkerLostError(WamkitError):
    """A worker process died or did not answer in time, as its message says."""


class Worker:
    """The parent's handle on one child process.

    Args:
        name: name of the worker in messages.
        timeout_s: time limit of one request, seconds.
    """

    def __init__(self, name: str, timeout_s: float) -> None:
        self.name = name
        self.pending: deque[int] = deque()
        self._timeout_s = timeout_s
        self._since = time.monotonic()
        parent_end, child_end = Pipe()
        paths = [p for p in sys.path if p]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "MUJOCO_GL": os.environ.get("MUJOCO_GL", "osmesa"),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        # A file, because a pipe that nobody reads would fill up and block the child.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(child_end.fileno())],
            env=environment,
            pass_fds=[child_end.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=self._stderr,
        )
        child_end.close()
        self.connection: Connection[Any, Any] = parent_end

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def deadline(self) -> float:
        """Monotonic time at which the next answer is due; infinity without a pending request."""
        return self._since + self._timeout_s if self.pending else float("inf")

    def submit(self, key: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Request ``function(session, *arguments)``. Requests are answered in order.

        Raises:
            WorkerLostError: the child has died.
        """
        if not self.pending:
            self._since = time.monotonic()
        message = (key, pickle.dumps((function, arguments)))
        try:
            self.connection.send(message)
        except OSError as error:
            raise WorkerLostError(f"{self.name} {self._epitaph()}") from error
        self.pending.append(key)

    def receive(self) -> Answer:
        """Read the next answer from the pipe.

        Raises:
            WorkerLostError: the child has died.
        """
        try:
            answer: Answer = self.connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerLostError(f"{self.name} {self._epitaph()}") from error
        self._since = time.monotonic()
        self.pending.popleft()
        return answer

    def require_in_time(self) -> None:
        """Raise :class:`WorkerLostError` when the next answer is overdue."""
        if time.monotonic() > self.deadline and not self.connection.poll():
            raise WorkerLostError(
                f"{self.name} (pid {self.pid}) did not answer within {self._timeout_s:g} s and was killed."
                f"{self._last_words()}"
            )

    def stop(self) -> None:
        """Kill the child. Safe to call twice."""
        self.connection.close()
        self._process.kill()
        self._process.wait()
        self._stderr.close()

    def _epitaph(self) -> str:
        try:
            code = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return f"(pid {self.pid}) closed its pipe but is still running."
        ending = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"(pid {self.pid}) {ending}.{self._last_words()}"

    def _last_words(self) -> str:
        """Tail of the child's stderr: the traceback of an exception or of a crash in native code."""
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - LAST_WORDS))
        text = self._stderr.read().decode(errors="replace").strip()
        return f" Its last words:\n{text}\n" if text else ""


def main(descriptor: int) -> None:
    """Run the child: answer requests until the pipe closes."""
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the parent closes the pipe
        signal.signal(number, signal.SIG_IGN)
    connection: Connection[Any, Any] = Connection(descriptor)
    session = WorkerState()
    while True:
        try:
            key, payload = connection.recv()
            connection.send(_serve(session, key, payload))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _serve(session: WorkerState, key: int, payload: bytes) -> Answer:
    try:
        function, arguments = pickle.loads(payload)
        return Answer(key, function(session, *arguments), None)
    except Exception as error:  # noqa: BLE001 (process boundary: every exception is reported, none is swallowed)
        return Answer(key, None, words(error))
