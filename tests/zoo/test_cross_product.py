"""Every substrate x estimator x coupling: compatible and works, or refused with a reason; deployments drawn by lot.

Compatible means: trains two steps on recorded frames, acts in the closed loop under its controllers, is saved,
reloaded and acts identically. Nothing here knows which combination is which: parts come from tables, and a table
that misses a registered part fails. Every cell acts under a few controllers drawn by lot. `make crossing` tries all
cells and checks that every part has met every controller; `make test` tries as few as let every two parts of different
kinds meet, and every third of the estimators with factors of their own.
"""

from __future__ import annotations

import itertools
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from zoo_recordings import opened

from wamkit import estimators as e
from wamkit import substrates as s
from wamkit.actions import BinsConfig, ChunkConfig
from wamkit.contract.protocols import EncoderConfig, EstimatorConfig, SubstrateConfig
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Budget, WindowSpec
from wamkit.controllers import Controller
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design, DesignConfig, Factor, from_pretrained, save_pretrained
from wamkit.encoders import ImagesConfig, InstructionConfig, StateConfig
from wamkit.envs import Step
from wamkit.errors import WamkitError
from wamkit.evaluation.closed_loop.episodes import PlannedEpisode
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.pilot import PolicyPilot
from wamkit.training import OptimConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo.cells import COUPLINGS, Cell

pytestmark = pytest.mark.sim
TICKS = 9
SUBSTRATES: dict[str, SubstrateConfig] = {
    **{name: SubstrateConfig.get_choice_class(name)() for name in SubstrateConfig.get_known_choices()},
    "pixel_latent": s.PixelLatentConfig(s.PatchPCAConfig(patch=16, features=4)),
    "teacher_feature": s.TeacherFeatureConfig(features=4, grid=2, steps=2, batch_size=8),
    "rgbd": s.RGBDConfig(codec=s.PatchPCAConfig(patch=16, features=4)),
    "pixels": s.PixelsConfig(shrink=4, patch=8),
}
SUBSTRATES = {
    name: part for name, part in SUBSTRATES.items() if name != "quantized"
}  # a representation of each
# Estimators that prescribe their own factors stand in cells of their own, crossed with every substrate below.
STRUCTURED: dict[str, tuple[Factor, ...]] = {
    "state_space": (
        Factor(("latent",), (), "world"),
        Factor(("action",), ("latent",), "policy"),
        Factor(("future",), ("latent", "action"), "world"),
    ),
    "latent_action": (
        Factor(("latent",), (), "world"),
        Factor(("future",), ("latent",), "world"),
        Factor(("action",), ("latent",), "policy"),
    ),
    "inverse_dynamics": (Factor(("future",), (), "policy"), Factor(("action",), ("future",), "world")),
    "jacobian_dynamics": (Factor(("future",), (), "policy"), Factor(("action",), ("future",), "world")),
    "fast_weights": (Factor(("latent",), (), "world"), Factor(("future", "action"), ("latent",), "policy")),
    "motion_recovery": (Factor(("future",), (), "policy"), Factor(("action",), ("future",), "world")),
    "staged": (Factor(("future", "action"), (), "world"),),
    "gated": (Factor(("future",), (), "policy"), Factor(("action",), ("future",), "world")),
    "summary": (Factor(("latent",), (), "world"), Factor(("future", "action"), ("latent",), "policy")),
    "feature_tap": (Factor(("future", "tap"), (), "world"), Factor(("action",), ("tap",), "policy")),
}
# What an estimator has to be told of the future stream that it reads.
TOLD: dict[str, Callable[[StreamSpec], dict[str, Any]]] = {
    "fast_weights": lambda future: {"shape": (future.tokens, future.features)},
    "staged": lambda future: {
        "parts": {
            "first": e.RegressorConfig() if future.vocabulary is None else e.AutoregressorConfig(),
            "then": e.DenoiserConfig(steps=2),
        },
        "streams": {"first": ("future",), "then": ("action",)},
    },
    "gated": lambda future: {"experts": {"near": e.RegressorConfig(), "far": e.RegressorConfig()}},
}
ESTIMATORS: dict[str, EstimatorConfig] = {
    **{
        name: EstimatorConfig.get_choice_class(name)()
        for name in sorted(set(EstimatorConfig.get_known_choices()) - set(STRUCTURED))
    },
    "denoiser": e.DenoiserConfig(steps=2),
    "unmasker": e.UnmaskerConfig(steps=2),
    "continuous_autoregressor": e.ContinuousAutoregressorConfig(steps=2, draws=1),
    "next_scale": e.NextScaleConfig(steps=2, draws=1),
    "next_scale of ids": e.NextScaleConfig(steps=2, draws=1),
    "paced": e.PacedConfig(inner=e.DenoiserConfig(), counts=(1, 2)),
}
CONTROLLERS: dict[str, Controller] = {
    name: Controller.get_choice_class(name)()
    for name in Controller.get_known_choices()
    if name != "interactive"
} | {"interactive": Controller.get_choice_class("interactive")(inputs={3: "push the button"})}
DISCRETE_ESTIMATORS = {"autoregressor", "unmasker"}
SCALES = {
    "autoregressor": 1,
    "unmasker": 1,
    "next_scale of ids": 3,
}  # futures of token ids, and in how many scales
DRAWN = 2  # controllers per cell
WHOLE = "WAMKIT_WHOLE"  # environment variable with which all cells are tried, as `make crossing` does


