"""Real returns beside the imagined ones while a policy trains in imagination (`pt.wm-rl`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import torch

from wamkit.contract.streams import row_seed
from wamkit.contract.types import Losses, Observation, to_device
from wamkit.design import Design
from wamkit.errors import DataError
from wamkit.imagination.acting import Imagination, Start
from wamkit.imagination.exploitation import Exploitation, Returns, exploitation
from wamkit.imagination.returns import lambda_returns
from wamkit.storage import write_atomically
from wamkit.training.imagined import ImaginedConfig

REALITY = "reality.jsonl"
# Policy -> its n real returns: of the same starts, over the same time and in the same units as the imagined ones.
Measured = Callable[[Design], Sequence[float]]


@final
class Reality:
    """Hook of :func:`wamkit.training.train` that measures the policy in the world model and in the world.

    The record is ``reality.jsonl`` in the run's folder, one line per measurement with all returns, and with the gap
    between their means. Nothing is learned from it.

    Args:
        out: folder of the run.
        config: settings of the training; reward, value, discount and trace are those of its returns.
        start: n observations that the imagined episodes start from.
        steps: steps of an imagined episode.
        real: measurement in the world.
        every: training steps between measurements; the first step is always measured.
        world: world model; None for the policy's own design.
        seed: seed of the imagined episodes, the same at every measurement.
    """

    def __init__(
        self,
        out: Path,
        config: ImaginedConfig,
        start: Observation,
        steps: int,
        real: Measured,
        *,
        every: int = 100,
        world: Design | None = None,
        seed: int = 0,
    ) -> None:
        self.path, self.config, self.start, self.steps = out / REALITY, config, start, steps
        self.real, self.every, self.world, self.seed = real, every, world, seed

    def __call__(self, step: int, design: Design, losses: Losses) -> None:
        """Measure at the first step and at every ``every``-th."""
        if step % self.every == 0 or not any(line["step"] <= step for line in self.lines()):
            self.record(step, self.measure(design))

    def measure(self, design: Design) -> Returns:
        """Imagined and real returns of a policy."""
        design.eval()
        world = design if self.world is None else self.world
        config, start = self.config, to_device(self.start, design.device)
        imagination = Imagination(design, world, config.objective, config.value, config.fixed)
        rows = start.batch_size
        seeds = [row_seed(self.seed, "reality", i) for i in range(rows)]
        from_here = Start(start, start, world.initial_state(rows))
        made = imagination.roll(from_here, self.steps, seeds=seeds)
        reward, value = torch.stack([s.reward for s in made]), torch.stack([s.value for s in made])
        returns = lambda_returns(reward, value, config.discount**imagination.ticks, config.trace)
        return Returns(tuple(returns[0].tolist()), tuple(float(r) for r in self.real(design)))

    def record(self, step: int, returns: Returns) -> None:
        """Store a measurement; those of later steps, which a resumed run takes again, are dropped."""
        kept = [line for line in self.lines() if line["step"] < step]
        line = {"step": step, "gap": returns.gap, "imagined": returns.imagined, "real": returns.real}
        text = "".join(json.dumps(entry) + "\n" for entry in (*kept, line))
        write_atomically(self.path, text.encode())

    def lines(self) -> list[dict[str, Any]]:
        """Measurements so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def verdict(self) -> Exploitation:
        """Whether the policy exploits the world model: the last measurement against the first."""
        lines = self.lines()
        if len(lines) < 2:
            raise DataError(f"{self.path}: {len(lines)} measurements; a change needs two")
        first, last = (
            Returns(tuple(line["imagined"]), tuple(line["real"])) for line in (lines[0], lines[-1])
        )
        return exploitation(first, last)
