"""Specs and budgets are checked when they are made, with the value and the way out in the message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wamkit.contract import (
    ActionSpec,
    Budget,
    CameraSpec,
    DataSpec,
    Guide,
    ObservationSpec,
    StreamSpec,
    WindowSpec,
)
from wamkit.errors import BudgetError, ConfigError, SpecError

LETTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0/\\")
NAN, INF = float("nan"), float("inf")
CAMERA = CameraSpec(4, 6)
SEEN = ObservationSpec({"scene": CAMERA}, ("x_m", "y_m"), 10.0)
MOVES = ActionSpec(("dx", "dy"), (-1.0, -1.0), (1.0, 1.0), 10.0)
WINDOW = WindowSpec((-2, 0), 1, 4, (2, 4))
DATA = DataSpec(SEEN, MOVES, {})

REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (CAMERA, {"height": 0}, "height 0 must be at least 1"),
    (CAMERA, {"width": -3}, "width -3 must be at least 1"),
    (CAMERA, {"height": 4.0}, "height 4.0 must be a whole number"),
    (CAMERA, {"height": True}, "height True must be a whole number"),
    (CAMERA, {"height": "4"}, "height '4' must be a whole number"),
    (CAMERA, {"channels": 1}, "Repeat a grey picture three times"),
    (CAMERA, {"channels": 4}, "channels 4: pictures have 3"),
    (CAMERA, {"low": 255}, "low 255 and high 255"),
    (CAMERA, {"high": 65535}, "pictures are uint8"),
    (SEEN, {"cameras": ("scene",)}, "must map a camera's name to its CameraSpec"),
    (SEEN, {"cameras": {"": CAMERA}}, "name '' is empty"),
    (SEEN, {"cameras": {"  ": CAMERA}}, "is empty"),
    (SEEN, {"cameras": {3: CAMERA}}, "must be a text, not int"),
    (SEEN, {"cameras": {"../x": CAMERA}}, "paths of video files; use a dot or an underscore"),
    (SEEN, {"cameras": {"a\0": CAMERA}}, "no file can store"),
    (SEEN, {"cameras": {"a\ud800": CAMERA}}, "no file can store"),
    (SEEN, {"cameras": {"scene": (4, 6)}}, r"give a CameraSpec\(height, width\)"),
    (SEEN, {"state": "xy"}, "must be a tuple of names, not str"),
    (SEEN, {"state": ["x"]}, "must be a tuple of names, not list"),
    (SEEN, {"state": ("x", "y", "x")}, "'x' occurs twice, first at 0, then at 2"),
    (SEEN, {"state": ("x", "")}, "entry 1 '' is empty"),
    (SEEN, {"rate_hz": 0.0}, "rate_hz 0.0 must be a finite number above 0"),
    (SEEN, {"rate_hz": NAN}, "rate_hz nan"),
    (SEEN, {"rate_hz": INF}, "rate_hz inf"),
    (SEEN, {"rate_hz": "10"}, "rate_hz '10'"),
    (MOVES, {"names": (), "low": (), "high": ()}, "An action has at least one entry"),
    (MOVES, {"names": ("dx", "dx")}, "'dx' occurs twice"),
    (MOVES, {"low": (-1.0,)}, "one entry per action dimension, got 2, 1 and 2"),
    (MOVES, {"low": [-1.0, -1.0]}, "low .* must be a tuple of numbers"),
    (MOVES, {"low": (2.0, -1.0)}, "entry 'dx' has the limits 2.0 and 1.0"),
    (MOVES, {"high": (1.0, INF)}, "entry 'dy' has the limits -1.0 and inf"),
    (MOVES, {"low": (NAN, -1.0)}, "take the smallest and largest action"),
    (MOVES, {"rate_hz": -1.0}, "rate_hz -1.0"),
    (MOVES, {"mode": "deltas"}, "unknown mode 'deltas'. Did you mean 'delta'"),
    (MOVES, {"rotation": "euler"}, "unknown rotation 'euler'"),
    (MOVES, {"gripper": "closes"}, "unknown gripper 'closes'"),
    (WINDOW, {"observation": ()}, "must end with 0"),
    (WINDOW, {"observation": (-2,)}, "must end with 0"),
    (WINDOW, {"observation": (0, -2)}, "must ascend"),
    (WINDOW, {"observation": (-2.5, 0)}, "offset -2.5 must be a whole number"),
    (WINDOW, {"observation": [0]}, "must be a tuple of ticks"),
    (WINDOW, {"future": (0, 2)}, "must lie after now"),
    (WINDOW, {"future": (2, 2)}, "must ascend"),
    (WINDOW, {"horizon": 0}, "horizon 0 must be at least 1"),
    (WINDOW, {"past_actions": -1}, "past_actions -1 must be at least 0"),
    (WINDOW, {"milestones": -1}, "milestones -1"),
    (WINDOW, {"aim": "ends"}, "unknown aim 'ends'. Did you mean 'end'"),
    (DATA, {"observation": MOVES}, "must be an ObservationSpec"),
    (DATA, {"extras": {"depth": [4]}}, "extra 'depth': its shape .* must be a tuple"),
    (DATA, {"extras": {"depth": (0,)}}, "extra 'depth': a side of its shape 0"),
]


@pytest.mark.parametrize(("right", "change", "message"), REFUSED)
def test_a_wrong_spec_is_refused_when_it_is_made(right: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(right, **change)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nfe": {"action": -1}}, r"Budget.nfe.action: must be at least 0, got -1"),
        ({"nfe": {"action": 2.0}}, r"Budget.nfe.action: must be an integer, got 2.0"),
        ({"nfe": 4}, r"Budget.nfe: must be a mapping"),
        ({"exit": {"future": True}}, r"Budget.exit.future: must be an integer, got true"),
        ({"future": "no"}, r"Budget.future: must be true or false, got the text 'no'"),
        ({"candidates": 0}, r"Budget.candidates: must be at least 1"),
        ({"iterations": -1}, r"Budget.iterations: must be at least 0"),
        ({"horizon": 0}, r"Budget.horizon: must be at least 1"),
        ({"rounds": -1}, r"Budget.rounds: must be at least 0, got -1"),
        ({"rounds": NAN}, r"Budget.rounds: must be an integer"),
    ],
)
def test_a_budget_that_no_design_can_honour(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        Budget(**fields)


def test_a_guide_has_a_finite_weight() -> None:
    with pytest.raises(BudgetError, match="weight nan must be a finite number"):
        Guide("action", lambda values: values["action"].sum(), NAN)


@pytest.mark.parametrize("field", ["steps", "tokens", "features", "ticks_per_step", "vocabulary"])
def test_a_stream_has_a_size(field: str) -> None:
    with pytest.raises(ConfigError, match=f"stream 'latent': {field} 0 must be at least 1"):
        StreamSpec(**{"name": "latent", "role": "state", "steps": 1, "tokens": 1, "features": 1, field: 0})  # type: ignore[arg-type]


@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0/\\"), min_size=1),
        unique=True,
    ),
    side=st.integers(1, 4000),
    rate=st.floats(1e-3, 1e4),
    limits=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1, max_size=4),
)
def test_right_specs_are_made_and_keep_their_values(
    names: list[str], side: int, rate: float, limits: list[tuple[float, float]]
) -> None:
    names = [name for name in names if name.strip() and name not in (".", "..")]
    seen = ObservationSpec({name: CameraSpec(side, side) for name in names}, tuple(names), rate)
    assert (list(seen.cameras), seen.state, seen.rate_hz) == (names, tuple(names), rate)
    low = tuple(a for a, _ in limits)
    high = tuple(a + b for a, b in limits)
    moves = ActionSpec(tuple(f"a{i}" for i in range(len(low))), low, high, rate)
    assert (moves.low, moves.high, moves.width) == (low, high, len(limits))


def test_numbers_of_numpy_and_an_entry_that_never_moves_are_understood() -> None:
    spec = ActionSpec(("a", "idle"), (np.float32(-1), 0), (np.float64(1), 0), np.float32(10))  # type: ignore[arg-type]
    assert spec.width == 2
    assert CameraSpec(np.int64(4), np.int32(6)).height == 4  # type: ignore[arg-type]
