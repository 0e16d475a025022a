"""Systems of one tuple differ in what they do: an oracle of one fails on its neighbour, or an experiment tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import Case
from oracles import ORACLES
from oracles.probes import drawn
from oracles.registry import calls
from zoo_recordings import case_of

from gates import sharpen
from wamkit.contract.specs import ACTION

pytestmark = pytest.mark.sim

# System, its neighbour of the same tuple (or the same kind), and the block of the first that the second does not have.
BLOCKS = [
    ("SWEET", "Veo-Act", "ps.keyframes"),
    ("PhysGen", "GR-1", "cp.leakage-mask"),
    ("PhysGen", "WorldVLA", "mm.sparse-history"),
    ("X-WAM", "DriveWAM", "ps.multiview-4d"),
    ("DriveWAM", "UWM", "cp.interleave"),
    ("Pelican-Unify 1.0", "UWM", "re.text-cot"),
    ("3D-ALP", "DreamAvoid", "mm.spatial-memory"),
    ("DreamAvoid", "3D-ALP", "dp.phase-trigger"),
    ("DreamZero", "UWM", "bb.ar-diffusion"),
    ("EnerVerse", "VidMan", "mm.sparse-history"),
    ("EnerVerse", "VAG", "dp.interactive"),
    ("π0.7", "SWEET", "dp.subgoal-refresh"),
    ("MoLA", "Veo-Act", "ar.latent-action"),
]
OTHERS = (
    "Say-Dream-Act",
    "EVA",
    "CreFlow",
    "VERA",
    "ActionImages",
    "MV-VDP",
    "DriveVA",
    "CKT-WAM",
    "mimic-video",
    "NavDreamer",
    "HarmoWAM",
)


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, Case]:
    names = {name for pair in BLOCKS for name in pair[:2]} | set(OTHERS)
    return {name: case_of(name, folder) for name in sorted(names)}


@pytest.mark.parametrize(("name", "neighbour", "block"), BLOCKS)
def test_a_neighbour_lacks_the_block(cases: dict[str, Case], name: str, neighbour: str, block: str) -> None:
    assert block in cases[name].system.distinct
    with pytest.raises(AssertionError):
        ORACLES[block](cases[neighbour])


def spent(case: Case) -> dict[str, int]:
    """Evaluations of one action, and of the future that it is generated from."""
    design = case.untrained()
    return dict(design.sample(case.cut(design.window), [ACTION], seeds=[1]).nfe)


def test_clips_and_actions_cost_as_many_evaluations_as_the_papers_say(cases: dict[str, Case]) -> None:
    """Two distilled steps and one pass; many steps and one pass; many steps for the executor, too."""
    assert spent(cases["Say-Dream-Act"]) == {"future": 2, ACTION: 1}
    assert spent(cases["EVA"]) == {"future": 4, ACTION: 1}
    assert spent(cases["Veo-Act"]) == {"future": 4, ACTION: 8}


def bent(case: Case) -> float:
    """Distance of the action of a mean clip from the mean of the actions of two clips, relative to their distance."""
    design = sharpen(case.untrained())
    observation = case.cut(design.window)
    (name,) = design.graph.factor_of(ACTION).given
    first, second = (drawn(design, name, k) for k in (1, 2))
    a, b, mean = (
        case.act(design, observation, given={name: value}) for value in (first, second, (first + second) / 2)
    )
    return float(((a + b) / 2 - mean).norm() / (a - b).norm())


def test_a_jacobian_is_linear_in_the_clip_and_other_inverse_models_are_not(cases: dict[str, Case]) -> None:
    assert bent(cases["VERA"]) < 1e-3
    assert min(bent(cases[name]) for name in ("EVA", "CreFlow", "Say-Dream-Act")) > 1e-2


def test_the_mask_of_one_inverse_model_can_blind_it_where_the_other_has_none(cases: dict[str, Case]) -> None:
    """CreFlow keeps the masked model of Vidar, EVA reads expected positions."""
    moved = {}
    for name in ("CreFlow", "EVA"):
        design = sharpen(cases[name].untrained())
        part = cases[name].estimator_of(ACTION, design)
        for mask in part.masks.values():  # type: ignore[operator, union-attr]
            torch.nn.init.zeros_(mask.network[-1].weight)
            torch.nn.init.constant_(mask.network[-1].bias, -5.0)
        observation = cases[name].cut(design.window)
        shown = [
            cases[name].act(design, observation, given={"future": drawn(design, "future", k)}) for k in (1, 2)
        ]
        moved[name] = not torch.equal(*shown)
    assert moved == {"CreFlow": False, "EVA": True}


def test_one_paints_actions_in_the_colours_of_the_video_the_other_a_view_each(cases: dict[str, Case]) -> None:
    """ActionImages: a token of the action is a patch of the video. MV-VDP: a map per side, and depth is read."""
    colours, views = cases["ActionImages"].untrained(), cases["MV-VDP"].untrained()
    assert colours.streams[ACTION].features == colours.streams["video"].features
    assert views.streams[ACTION].features == 64
    moved = {}
    for name, design in (("ActionImages", colours), ("MV-VDP", views)):
        seen = cases[name].cut(design.window)
        near = {k: v / 2 if k.startswith("depth") else v for k, v in seen.extras.items()}
        moved[name] = not torch.equal(
            cases[name].act(design, seen), cases[name].act(design, replace(seen, extras=near))
        )
    assert moved == {"ActionImages": False, "MV-VDP": True}


def test_joint_denoisers_of_one_noise_level_differ_in_what_they_read_and_move(cases: dict[str, Case]) -> None:
    """DriveVA moves by absolute poses. CKT-WAM reads the context of another model, frozen, behind a gate."""
    assert cases["DriveVA"].design.action_spec.mode == "absolute"
    case = cases["CKT-WAM"]
    assert case.design.action_spec.mode == "delta"
    design = case.untrained()
    prefix = design.encoders["teacher"]
    runs = calls(prefix.teacher, "forward")
    observation = case.cut(design.window)
    closed = case.act(design, observation)
    assert runs
    with torch.no_grad():
        prefix.gate.fill_(1.0)  # type: ignore[operator, union-attr]
    assert not torch.equal(closed, case.act(design, observation)), "the teacher is not read"
    assert not any(p.requires_grad for p in prefix.teacher.parameters())  # type: ignore[union-attr, operator]


def test_a_gate_decides_whether_the_imagined_latents_or_frames_move_the_action(
    cases: dict[str, Case],
) -> None:
    """HarmoWAM: the predictive expert reads latents, the reactive one frames, and one of them acts."""
    case = cases["HarmoWAM"]
    design = sharpen(case.untrained())
    observation = case.cut(design.window)
    part = case.estimator_of(ACTION, design)
    for number, reads in enumerate(("latent", "frames")):
        part.choose = lambda call, n=number: torch.full((call.rows,), n)  # type: ignore[method-assign, assignment]
        known = {name: drawn(design, name, 1) for name in ("latent", "frames")}
        before = case.act(design, observation, given=known)
        moved = {
            name: not torch.equal(
                before, case.act(design, observation, given={**known, name: drawn(design, name, 2)})
            )
            for name in known
        }
        assert moved == {"latent": reads == "latent", "frames": reads == "frames"}


def test_taps_of_one_shape_are_read_at_another_evaluation_and_train_or_not(cases: dict[str, Case]) -> None:
    """VAG waits for the clean latent; mimic-video stops half way; VidMan stops at once, untrained by the action."""
    found = {name: spent(cases[name])["tap"] for name in ("VAG", "mimic-video", "VidMan")}
    assert found == {"VAG": 4, "mimic-video": 2, "VidMan": 1}
    for name, trains in (("VAG", True), ("VidMan", False)):
        design = cases[name].untrained()
        design.train()
        design.loss(cases[name].batch(design=design)).terms[ACTION].backward()
        graded = any(p.grad is not None and bool(p.grad.any()) for p in design.trunks["video"].parameters())
        assert graded == trains, name
