"""The spatial memory as an encoder: what is hidden now is still there if an observed step saw it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scenes import HALF, SIDE, look, pose, scene_spec
from wamkit.contract.types import Batch, Budget, Observation, WindowSpec
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor
from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.errors import ConfigError, SpecError
from wamkit.estimators import RegressorConfig
from wamkit.memory import SceneMemory, SceneMemoryConfig
from wamkit.trunks import TransformerConfig

AWAY, COVER = pose(-0.6, -0.6, 0.55), pose(0.0, 0.0, 0.55)
BELOW_COVER = (0.0, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 90.0)  # looks down from under the cover
CONFIG = SceneMemoryConfig(viewpoint=BELOW_COVER, size=16, patch=4, voxel_m=0.04)
NAMES = ("depth.scene", "camera.scene")


def build(config: SceneMemoryConfig = CONFIG, steps: int = 2) -> SceneMemory:
    torch.manual_seed(0)
    return config.build(scene_spec(), WindowSpec(observation=tuple(range(1 - steps, 1))), 16)


def rows(*seen: Observation) -> Observation:
    """Several rows as one batch."""
    first = seen[0]
    return Observation(
        images={c: torch.cat([s.images[c] for s in seen]) for c in first.images},
        state=torch.cat([s.state for s in seen]),
        task=tuple(s.task[0] for s in seen),
        pad=torch.cat([s.pad for s in seen]),
        extras={n: torch.cat([s.extras[n] for s in seen]) for n in first.extras},
    )


def history(place: Tensor, covers: list[Tensor]) -> Observation:
    """One row in which the object stands at ``place`` and the second plate goes through ``covers``."""
    steps = [look([place], second=cover) for cover in covers]
    return Observation(
        images={"scene": torch.cat([s.images["scene"] for s in steps], dim=1)},
        state=torch.cat([s.state for s in steps], dim=1),
        task=steps[0].task,
        pad=torch.cat([s.pad for s in steps], dim=1),
        extras={n: torch.cat([s.extras[n] for s in steps], dim=1) for n in steps[0].extras},
    )


def object_pixels(encoder: SceneMemory, seen: Observation) -> int:
    """Pixels of the drawn picture that show the object: its colour, 120 of 255."""
    picture = encoder.drawn(seen)[0]
    return int((((picture[0] + 1) * 127.5 - 120).abs().lt(1) & picture[4].bool()).sum())


def test_an_object_behind_a_cover_is_drawn_if_an_observed_step_saw_it() -> None:
    encoder, place = build(), pose(0.05, 0.0, 0.1)
    hidden = history(place, [AWAY, COVER])
    assert not bool((hidden.images["scene"][0, 1] == 120).any())  # no pixel shows it now
    assert object_pixels(encoder, history(place, [AWAY, AWAY])) > 20
    assert object_pixels(encoder, hidden) > 20
    assert object_pixels(encoder, hidden.steps([-1])) == 0


def test_where_the_hidden_object_stands_can_be_read_off_the_tokens() -> None:
    """Ridge regression from tokens to the object's x, on places never seen: with the past, and without it."""
    places = [
        pose(float(x), float(y), 0.1) for x, y in np.random.default_rng(0).uniform(-0.12, 0.12, (60, 2))
    ]
    encoder = build()
    errors = {}
    for steps in ([0, 1], [1]):
        seen = rows(*[history(place, [AWAY, COVER]).steps(steps) for place in places])
        with torch.no_grad():
            tokens = encoder(seen)[0].flatten(1).double()
        x = torch.stack([place[0] for place in places]).double()
        train, test = slice(0, 40), slice(40, 60)
        mean = tokens[train].mean(dim=0)
        kernel = (tokens - mean) @ (tokens[train] - mean).T
        weights = torch.linalg.solve(kernel[train] + 1e-3 * torch.eye(40), x[train] - x[train].mean())
        errors[len(steps)] = float((kernel[test] @ weights + x[train].mean() - x[test]).abs().mean())
    print(f"mean error of x: {errors[2]:.3f} m with the past, {errors[1]:.3f} m without, n = 20")
    assert errors[2] < 0.02 < errors[1]