@dataclass
class Recorded:
    """Simulators that show the frames of one recorded episode, whatever is done."""

    frames: Sequence[Mapping[str, Any]]
    at: int = 0
    answer: Step | None = None

    def reset_async(
        self,
        slot: int,
        seed: int,
        instruction: str | None = None,
        config: Any = None,
        perturbation: Any = None,
    ) -> None:
        self.at, self.answer = 0, Step((dict(self.frames[0]),), (0,))

    def step_async(self, slot: int, actions: np.ndarray, look: tuple[int, ...]) -> None:
        ticks = tuple(self.at + p for p in look)
        self.at += len(actions)
        self.answer = Step(tuple(dict(self.frames[t]) for t in ticks), ticks, len(actions))

    def wait(self, slots: Sequence[int]) -> dict[int, Step]:
        assert self.answer is not None
        return dict.fromkeys(slots, self.answer)

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture(scope="module")
def data(folder: Path) -> Dataset:
    """Two short recordings with all ground truth."""
    return opened("benchmark", folder)


def frames_of(data: Dataset) -> list[dict[str, Any]]:
    """The first episode as a simulator would show it."""
    seen = data.windows(np.arange(TICKS + 1), WindowSpec()).observation
    return [
        {
            "images": {c: v[t, 0].permute(1, 2, 0).numpy() for c, v in seen.images.items()},
            "state": seen.state[t, 0].numpy(),
            "task": seen.task[t],
            "extras": {name: v[t, 0].numpy() for name, v in seen.extras.items()},
        }
        for t in range(TICKS + 1)
    ]


def encoders() -> dict[str, EncoderConfig]:
    return {
        "images": ImagesConfig(channels=(8, 8), features=4, tokens=1, shift=0),
        "state": StateConfig(),
        "instruction": InstructionConfig(hidden=8),
    }


def future_spec(substrate: str, data: Dataset) -> StreamSpec:
    """What a substrate says of a stream of one step when it has met the encoders."""
    spec, part = data_spec(data), SUBSTRATES[substrate].build(data_spec(data))
    part.bind({name: part.build(spec, WindowSpec(), 16) for name, part in encoders().items()}, spec)
    return part.spec("future", "future", 1)


def cell(substrate: str, estimator: str, coupling: str, data: Dataset) -> DesignConfig:
    """A tiny cell. An estimator of token ids gets them: actions in bins, values of the substrate quantised."""
    discrete, place = estimator in DISCRETE_ESTIMATORS, SUBSTRATES[substrate]
    if estimator in SCALES and future_spec(substrate, data).vocabulary is None:
        place = s.QuantizedConfig(place, 4, SCALES[estimator])
    config = Cell(
        substrate=place,
        coupling=coupling,
        estimator=ESTIMATORS[estimator],
        action=BinsConfig(bins=16, ticks_per_token=4) if discrete else ChunkConfig(ticks_per_token=4),
        trunk=TransformerConfig(width=16, depth=1, heads=2),
        encoders=encoders(),
        horizon=8,
        stride=8,
    ).design()
    return replace(config, width=16)


def structured(substrate: str, estimator: str, data: Dataset) -> DesignConfig:
    """A cell with the factors that ``estimator`` prescribes; another one models the factors it does not."""
    base = cell(substrate, "regressor", "post_head", data)
    factors = STRUCTURED[estimator]
    made = {name for factor in factors for name in factor.generates}
    told = TOLD[estimator](future_spec(substrate, data)) if estimator in TOLD else {}
    part = EstimatorConfig.get_choice_class(estimator)(**told)
    used = {name: ESTIMATORS["regressor"] for f in factors for name in [f.estimator] if name == "policy"}
    return replace(
        base,
        states={"latent": 48} if "latent" in made else {},
        taps={"tap": "future"} if "tap" in made else {},
        factors=factors,
        estimators={"world": part, **used},
    )


def train_two_steps(config: DesignConfig, data: Dataset) -> Design:
    torch.manual_seed(0)
    design = Design(config, data_spec(data))
    design.fit(data, seed=0)
    optimizer = OptimConfig().build(design)
    design.train()
    for step in range(2):
        loss = design.loss(data.windows(np.arange(step * 8, step * 8 + 8), design.training_window)).total
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        design.after_step()
    return design.eval()


