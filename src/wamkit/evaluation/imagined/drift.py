"""How far a world model strays under actions that were taken, and whether its dreams tell success from failure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.types import Batch, Forecast, Observation
from wamkit.evaluation.imagined.frames import TaskFrames, above
from wamkit.evaluation.imagined.stage import DreamSetup
from wamkit.evaluation.prediction.windows import acting, spread_windows
from wamkit.imagination.dreams import Dream, dream, imagined_observation, step_ticks

PER_EPISODE = 8  # windows of the one-step error, spread over every episode


@dataclass(frozen=True)
class OneStep:
    """One step of the world from frames all over the episodes, against the step that was taken.

    Attributes:
        ticks: control ticks of a step.
        n: frames.
        state: mean distance of the imagined from the true state per entry, in its unit.
        still: that of the state held.
        linear: that of least squares from state and actions, fitted on the first of every two of these episodes and
            measured on the others: what needs no world model.
        sensors: sensor -> mean distance per entry, of those that the world reads.
        psnr: camera -> dB of the imagined picture.
        codec: camera -> dB of the true picture through the world's own codec, which no imagined one should surpass.
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
    """The world model under the actions that were taken, one imagined step further than the row before.

    Attributes:
        ticks: control ticks since the start.
        n: dreams whose episode is that long.
        score: mean probability of "solved" so far, over all dreams.
        state: mean distance of the imagined from the true state per entry, in its unit.
        psnr: camera -> dB of the imagined picture.
        still: camera -> dB of the start picture, held.
    """

    ticks: int
    n: int
    score: float
    state: tuple[float, ...]
    psnr: dict[str, float]
    still: dict[str, float]


@dataclass(frozen=True)
class Telling:
    """Whether a dream under the actions of an episode scores higher where the episode was solved.

    Attributes:
        task: which task, or ``all``.
        solved: episodes that were solved within the horizon.
        failed: episodes that were not solved at all.
        score_solved: mean score of the former, None if there are none; likewise ``score_failed``.
        score_failed: of the latter.
        auc: chance that a solved episode's dream scores above a failed one's; None without both.
    """

    task: str
    solved: int
    failed: int
    score_solved: float | None
    score_failed: float | None
    auc: float | None


def taken(stage: DreamSetup, so_far: Dream) -> Tensor:
    """The actions (B, H, A) that the episodes of a stage took next; the last one held where they end."""
    horizon, at = stage.world.config.horizon, stage.batch.past + so_far.ticks
    chunk = stage.batch.action[:, at : at + horizon]
    return torch.cat((chunk, chunk[:, -1:].expand(-1, horizon - chunk.shape[1], -1)), dim=1)


def drift_rows(stage: DreamSetup, whole: Dream) -> tuple[DriftRow, ...]:
    """A dream under the actions of its own episodes, compared with what then was seen."""
    truth = stage.batch.future
    assert truth is not None
    rows = []
    for k in range(1, whole.steps + 1):
        part, real = whole.until(k), truth.steps([k - 1])
        keep = ~real.pad[:, 0]
        if not keep.any():
            break
        seen = part.observation()
        rows.append(
            DriftRow(
                ticks=part.ticks,
                n=int(keep.sum()),
                score=float(stage.scorer(part).mean()),
                state=distance(seen.state[keep], real.state[keep]),
                psnr={c: decibel(seen.images[c][keep], real.images[c][keep]) for c in real.images},
                still={c: decibel(stage.start.images[c][keep], real.images[c][keep]) for c in real.images},
            )
        )
    return tuple(rows)


def tellings(stage: DreamSetup, whole: Dream, shown: TaskFrames, count: int | None) -> tuple[Telling, ...]:
    """Every dream's score up to the end of its episode, solved against failed; the rows of ``stage`` by task.

    An episode that was solved only after the dream's last step counts as neither.
    """
    ticks = step_ticks(whole.world)
    scores: list[float] = []
    solved: list[bool] = []
    failed: list[bool] = []
    tasks: list[str] = []
    so_far = torch.stack([stage.scorer(whole.until(k)) for k in range(1, whole.steps + 1)])
    for task, episodes in shown.episodes.items():
        for episode in episodes[:count]:
            last = -(-len(episode) // ticks)  # the step at whose end the episode is over
            scores.append(so_far[min(last, whole.steps) - 1, len(scores)].item())
            solved.append(episode.success is True and last <= whole.steps)
            failed.append(episode.success is False)
            tasks.append(task)
    found = np.array(scores), np.array(solved), np.array(failed), np.array(tasks)
    return tuple(_telling(task, *found) for task in ("all", *shown.episodes))


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
        above(torch.from_numpy(yes), torch.from_numpy(no)) if len(yes) and len(no) else None,
    )


def one_step(stage: DreamSetup, shown: TaskFrames) -> OneStep:
    """One step from frames spread over all episodes, whatever their task; see :class:`OneStep`."""
    world, ticks = stage.world, step_ticks(stage.world)
    index, episode = spread_windows(shown.dataset, PER_EPISODE, ticks)
    batch = shown.dataset.windows(index, replace(world.training_window, future=(ticks,)))
    assert batch.future is not None
    keep = ~batch.future.pad[:, 0]
    now, real = acting(world, batch), batch.future
    action = batch.action[:, batch.past : batch.past + world.config.horizon]
    seen = dream(world, lambda _: action, now, 1, seeds=range(len(index))).observation()
    through = _through_codec(stage, now, real, action)
    return OneStep(
        ticks=ticks,
        n=int(keep.sum()),
        state=distance(seen.state[keep], real.state[keep]),
        still=distance(now.state[keep], real.state[keep]),
        linear=_linear(batch, action, keep, torch.from_numpy(episode) % 2 == 0),
        sensors={n: distance(seen.extras[n][keep], real.extras[n][keep]) for n in world.sensors},
        psnr={c: decibel(seen.images[c][keep], real.images[c][keep]) for c in real.images},
        codec={c: decibel(through.images[c][keep], real.images[c][keep]) for c in real.images},
    )


def _through_codec(stage: DreamSetup, now: Observation, real: Observation, action: Tensor) -> Observation:
    """What the world would show if its prediction were perfect."""
    world, config = stage.world, stage.world.config
    values = {name: world.substrates[config.substrate_of(name)].encode(real, now) for name in config.futures}
    return imagined_observation(world, now, Forecast(action, values))


def _linear(batch: Batch, action: Tensor, keep: Tensor, fitted: Tensor) -> tuple[float, ...]:
    assert batch.future is not None
    now, then = batch.observation.state[:, -1].double(), batch.future.state[:, 0].double()
    seen = torch.cat((now, action.flatten(1).double(), torch.ones_like(now[:, :1])), dim=1)
    ridge = 1e-6 * torch.eye(seen.shape[1], dtype=seen.dtype)
    x, y = seen[keep & fitted], (then - now)[keep & fitted]
    weight = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    rest = keep & ~fitted
    return distance((now + seen @ weight)[rest, None], then[rest, None])


def distance(found: Tensor, real: Tensor) -> tuple[float, ...]:
    """Mean absolute difference of (M, 1, ...) per entry."""
    return tuple((found.cpu().double() - real.cpu().double()).abs().mean(dim=(0, 1)).flatten().tolist())


def decibel(found: Tensor, real: Tensor) -> float:
    """Mean PSNR of (M, 1, 3, h, w) uint8 pictures, dB, at most 100 each."""
    error = ((found.cpu().double() - real.cpu().double()) / 255).square().mean(dim=(1, 2, 3, 4))
    return float((-10 * error.clamp(min=1e-10).log10()).mean())
