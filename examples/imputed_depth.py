"""How good is depth imputed from colour? Order and error on MetaWorld episodes that it was not fitted on.

Collects demonstrations with depth, fits the ``depth`` encoder's imputer once per seed and camera, and once more for
every task without that task. Prints what docs/ground_truth.md reports; takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from wamkit.api import CollectConfig, collect
from wamkit.contract.types import Batch, WindowSpec
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.encoders import DepthConfig, DepthEncoder
from wamkit.encoders.imputed_depth import NEAR_M

TASKS = ("reach-v3", "push-v3", "pick-place-v3", "drawer-open-v3", "button-press-topdown-v3", "door-open-v3")
FRAMES, PAIRS, DRAWS = 25, 200, 2000  # frames per episode, pairs of points per frame, draws of the bootstrap
APART = 1.02  # pairs whose depths differ by less than this factor have no order worth keeping


class Part:
    """Some frames of a dataset."""

    def __init__(self, data: Dataset, frames: np.ndarray) -> None:
        self.data, self.frames = data, frames
        self.num_frames = len(frames)

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        """See :class:`wamkit.contract.protocols.Windows`."""
        return self.data.windows(self.frames[index], spec)


def options() -> argparse.Namespace:
    """What to run; the defaults are what the page reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/imputed_depth"))
    parser.add_argument("--demonstrations", type=int, default=10, help="per task, fitted on")
    parser.add_argument("--held-out", type=int, default=4, help="per task, measured on")
    parser.add_argument("--workers", type=int, default=2, help="simulator processes")
    parser.add_argument("--fits", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the first fit")
    return parser.parse_args()


def demonstrations(chosen: argparse.Namespace) -> tuple[Path, Path]:
    """Folders of the episodes to fit on and of those held out; no seed is in both."""
    folders = chosen.out / "train", chosen.out / "held"
    for folder, count, seed in zip(folders, (chosen.demonstrations, chosen.held_out), (0, 1), strict=True):
        if not folder.exists():
            record = ("depth", "camera")
            collect(CollectConfig(folder, TASKS, count, seed, chosen.workers, record=record))
    return folders


def fit(camera: str, data: Dataset, frames: np.ndarray, seed: int) -> DepthEncoder:
    """An encoder whose imputer was fitted on these frames."""
    torch.manual_seed(seed)
    encoder = DepthConfig(camera=camera, impute=True).build(data_spec(data), WindowSpec(), 32)
    encoder.fit(Part(data, frames), seed)
    return encoder


def score(guess: Tensor, truth: Tensor, episode: np.ndarray) -> str:
    """Share of pairs in order and mean relative error, with 95 % intervals over episodes; depths (M, points)."""
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randint(truth.shape[1], (len(truth), PAIRS), generator=generator) for _ in range(2))
    ratio = truth.gather(1, one) / truth.gather(1, two)
    apart = (ratio > APART) | (ratio < 1 / APART)
    right = apart & ((guess.gather(1, one) < guess.gather(1, two)) == (ratio < 1))
    error = ((guess - truth).abs() / truth).mean(dim=1)
    sums = [np.bincount(episode, v.numpy()) for v in (right.sum(1), apart.sum(1), error)]
    kept, pairs, errors = sums[0], sums[1], sums[2] / np.bincount(episode)
    drawn = np.random.default_rng(0).integers(len(pairs), size=(DRAWS, len(pairs)))
    order = np.quantile(kept[drawn].sum(1) / pairs[drawn].sum(1), (0.025, 0.975))
    wrong = np.quantile(errors[drawn].mean(1), (0.025, 0.975))
    return (
        f"order {kept.sum() / pairs.sum():.1%} ({order[0]:.1%} to {order[1]:.1%}, {pairs.sum():.0f} pairs), "
        f"relative error {errors.mean():.1%} ({wrong[0]:.1%} to {wrong[1]:.1%})"
    )


def measure(encoder: DepthEncoder, data: Dataset, episodes: Sequence[int]) -> tuple[str, str]:
    """Scores of the imputer, and of the mean map of the frames that it was fitted on."""
    assert encoder.imputer is not None
    spans = [data.episodes[i] for i in episodes]
    rows = np.concatenate([np.linspace(s.start, s.stop - 1, FRAMES).round().astype(int) for s in spans])
    seen = data.windows(rows, WindowSpec(horizon=1)).observation
    far_m = encoder.config.far_m
    truth = encoder.measured(seen)[:, 0].clamp(NEAR_M, far_m).flatten(1)
    usual = (-encoder.imputer.usual).exp().clamp(NEAR_M, far_m).flatten().expand_as(truth)
    owner = np.repeat(np.arange(len(spans)), FRAMES)
    guess = encoder.imputed(seen)[:, 0].flatten(1)
    return score(guess, truth, owner), score(usual, truth, owner)


def main() -> None:
    """Collect, fit, measure, print."""
    chosen, console = options(), Console(width=150)
    folders = demonstrations(chosen)
    for camera in ("scene", "gripper"):
        train, held = (Dataset(f, extras=(f"depth.{camera}", f"camera.{camera}")) for f in folders)
        whole = np.arange(train.num_frames)
        for seed in range(chosen.seed, chosen.seed + chosen.fits):
            imputed, usual = measure(fit(camera, train, whole, seed), held, range(len(held.episodes)))
            console.print(f"{camera}, fit {seed}: {imputed}\n  mean map: {usual}")
    train, held = (Dataset(f, extras=("depth.scene", "camera.scene")) for f in folders)
    for k, task in enumerate(TASKS):  # episodes lie task by task
        others = [e for i, e in enumerate(train.episodes) if i // chosen.demonstrations != k]
        frames = np.concatenate([np.arange(e.start, e.stop) for e in others])
        mine = range(k * chosen.held_out, (k + 1) * chosen.held_out)
        imputed, usual = measure(fit("scene", train, frames, chosen.seed), held, mine)
        console.print(f"scene, fitted without {task}: {imputed}\n  mean map: {usual}")


if __name__ == "__main__":
    main()