def drive(design: Design, controller: Controller, frames: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """All actions that the closed loop sends in one episode: (TICKS, A)."""
    pilot = PolicyPilot(design, controller, Budget(), TICKS)
    result = ClosedLoop(Recorded(frames), 1, 1, pilot, TICKS).run([PlannedEpisode("recorded", 3)])
    (run,) = result.runs
    assert run.status == "timeout", run.error
    return np.concatenate([block.actions for block in run.blocks])


def try_all(
    compose: Callable[[], DesignConfig],
    data: Dataset,
    frames: Sequence[Mapping[str, Any]],
    folder: Path,
    refused: Counter[str],
    drawn: Sequence[str],
) -> int:
    """Train, then act under the ``drawn`` controllers, and once more after a reload; how many were accepted."""
    try:
        design = train_two_steps(compose(), data)
    except WamkitError as error:
        refused[reason(error)] += len(drawn)
        return 0
    save_pretrained(design, folder / "model")
    again = from_pretrained(folder / "model")
    acted: dict[str, np.ndarray] = {}
    for name in drawn:
        try:
            acted[name] = drive(design, CONTROLLERS[name], frames)
        except WamkitError as error:
            refused[reason(error)] += 1
            continue
        assert np.isfinite(acted[name]).all()
        assert len(acted[name]) == TICKS
    for name in [*acted][:1]:
        assert np.array_equal(acted[name], drive(again, CONTROLLERS[name], frames))
    return len(acted)


def deal(seed: int) -> Iterator[list[str]]:
    """DRAWN controllers at a time off a shuffled deck, a new one when too few are left."""
    lot = random.Random(seed)
    while True:
        deck = lot.sample(sorted(CONTROLLERS), len(CONTROLLERS))
        yield from (list(hand) for hand in zip(*[iter(deck)] * DRAWN, strict=False))


def say(capsys: pytest.CaptureFixture[str], title: str, accepted: int, refused: Counter[str]) -> None:
    """Print how many combinations were accepted, refused and why."""
    with capsys.disabled():
        print(
            f"\n{title}: {accepted} of {accepted + refused.total()} combinations accepted and run; refused:"
        )
        for text, count in refused.most_common():
            print(f"  {count:4}  {text}")


Cells = Mapping[tuple[str, ...], Callable[[], DesignConfig]]


def run_all(
    cells: Cells, data: Dataset, folder: Path, seed: int
) -> tuple[int, Counter[str], set[tuple[str, str]]]:
    """Combinations accepted, combinations refused by reason, and which part met which controller."""
    frames, accepted, refused, met = frames_of(data), 0, Counter[str](), set()
    for (parts, compose), drawn in zip(cells.items(), deal(seed), strict=False):
        accepted += try_all(compose, data, frames, folder, refused, drawn)
        met |= {(part, name) for part in parts for name in drawn}
    assert accepted + refused.total() == len(cells) * DRAWN
    return accepted, refused, met


def pairwise() -> Iterator[tuple[str, str, str]]:
    """Every substrate with every estimator; the coupling goes round, so that it meets every part of both kinds."""
    couplings = list(COUPLINGS)
    for (i, substrate), (j, estimator) in product(enumerate(SUBSTRATES), enumerate(ESTIMATORS)):
        yield substrate, estimator, couplings[(i + j) % len(couplings)]


def test_every_two_parts_of_different_kinds_meet() -> None:
    kinds = [*SUBSTRATES], [*ESTIMATORS], [*COUPLINGS]
    met = {pair for parts in pairwise() for pair in itertools.combinations(parts, 2)}
    assert met == {pair for a, b in itertools.combinations(kinds, 2) for pair in product(a, b)}


@pytest.mark.long
def test_the_cross_product(tmp_path: Path, data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    free: Cells = {parts: partial(cell, *parts, data) for parts in product(SUBSTRATES, ESTIMATORS, COUPLINGS)}
    own: Cells = {parts: partial(structured, *parts, data) for parts in product(SUBSTRATES, STRUCTURED)}
    whole = WHOLE in os.environ
    if not whole:
        free = {parts: free[parts] for parts in pairwise()}
        own = dict(itertools.islice(own.items(), 0, None, 3))
    accepted, refused, met = run_all(free, data, tmp_path, 0)
    say(capsys, "cross product", accepted, refused)
    more, declined, _ = run_all(own, data, tmp_path, 1)
    say(capsys, "estimators with factors of their own", more, declined)
    if whole:
        assert len(met) == len({*SUBSTRATES, *ESTIMATORS, *COUPLINGS}) * len(CONTROLLERS)
    assert {part for part, _ in met} == {*SUBSTRATES, *ESTIMATORS, *COUPLINGS}
    assert accepted + more > refused.total() + declined.total()


def reason(error: WamkitError) -> str:
    """The refusal without the names of streams, so that equal reasons are counted together."""
    return re.sub(r"(\[.*?\]|'[a-z_0-9]+')", "...", str(error), count=2)[:120]
