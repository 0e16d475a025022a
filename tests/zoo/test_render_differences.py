"""Systems of one tuple differ in behaviour: what distinguishes one of a pair is not there in the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles import ORACLES
from oracles.probes import drawn
from zoo_recordings import case_of

from gates import moved_steps, sharpen
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import PointMotion
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError
from wamkit.substrates.label_maps import CLASS_IDS
from wamkit.zoo.registry import systems

pytestmark = pytest.mark.sim

# Block that the first system has and the second, of the same tuple, lacks.
LACKING = (
    # imagined frames, one call
    ("st.spatial-control", "This&That", "UniPi"),
    ("ar.latent-action", "DreamGen", "UniPi"),
    ("ps.keyframes", "RoboEnvision", "UniPi"),
    ("ar.motion-recovery", "AVDC", "UniPi"),
    ("ge.rollout-filter", "RIGVid", "Dreamitate"),
    ("ss.guided-inference", "MVISTA-4D", "UniPi"),
    ("ss.decoupled-times", "LVP", "AVDC"),
    # imagined frames, chunked
    ("ps.keyframes", "GR-MG", "VLP"),
    # one causal stream
    ("cp.leakage-mask", "WorldVLA", "GR-1"),
    # one denoising process
    ("cp.leakage-mask", "UD-VLA", "VideoVLA"),
    # experts
    ("ss.decoupled-times", "Motus", "F1"),
    ("ps.keyframes", "BagelVLA", "F1"),
    ("ss.future-skip", "Motus", "RynnVLA-002"),
    # predicted geometry, one call
    ("ar.motion-recovery", "NovaFlow", "TC-IDM"),
)


@pytest.mark.parametrize(("block", "has", "lacks"), LACKING)
def test_the_neighbour_lacks_what_distinguishes_a_system(
    block: str, has: str, lacks: str, folder: Path
) -> None:
    assert block in systems()[has].distinct
    with pytest.raises((AssertionError, BudgetError)):
        ORACLES[block](case_of(lacks, folder))


def moved_steps_of_the_last_frame(name: str, folder: Path) -> list[bool]:
    """Whether each step of the action moves when only the last imagined frame is another."""
    found = case_of(name, folder)
    design, (future,) = sharpen(found.untrained()), found.design.graph.factor_of(ACTION).given
    seen, first = (
        found.cut(design.window),
        drawn(found.design, found.design.graph.factor_of(ACTION).given[0], 1),
    )
    other = first.clone()
    other[:, -1] = drawn(design, future, 2)[:, -1]
    actions = [found.act(design, seen, given={future: values}) for values in (first, other)]
    moved: list[bool] = (actions[0] != actions[1]).flatten(2).any(dim=2)[0].tolist()
    return moved


def test_pairs_of_frames_are_not_the_whole_clip(folder: Path) -> None:
    """UniPi reads the actions between two frames off these two; Gen2Act follows the whole clip."""
    assert moved_steps_of_the_last_frame("UniPi", folder) == [False, False, True, True]
    assert moved_steps_of_the_last_frame("Gen2Act", folder) == [True] * 4


def test_a_bridge_starts_closed_and_shared_attention_does_not(folder: Path) -> None:
    """Untrained, CoVAR's action branch runs as if it were alone; VideoVLA's tokens read the clip from the start."""
    for name, expected in (("CoVAR", False), ("VideoVLA", True)):
        found = case_of(name, folder)
        design = found.untrained()
        assert any(moved_steps(design, found.cut(design.window))) == expected, name


def test_a_picture_is_foreseen_scale_by_scale_or_token_by_token(folder: Path) -> None:
    """F1 spends a pass per scale on the picture, RynnVLA-002 one per token."""
    spent = {}
    for name in ("F1", "RynnVLA-002"):
        found = case_of(name, folder)
        made = found.design.sample(found.observation(), ["future", ACTION], seeds=[1])
        spent[name] = (made.nfe["future"], found.design.streams["future"].tokens)
    assert spent["F1"][0] == 2 < spent["F1"][1]
    assert spent["RynnVLA-002"][0] == spent["RynnVLA-002"][1]


def test_a_mask_is_not_a_goal(folder: Path) -> None:
    """Vidar cuts tokens of the clip off and VLP does not; what VLP follows, it also judges."""
    masked, plain = (case_of(name, folder) for name in ("Vidar", "VLP"))
    part = masked.estimator_of(ACTION)
    for mask in part.masks.values():
        torch.nn.init.zeros_(mask.network[-1].weight)
        torch.nn.init.constant_(mask.network[-1].bias, -5.0)
    for found, expected in ((masked, True), (plain, False)):
        seen = found.observation()
        given = [{"future": drawn(found.design, "future", k)} for k in (1, 2)]
        shown = [found.act(found.design, seen, given=some) for some in given]
        assert torch.equal(*shown) == expected
    assert "value" in plain.futures()
    assert "value" not in masked.futures()


def turned(name: str, folder: Path) -> float:
    """How far the hand moves when the body turns about its own centre, metres."""
    found = case_of(name, folder)
    design = found.untrained()
    future = design.graph.factor_of(ACTION).given[0]
    steps = design.streams[future].steps
    start = 0.05 * torch.randn(8, 3, generator=torch.Generator().manual_seed(3))
    centred = start - start.mean(dim=0)
    angles = 0.1 * torch.arange(1, steps + 1)
    turns = torch.stack(
        [torch.linalg.matrix_exp(a * torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]])) for a in angles]
    )
    later = centred @ turns.transpose(1, 2) + start.mean(dim=0)
    known = torch.ones(1, steps, 8, dtype=torch.bool)
    motion = PointMotion(start[None], later[None], known, anchored=True)
    design.substrate(future).moving_points = lambda *_: motion  # type: ignore[method-assign]
    given = {future: drawn(design, future, 1)}
    budget, state = Budget(future=False, attempts=0), design.initial_state(1)
    action = design.forecast(found.cut(design.window), state, budget, [1], given=given)[0].action
    return float(action[0, :, :3].sum(dim=0).norm() * 0.01)


@pytest.mark.parametrize(("held", "followed"), [("RIGVid", "AVDC"), ("NovaFlow", "Dream2Flow")])
def test_a_grasped_body_turns_the_hand_around_it_and_a_followed_one_does_not(
    held: str, followed: str, folder: Path
) -> None:
    assert turned(followed, folder) < 1e-3
    assert turned(held, folder) > 0.01


def test_the_object_and_the_tool_are_not_the_same_points(folder: Path) -> None:
    """Without the object in the picture, AVDC has nothing to follow; Dreamitate still tracks its tool."""
    for name, lost in (("AVDC", True), ("Dreamitate", False)):
        found = case_of(name, folder)
        design, seen = found.untrained(), found.cut(found.design.window)
        body = found.estimator_of(ACTION, design).config.body
        labels = seen.extras["segmentation.scene"]
        empty = torch.where(labels == CLASS_IDS["object"], 0, labels)
        blind = replace(seen, extras={**seen.extras, "segmentation.scene": empty})
        substrate, values = design.substrate("future"), drawn(design, "future", 1).clamp(-1, 1)
        starts = [substrate.moving_points(values, some, body).start for some in (seen, blind)]
        assert torch.equal(*starts) != lost
