"""A policy of lerobot behind wamkit's protocol of a policy: a process in lerobot's environment answers every call."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, final

import numpy as np
import torch
from benchmarks.peers.wire import Message, receive, send
from torch import Tensor

from wamkit.contract.requests import Requests
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Budget, Forecast, Observation, Perceived, WindowSpec
from wamkit.controllers import Chunked, Controller
from wamkit.errors import BudgetError, ConfigError, SpecError, WamkitError, did_you_mean

PYTHON = "WAMKIT_LEROBOT_PYTHON"
SERVER = Path(__file__).with_name("lerobot_serve.py")


def lerobot_python() -> str:
    """Interpreter of lerobot's environment; raises :class:`ConfigError` when the variable is not set."""
    python = os.environ.get(PYTHON, "")
    if not Path(python).is_file():
        raise ConfigError(
            f"{PYTHON}={python!r} names no Python of an environment with lerobot; benchmarks/peers/README.md makes one."
        )
    return python


def outside() -> dict[str, str]:
    """Environment of a process in another Python: one thread, no modules of ours, nothing looked up on the hub."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return inherited | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@final
class LeRobotPolicy:
    """Policy of lerobot as the runner sees it; a context that ends the server.

    Args:
        command: starts a server that speaks the messages of `wire.py`, such as :func:`serving` returns.
        name: name in reports.
        specs: conventions of the data that it was trained on.

    Raises:
        WamkitError: the server did not start; the message ends with what it said.
        SpecError: the server's cameras or sizes are not those of ``specs``.
    """

    def __init__(self, command: Sequence[str], name: str, specs: tuple[ObservationSpec, ActionSpec]) -> None:
        self.name = name
        self.observation_spec, self.action_spec = specs
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._said, env=outside())
        self._hello, _ = self._receive()
        self._check_specs()
        offsets = tuple(self._hello["observation"])
        self.window = WindowSpec(observation=offsets, horizon=self._hello["horizon"])
        self.controller: Controller = Chunked(execute=self._hello["execute"])
        self.sensors: Sequence[str] = ()
        self.droppable: Mapping[str, tuple[int, ...]] = {}
        self.requests = Requests()
        self.reads_goal = False

    def __enter__(self) -> LeRobotPolicy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        # A request that the server never read is still buffered; closing would write it.
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._said.close()

    @property
    def instructions(self) -> Mapping[str, int]:
        """Wording -> place of its task."""
        return self._hello["instructions"]

    def require_instructions(self, wordings: Sequence[str]) -> None:
        """Raise :class:`ConfigError` unless it was trained on all these instructions."""
        for wording in wordings:
            if wording not in self.instructions:
                raise ConfigError(
                    f"policy {self.name!r} was not trained on the instruction {wording!r}. "
                    f"{did_you_mean(wording, self.instructions)}"
                )

    def initial_state(self, batch_size: int) -> tuple[()]:
        """No state: the observed window is all that it reads."""
        return ()

    def forecast(
        self, observation: Observation, state: tuple[()], budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, tuple[()]]:
        """One call for B rows; row i draws its noise from ``seeds[i]`` alone, on the server."""
        self.check_budget(budget)
        self.require_instructions(observation.task)
        places = np.array([self.instructions[wording] for wording in observation.task], np.int64)
        arrays = {"task": places, "state": observation.state.numpy().astype(np.float32)}
        arrays |= {camera: observation.view(camera).numpy() for camera in self._hello["cameras"]}
        fields, answer = self._ask({"seeds": [int(seed) for seed in seeds]}, arrays)
        action = torch.from_numpy(answer["action"])
        return Forecast(action, nfe={"action": self._hello["nfe"]}, stage_ms=fields["stage_ms"]), state

    def remember(self, observation: Observation, state: tuple[()]) -> tuple[()]:
        """Nothing is remembered."""
        return state

    def generate(
        self, observation: Observation, state: tuple[()], stream: str, budget: Budget, seeds: Sequence[int]
    ) -> Tensor:
        """Raise: it generates actions alone."""
        raise self._nothing_but_actions(stream)

    def check_given(self, stream: str, followed: bool = False) -> None:
        """Raise: nothing can be given."""
        raise self._nothing_but_actions(stream)

    def decode_future(self, forecast: Forecast) -> None:
        """None: it predicts no future."""

    def perceived(self, stream: str) -> Perceived:
        """Raise: it has no stream of observations."""
        raise self._nothing_but_actions(stream)

    def check_budget(self, budget: Budget) -> None:
        """Raise :class:`BudgetError` for a limit that lerobot's policies do not have."""
        limits = (
            budget.nfe,
            budget.exit,
            budget.candidates,
            budget.iterations,
            budget.rounds,
            budget.attempts,
        )
        if any(limits):
            raise BudgetError(
                f"policy {self.name!r} takes no limits of a call, got {budget}. Its number of denoising steps is "
                f"a setting of the server: num_inference_steps."
            )

    def describe(self) -> dict[str, Any]:
        """What it is, its parameters and the settings in which it differs from lerobot's defaults."""
        kept = ("library", "policy", "settings", "acting", "batch", "seed", "minutes", "steps", "cpu_s")
        return {
            "name": self.name,
            "tuple": {
                "substrate": "None",
                "coupling": "Direct",
                "backbone": "Random initialisation",
                "deployment": self.controller.regime(self.window.horizon),
            },
            "formula": "p(a|c)",
            "is_wam": False,
            "kind": "VLA",
            "controller": "chunked",
            "parameters": {"total": self._hello["parameters"]},
            "horizon": {"predict": self.window.horizon},
            "peer": {name: self._hello[name] for name in kept if name in self._hello},
        }

    def _nothing_but_actions(self, stream: str) -> ConfigError:
        return ConfigError(
            f"policy {self.name!r} generates actions and nothing else; it has no stream {stream!r}."
        )

    def _check_specs(self) -> None:
        known = (self.observation_spec.cameras, self.observation_spec.state, self.action_spec.names)
        cameras, state, action = (self._hello[name] for name in ("cameras", "state", "action"))
        if (set(cameras), state, action) != (set(known[0]), len(known[1]), len(known[2])):
            self.close()
            raise SpecError(
                f"policy {self.name!r} reads the cameras {sorted(cameras)} and {state} columns of state and returns "
                f"{action} of action; the data has {sorted(known[0])}, {known[1]} and {known[2]}. Name the dataset "
                f"that it was trained on."
            )

    def _ask(self, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Message:
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, fields, arrays)
        except BrokenPipeError:
            raise self._ended() from None
        return self._receive()

    def _receive(self) -> Message:
        assert self._process.stdout is not None
        try:
            return receive(self._process.stdout)
        except EOFError:
            raise self._ended() from None

    def _ended(self) -> WamkitError:
        code = self._process.wait()
        self._said.seek(0)
        words = self._said.read().decode(errors="replace")[-2000:]
        return WamkitError(f"the server of policy {self.name!r} ended with code {code}:\n{words}")


def serving(checkpoint: Path, changes: Sequence[str] = ()) -> list[str]:
    """Command that serves a checkpoint of `lerobot_train.py`; ``changes`` are KEY=VALUE of its config."""
    command = [lerobot_python(), str(SERVER), str(checkpoint)]
    return [*command, "--set", *changes] if changes else command
