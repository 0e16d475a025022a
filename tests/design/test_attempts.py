"""Flagged rows are sampled again (`Budget.attempts`): bad clips are thrown away, good ones are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scenes import look, pose, scene_spec
from wamkit.contract.protocols import EstimatorConfig
from wamkit.contract.streams import PointMotion
from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.errors import BudgetError
from wamkit.estimators import DenoiserConfig, MotionRecoveryConfig, RegressorConfig
from wamkit.substrates import TracksConfig
from wamkit.trunks import TransformerConfig

H = 4


def config(policy: EstimatorConfig, **fields: Any) -> DesignConfig:
    return DesignConfig(
        name="again",
        horizon=H,
        width=32,
        encoders={"state": StateConfig()},
        substrates={"motion": TracksConfig(points=10)},
        futures={"future": FutureConfig("motion", (H,))},
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={"video": DenoiserConfig(steps=2), "policy": policy},
        factors=(Factor(("future",), (), "video"), Factor(("action",), ("future",), "policy")),
        controller=Chunked(execute=H),
        **fields,
    )


class Clips:
    """Clips of two rows: whether the body of each row holds together in the first, second ... attempt."""

    def __init__(self, *holds: tuple[bool, bool]) -> None:
        self.holds, self.seen = list(holds), list[Tensor]()

    def motion(self, values: Tensor, *_: object) -> PointMotion:
        whole = self.holds[len(self.seen)]
        self.seen.append(values.clone())
        start = 0.05 * torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1)
        step = 0.02 * torch.ones(2, 1, 8, 1)
        for row, together in enumerate(whole):
            if not together:
                step[row, :, ::2] *= -1
        return PointMotion(start, start[:, None] + step, torch.ones(2, 1, 8, dtype=torch.bool), anchored=True)


def forecast(clips: Clips, call: Budget, **fields: Any) -> Forecast:
    torch.manual_seed(0)
    design = Design(config(MotionRecoveryConfig(unit_m=0.1), **fields), scene_spec()).eval()
    design.substrate("future").moving_points = clips.motion  # type: ignore[method-assign]
    found, _ = design.forecast(both(), design.initial_state(2), call, [1, 2])
    return found


def both() -> Observation:
    rows = [look([pose(x, 0.0, 0.1)]) for x in (0.0, 0.1)]

    def joined(parts: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return replace(
        rows[0],
        images=joined([r.images for r in rows]),
        extras=joined([r.extras for r in rows]),
        state=torch.cat([r.state for r in rows]),
        pad=torch.cat([r.pad for r in rows]),
        task=("push it",) * 2,
    )


def test_a_bad_clip_is_thrown_away_and_a_good_one_is_kept() -> None:
    clips = Clips((True, False), (False, False), (False, True))
    found = forecast(clips, Budget(attempts=5))
    assert not found.flags["action"].any()
    assert len(clips.seen) == 3, "it goes on although nothing is flagged, or stops too early"
    assert torch.equal(found.future["future"][0], clips.seen[0][0]), (
        "the good clip of the first row is replaced"
    )
    assert torch.equal(found.future["future"][1], clips.seen[2][1])
    assert not torch.equal(clips.seen[0][1], clips.seen[1][1]), "the same clip again"
    assert found.nfe["future"] == 6


def test_what_stays_bad_stays_flagged_and_without_attempts_nothing_is_sampled_again() -> None:
    for budget, samples in ((Budget(attempts=2), 3), (Budget(), 1), (Budget(attempts=0), 1)):
        clips = Clips(*[(True, False)] * 3)
        assert forecast(clips, budget).flags["action"].tolist() == [False, True]
        assert len(clips.seen) == samples


def test_a_design_keeps_its_attempts() -> None:
    clips = Clips((False, False), (True, True))
    assert not forecast(clips, Budget(), budget=Budget(attempts=1)).flags["action"].any()


def test_a_design_that_flags_nothing_refuses_attempts() -> None:
    design = Design(config(RegressorConfig()), scene_spec())
    with pytest.raises(BudgetError, match="no estimator of this design flags its results"):
        design.check_budget(Budget(attempts=1))
