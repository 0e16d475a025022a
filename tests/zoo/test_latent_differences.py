"""Latent-only systems of one tuple differ in what they do: the oracle of one fails on its neighbour, or counts do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import Case
from oracles import ORACLES
from oracles.drawing import another, sampled
from oracles.sampling import passes
from zoo_recordings import case_of

from gates import sharpen
from wamkit.contract.specs import ACTION

pytestmark = pytest.mark.sim

# System, its neighbour of the same tuple, and the block of the first that the second does not have.
BLOCKS = [
    ("Video Policy", "mimic-video", "cp.post-head"),
    ("S-VAM", "mimic-video", "ss.distill"),
    ("AdaWorldPolicy", "MotuBrain", "dp.online-adapt"),
    ("MotuBrain", "FFDC-WAM", "dp.async-overlap"),
    ("FFDC-WAM", "WALL-WM", "dp.verifier-replan"),
    ("WALL-WM", "UWM", "cp.cross-stream"),
    ("VTAM", "UWM", "ps.sensor-latent"),
    ("MotuBrain", "UVA", "bb.mot"),
    ("GigaWorld-Policy", "CosmosPolicy", "cp.action-centric-mask"),
    ("CosmosPolicy", "GigaWorld-Policy", "pl.candidate-scoring"),
    ("τ0-WM", "UWM", "pl.candidate-scoring"),
    ("WAV", "mimic-video", "pt.value-head"),
    ("DAWN", "CLWM", "cp.iterative-refine"),
]
OTHERS = (
    "DiT4DiT",
    "VAMPO",
    "Genie Envisioner",
    "Im2Flow2Act",
    "3D-FDP",
    "RoboFlow4D",
    "3DFlowAction",
    "TraceGen",
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


def passes_for_one_action(case: Case) -> int:
    """Passes of the video network over the future for one action."""
    design = case.untrained()
    runs = passes(design.trunks["video"], "future")
    case.act(design, case.observation())
    return len(runs)


def test_taps_are_read_after_as_many_passes_as_the_paper_says(cases: dict[str, Case]) -> None:
    names = ("DiT4DiT", "Genie Envisioner", "VAMPO", "mimic-video", "Video Policy")
    assert [passes_for_one_action(cases[name]) for name in names] == [1, 1, 1, 2, 4]


def test_uwm_reads_the_future_that_uva_only_trains_with(cases: dict[str, Case]) -> None:
    design = sharpen(cases["UWM"].untrained())
    video = sampled(cases["UWM"], design, ["future"]).values["future"]
    told = [sampled(cases["UWM"], design, [ACTION], given={"future": v}) for v in (video, another(video))]
    assert not torch.equal(*(made.values[ACTION] for made in told))
    design = sharpen(cases["UVA"].untrained())
    told = [sampled(cases["UVA"], design, want) for want in ([ACTION], ["future", ACTION])]
    assert torch.equal(*(made.values[ACTION] for made in told))


def test_flows_differ_in_space_and_in_what_acts_on_them(cases: dict[str, Case]) -> None:
    flat, dense, quick = (cases[name].design for name in ("Im2Flow2Act", "3D-FDP", "RoboFlow4D"))
    assert flat.streams["flow"].features < dense.streams["flow"].features
    assert "depth.scene" in dense.sensors
    assert "depth.scene" not in flat.sensors
    spent = {
        name: sampled(cases[name], cases[name].design, [ACTION]).nfe for name in ("3D-FDP", "RoboFlow4D")
    }
    assert spent == {"3D-FDP": {"flow": 4, ACTION: 4}, "RoboFlow4D": {"flow": 2, ACTION: 1}}
    assert quick.streams["flow"].steps > dense.streams["flow"].steps


def test_motion_is_recovered_from_a_field_in_one_system_and_from_points_in_the_other(
    cases: dict[str, Case],
) -> None:
    field, points = (cases[name].design for name in ("3DFlowAction", "TraceGen"))
    assert {"depth.scene", "camera.scene"} <= set(field.sensors)
    assert not {"depth.scene", "camera.scene"} & set(points.sensors)
    assert field.streams["flow"].steps < points.streams["traces"].steps
    for name in ("3DFlowAction", "TraceGen"):
        assert sampled(cases[name], cases[name].design, [ACTION]).nfe[ACTION] == 0, (
            "a network decides the action"
        )
