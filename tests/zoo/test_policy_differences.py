"""Systems of one tuple differ by experiment: each passes an oracle or shows a behaviour that the other one does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles import ORACLES
from oracles.language import language_trunk
from zoo_recordings import case_of

from gates import sharpen
from wamkit.contract.specs import ACTION
from wamkit.errors import WamkitError

pytestmark = pytest.mark.sim


@pytest.mark.parametrize(
    ("has", "lacks", "block"),
    [
        ("RT-1", "RT-2", "oe.rgb-history"),
        ("RT-2", "RT-1", "bb.vlm-expert"),
        ("π0", "π0-FAST", "ar.continuous-chunk"),
        ("π0-FAST", "π0", "ar.discrete-tokens"),
        ("π0-EqM", "π0", "ar.equilibrium-head"),
        ("π0.5", "π0", "pt.staged-hybrid"),
        ("π0", "OpenVLA-OFT", "ar.iterative-head"),
        ("SpatialVLA", "OpenVLA", "oe.geometry"),
        ("LMP (Language Movement Primitives)", "OpenVLA-OFT", "ar.dmp-head"),
        ("Helix", "SmolVLA", "dp.slow-fast"),
        ("GR00T N1", "Helix", "ar.iterative-head"),
        ("VLA-Touch", "Diffusion Policy", "dp.slow-fast"),
    ],
)
def test_one_has_the_block_and_the_other_lacks_it(has: str, lacks: str, block: str, folder: Path) -> None:
    ORACLES[block](case_of(has, folder))
    with pytest.raises((AssertionError, WamkitError)):
        ORACLES[block](case_of(lacks, folder))


def test_the_frozen_model_of_smolvla_does_not_learn_and_that_of_pi0_does(folder: Path) -> None:
    moved = {}
    for name in ("SmolVLA", "π0"):
        case = case_of(name, folder)
        before = language_trunk(case, case.untrained()).model.state_dict()
        after = language_trunk(case, case.design).model.state_dict()
        moved[name] = any(not torch.equal(before[key], after[key]) for key in before)
    assert moved == {"SmolVLA": False, "π0": True}


def test_openvla_reads_its_prompt_in_one_direction_and_rt2_in_both(folder: Path) -> None:
    changed = {}
    for name in ("OpenVLA", "RT-2"):
        case = case_of(name, folder)
        design = case.untrained()
        seen = case.observation()
        told = replace(seen, task=("something else",))  # the words come last
        first, second = (design.encode_context(o)["main"].keys[-1][:, :, 0] for o in (seen, told))
        changed[name] = not torch.equal(first, second)
    assert changed == {"OpenVLA": False, "RT-2": True}


def test_rt_x_sees_the_view_that_all_robots_have_and_rt1_all_views(folder: Path) -> None:
    changed = {}
    for name in ("RT-1", "RT-X"):
        design, seen = case_of(name, folder).untrained(), case_of(name, folder).observation()
        dark = replace(seen, images={**seen.images, "gripper": torch.zeros_like(seen.images["gripper"])})
        first, second = (design.encoders["images"](o)[0] for o in (seen, dark))
        changed[name] = not torch.equal(first, second)
    assert changed == {"RT-1": True, "RT-X": False}


def test_hif_vla_looks_back_at_motion_and_iclr_vr_does_not(folder: Path) -> None:
    """Another earlier frame changes what HiF-VLA reads of the past; ICLR-VR is shown no past at all."""
    hif, iclr = (case_of(name, folder) for name in ("HiF-VLA", "ICLR-VR"))
    seen = hif.observation()
    frames = seen.images["scene"].clone()
    frames[:, 0] = frames[:, 0].roll(4, dims=-1)
    past = replace(seen, images={**seen.images, "scene": frames})
    encoder = hif.design.encoders["hindsight"]
    assert not torch.equal(encoder(seen)[0], encoder(past)[0])
    assert iclr.observation().state.shape[1] == 1


def test_abot_predicts_the_clean_chunk_and_pi0_a_velocity(folder: Path) -> None:
    """One evaluation lands where the network says the data are, whatever noise it starts from."""
    said = {}
    for name in ("ABot-M0", "π0"):
        case = case_of(name, folder)
        design = sharpen(case.untrained())
        estimator = case.estimator_of(ACTION, design)
        seen = case.cut(design.window)
        with torch.no_grad():
            estimator.outputs[ACTION].outward.weight.zero_()  # the network now says one thing at every input
            made = [design.sample(seen, [ACTION], seeds=[seed]).values[ACTION] for seed in (1, 2)]
        said[name] = torch.allclose(made[0], made[1], atol=1e-5)
    assert said == {"ABot-M0": True, "π0": False}


def test_the_teachers_of_frappe_are_several_on_the_trunk_that_acts(folder: Path) -> None:
    frappe, flare = (case_of(name, folder).config for name in ("FRAPPE", "FLARE"))
    assert len(frappe.trunks) == 1
    assert len(flare.trunks) == 2
    with pytest.raises((AssertionError, WamkitError)):
        ORACLES["cp.joint"](case_of("FRAPPE", folder))
    ORACLES["cp.joint"](case_of("DDP", folder))
