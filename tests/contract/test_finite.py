"""The fast test for finite values agrees with the exact one."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wamkit.contract.checks import is_finite


@given(st.lists(st.floats(width=32), max_size=5))
def test_finite_is_what_torch_calls_finite(values: list[float]) -> None:
    x = torch.tensor(values)
    assert is_finite(x) == bool(torch.isfinite(x).all())


def test_large_finite_values_are_not_taken_for_infinite() -> None:
    assert is_finite(torch.full((4,), 3e38))