def test_steps_that_are_padded_or_lack_depth_or_pose_are_not_taken_in() -> None:
    encoder, seen = build(), history(pose(0.05, 0.0, 0.1), [AWAY, COVER])
    alone = encoder(seen.steps([-1]))[0]
    first = torch.tensor([[True, False]])
    torch.testing.assert_close(encoder(replace(seen, pad=first))[0], alone, rtol=0, atol=0)
    for name in NAMES:
        broken = dict(seen.extras)
        broken[name] = torch.where(
            first.view(1, 2, *[1] * (broken[name].dim() - 2)), torch.nan, broken[name].float()
        )
        told = replace(seen, extras=broken, missing={name: first})
        torch.testing.assert_close(encoder(told)[0], alone, rtol=0, atol=0)
    blind = replace(seen, missing={name: torch.ones(1, 2, dtype=torch.bool) for name in NAMES})
    assert not encoder.drawn(blind).any()
    assert encoder(blind)[0].isfinite().all()


def test_rows_do_not_see_each_other() -> None:
    encoder = build()
    seen = [history(pose(x, 0.0, 0.1), [AWAY, COVER]) for x in (-0.1, 0.1)]
    together = encoder(rows(*seen))[0]
    for row, alone in zip(together, seen, strict=True):
        torch.testing.assert_close(row, encoder(alone)[0][0])
    assert not torch.equal(together[0], together[1])


def test_a_design_learns_acts_and_comes_back_with_it(tmp_path: Path) -> None:
    config = DesignConfig(
        name="remembers",
        observation=(-1, 0),
        horizon=4,
        width=16,
        encoders={"memory": CONFIG},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
        estimators={"policy": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"),),
        controller=Chunked(4),
    )
    torch.manual_seed(0)
    design = Design(config, scene_spec())
    assert design.extras == tuple(sorted(NAMES))
    assert set(design.droppable) == set(NAMES)
    seen = rows(*[history(pose(x, 0.0, 0.1), [AWAY, COVER]) for x in (-0.1, 0.1)])
    batch = Batch(
        observation=seen,
        action=torch.tensor([-0.5, 0.5])[:, None, None].expand(
            2, 4, 4
        ),  # only the memory tells the rows apart
        action_pad=torch.zeros(2, 4, dtype=torch.bool),
        past=0,
        index=torch.arange(2),
    )
    optimizer = torch.optim.Adam(design.parameters(), lr=3e-3)
    for _ in range(130):
        optimizer.zero_grad()
        design.loss(batch).total.backward()
        optimizer.step()
    save_pretrained(design.eval(), tmp_path / "model")
    again = from_pretrained(tmp_path / "model")

    def act(policy: Design) -> Tensor:
        return policy.forecast(seen, policy.initial_state(2), Budget(), [0, 1])[0].action

    torch.testing.assert_close(act(again), act(design), rtol=0, atol=0)
    torch.testing.assert_close(act(design), batch.action, rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cameras": ("wrist",)}, "no camera 'wrist'"),
        ({"cameras": ()}, r"SceneMemoryConfig\.cameras: must not be empty"),
        ({"patch": 5}, "patches of 5"),
        ({"viewpoint": (0.0, 0.0, 1.0)}, "must have 8 entries"),
    ],
)
def test_what_cannot_be_remembered_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(replace(CONFIG, **change))
    with pytest.raises(SpecError, match=r"no extra 'depth\.scene'"):
        build()(replace(history(pose(0.0, 0.0, 0.1), [AWAY, AWAY]), extras={}))


def test_the_cover_hides_the_object_in_every_arrangement() -> None:
    """What the regression relies on: the cover is wide enough for all places that are drawn."""
    for x, y in ((-0.12, -0.12), (0.12, 0.12), (0.12, -0.12)):
        seen = history(pose(x, y, 0.1), [COVER])
        assert not bool((seen.images["scene"][0, 0] == 120).any()), (HALF, SIDE)
