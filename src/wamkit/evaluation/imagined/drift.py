"""Drift of a world model under recorded actions, and how well its dreams separate success from failure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.streams import row_seed
from wamkit.contract.types import Forecast, Observation
from wamkit.evaluation.imagined.frames import TaskFrames, roc_auc
from wamkit.evaluation.imagined.stage import DreamSetup, Executed
from wamkit.evaluation.prediction.windows import future_of, spread_windows
from wamkit.evaluation.report.fidelity import mean_psnr
from wamkit.imagination.dreams import Dream, dream, imagined_observation, step_ticks

PER_EPISODE = 8  # windows per episode for the one-step error, spread evenly


@dataclass(frozen=True)
class OneStep:
    """One-step error of a world model from frames spread over all episodes.

    Attributes:
        ticks: control ticks per step.
        n: number of frames.
        state: mean absolute error of the imagined state per entry, in its unit.
        still: mean absolute error per entry if the state is held.
        linear: mean absolute error per entry of a least-squares model of state and actions, fitted on every other one
            of these episodes and measured on the rest; a baseline without a world model.
        sensors: mean absolute error per entry of every sensor that the world reads.
        psnr: PSNR of the imagined picture of every camera, dB.
        codec: PSNR of the true picture of every camera after the world's own codec, dB; an upper bound on ``psnr``.
    """

    ticks: int
    n: int
    state: tuple[float, ...]
    still: tuple[float, ...]
    linear: tuple[float, ...]
    sensors: dict[str, tuple[float, ...]]
    psnr: dict[str, float]
    codec: dict[str, float]


@dataclass(frozen=True)
class DriftRow:
    """Error of a world model under recorded actions after a number of imagined steps.

    Attributes:
        ticks: control ticks since the start.
        n: number of dreams whose episode is that long.
        score: mean score so far, over all dreams.
        state: mean absolute error of the imagined state per entry, in its unit.
        psnr: PSNR of the imagined picture of every camera, dB.
        still: PSNR of the start picture of every camera, held, dB.
    """

    ticks: int
    n: int
    score: float
    state: tuple[float, ...]
    psnr: dict[str, float]
    still: dict[str, float]


@dataclass(frozen=True)
class Telling:
    """Separation of solved from failed episodes by the scores of dreams under their recorded actions.

    Attributes:
        task: task name, or ``all``.
        solved: number of episodes solved within the horizon.
        failed: number of episodes that were never solved.
        score_solved: mean score of the solved episodes, or None if there are none.
        score_failed: mean score of the failed episodes, or None if there are none.
        auc: ROC AUC, the chance that a solved episode's dream scores above a failed one's; None without both kinds.
    """

    task: str
    solved: int
    failed: int
    score_solved: float | None
    score_failed: float | None
    auc: float | None


def drift_rows(setup: DreamSetup, executed: Executed, whole: Dream) -> tuple[DriftRow, ...]:
    """Compare a dream under the executed actions, step by step, with the recorded observations."""
    rows = []
    for k in range(1, whole.steps + 1):
        part, real = whole.until(k), executed.future.steps([k - 1])
        keep = ~real.pad[:, 0]
        if not keep.any():
            break
        imagined = part.observation()
        rows.append(
            DriftRow(
                ticks=part.ticks,
                n=int(keep.sum()),
                score=float(setup.scorer(part).mean()),
                state=distance(imagined.state[keep], real.state[keep]),
                psnr={c: mean_psnr(imagined.images[c][keep], real.images[c][keep]) for c in real.images},
                still={c: mean_psnr(setup.start.images[c][keep], real.images[c][keep]) for c in real.images},
            )
        )
    return tuple(rows)


def tellings(setup: DreamSetup, whole: Dream, shown: TaskFrames, count: int | None) -> tuple[Telling, ...]:
    """Compare the scores of solved and failed episodes, over all tasks and per task.

    A dream is scored up to the end of its episode. An episode solved only after the dream's last step counts as
    neither solved nor failed.

    Args:
        setup: setup of the dream.
        whole: dream under the executed actions.
        shown: episodes by task that the setup started from.
        count: largest number of episodes per task, as in the setup.
    """
    ticks = step_ticks(whole.world)
    scores: list[float] = []
    solved: list[bool] = []
    failed: list[bool] = []
    tasks: list[str] = []
    so_far = torch.stack([setup.scorer(whole.until(k)) for k in range(1, whole.steps + 1)])
    for task, episodes in shown.episodes.items():
        for episode in episodes[:count]:
            last = -(-len(episode) // ticks)  # first step that ends no earlier than the episode
            scores.append(so_far[min(last, whole.steps) - 1, len(scores)].item())
            solved.append(episode.success is True and last <= whole.steps)
            failed.append(episode.success is False)
            tasks.append(task)
    columns = np.array(scores), np.array(solved), np.array(failed), np.array(tasks)
    return tuple(_telling(task, *columns) for task in ("all", *shown.episodes))


def _telling(
    task: str, scores: np.ndarray, solved: np.ndarray, failed: np.ndarray, tasks: np.ndarray
) -> Telling:
    of_task = (tasks == task) | (task == "all")
    yes, no = scores[solved & of_task], scores[failed & of_task]
    return Telling(
        task,
        len(yes),
        len(no),
        float(yes.mean()) if len(yes) else None,
        float(no.mean()) if len(no) else None,
        roc_auc(yes, no) if len(yes) and len(no) else None,
    )


def one_step(setup: DreamSetup, shown: TaskFrames) -> OneStep:
    """Measure one imagined step from frames spread over all episodes of a dataset, of any task."""
    world, ticks = setup.world, step_ticks(setup.world)
    index, episode = spread_windows(shown.dataset, PER_EPISODE, ticks, acted=True)
    batch = shown.dataset.windows(index, replace(world.training_window, future=(ticks,)))
    now, real = batch.acting(world.window), future_of(batch)
    keep = ~real.pad[:, 0]
    action = batch.action[:, batch.past : batch.past + world.config.horizon]
    seeds = [row_seed(setup.plan.seed, "one step", int(frame)) for frame in index]
    imagined = dream(world, lambda _: action, now, 1, seeds=seeds).observation()
    through = _through_codec(setup, now, real, action)
    return OneStep(
        ticks=ticks,
        n=int(keep.sum()),
        state=distance(imagined.state[keep], real.state[keep]),
        still=distance(now.state[keep], real.state[keep]),
        linear=_linear(now, real, action, keep, torch.from_numpy(episode) % 2 == 0),
        sensors={n: distance(imagined.extras[n][keep], real.extras[n][keep]) for n in world.sensors},
        psnr={c: mean_psnr(imagined.images[c][keep], real.images[c][keep]) for c in real.images},
        codec={c: mean_psnr(through.images[c][keep], real.images[c][keep]) for c in real.images},
    )


def _through_codec(setup: DreamSetup, now: Observation, real: Observation, action: Tensor) -> Observation:
    """Observation that the world would show if its prediction were perfect."""
    world = setup.world
    values = {name: world.substrate(name).encode(real, now) for name in world.config.futures}
    return imagined_observation(world, now, Forecast(action, values))


def _linear(
    now: Observation, real: Observation, action: Tensor, keep: Tensor, fitted: Tensor
) -> tuple[float, ...]:
    """Error of a ridge regression of the state's change on state and actions, on the windows not ``fitted``."""
    before, after = now.state[:, -1].double(), real.state[:, 0].double()
    inputs = torch.cat((before, action.flatten(1).double(), torch.ones_like(before[:, :1])), dim=1)
    ridge = 1e-6 * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    x, y = inputs[keep & fitted], (after - before)[keep & fitted]
    weight = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    rest = keep & ~fitted
    return distance((before + inputs @ weight)[rest, None], after[rest, None])


def distance(imagined: Tensor, real: Tensor) -> tuple[float, ...]:
    """Mean absolute difference of (M, 1, ...) per entry."""
    return tuple((imagined.cpu().double() - real.cpu().double()).abs().mean(dim=(0, 1)).flatten().tolist())
