"""Systems that turn what they imagine into motion in space and follow it."""

from __future__ import annotations

from wamkit.controllers import SingleStep
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.estimators import RegressorConfig
from wamkit.substrates import ProprioceptionConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p


@system(
    "Dex4D",
    ("ps.motion-geometry", "bb.shared-trunk", "dp.single-step", "ar.goal-policy"),
    missing=("dp.progress-gate",),
    simplified="Tracks are generated anew at every tick: no tracker tells, while acting, which goal is reached.",
    choices="Eight points at four times; one trunk for the plan and the student.",
)
def dex4d() -> DesignConfig:
    """Lift the plan to tracks of points and let a student emit one action and the next joint state per tick."""
    places = p.futures({"tracks": (p.POINT_TRACKS, (4, 8, 12, 16)), "body": (ProprioceptionConfig(), (1,))})
    return p.base(
        "Dex4D",
        **places,
        estimators={"world": p.denoiser(), "student": RegressorConfig(), "joints": RegressorConfig()},
        factors=(
            Factor(("tracks",), (), "world"),
            Factor(("action",), ("tracks",), "student"),
            Factor(("body",), ("tracks", "action"), "joints"),
        ),
        controller=SingleStep(),
    )
