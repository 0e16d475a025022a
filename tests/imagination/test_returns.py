"""Returns of imagined rollouts by hand, shares of the rows, and a resampling whose mean is the weighted mean."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wamkit.errors import ConfigError, DataError
from wamkit.imagination.exploitation import Returns, exploitation, mean_change
from wamkit.imagination.returns import advantages, drawn_rows, improved_shares, lambda_returns

REWARD = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 4.0]])
VALUE = torch.tensor([[10.0, 1.0], [20.0, 2.0], [30.0, 3.0]])


def test_lambda_returns_match_a_hand_computed_example() -> None:
    """Discount 1/2 and trace 1/4, from the last step back."""
    last = 3 + 0.5 * 30
    second = 2 + 0.5 * (0.75 * 20 + 0.25 * last)
    first = 1 + 0.5 * (0.75 * 10 + 0.25 * second)
    found = lambda_returns(REWARD, VALUE, 0.5, 0.25)
    torch.testing.assert_close(found[:, 0], torch.tensor([first, second, last]))


def test_the_ends_of_the_trace_are_one_step_and_all_steps() -> None:
    one_step = lambda_returns(REWARD, VALUE, 0.9, 0.0)
    torch.testing.assert_close(one_step, REWARD + 0.9 * VALUE)
    whole = lambda_returns(REWARD, VALUE, 0.9, 1.0)
    torch.testing.assert_close(whole[0], REWARD[0] + 0.9 * REWARD[1] + 0.81 * REWARD[2] + 0.729 * VALUE[2])


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 6), st.integers(0, 100))
def test_a_value_that_is_right_makes_every_trace_give_the_same_return(
    discount: float, trace: float, steps: int, seed: int
) -> None:
    reward = torch.rand(steps, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    end = torch.full((3,), 0.7, dtype=torch.float64)
    exact = [end]
    for r in reward.flip(0):
        exact.append(r + discount * exact[-1])
    following = torch.stack(
        exact[::-1]
    )  # (K + 1, R): return from the start of every step, and the value at the end
    torch.testing.assert_close(lambda_returns(reward, following[1:], discount, trace), following[:-1])


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match="must have one shape"):
        lambda_returns(REWARD, VALUE[:2], 0.9, 0.9)


def test_advantages_compare_within_the_group_first_and_with_the_value_later() -> None:
    returns = torch.tensor([[1.0, 3.0, 10.0, 10.0], [5.0, 1.0, 0.0, 2.0]])
    value = torch.tensor([[4.0, 4.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    found = advantages(returns, value, group=2)
    raw = torch.tensor([[-1.0, 1.0, 0.0, 0.0], [1.0, -3.0, -1.0, 1.0]])
    torch.testing.assert_close(found, raw / raw.std(correction=0))
    alone = advantages(returns, None, group=2)
    torch.testing.assert_close(alone.unflatten(1, (2, 2)).sum(dim=2), torch.zeros(2, 2))
    assert torch.equal(advantages(torch.ones(1, 4), None, 2), torch.zeros(1, 4))


def test_shares_are_exponential_within_a_group_and_equal_between_groups() -> None:
    shares = improved_shares(torch.tensor([[0.0, 1.0, 5.0, 5.0]]), group=2, temperature=0.5)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0, :2].sum() == pytest.approx(0.5)
    assert (shares[0, 1] / shares[0, 0]).log() == pytest.approx(2.0)
    assert shares[0, 2] == shares[0, 3]


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=12), st.integers(1, 40), st.integers(0, 1000))
def test_no_row_is_drawn_a_whole_time_more_or_less_than_its_share(
    raw: list[float], count: int, seed: int
) -> None:
    torch.manual_seed(seed)
    shares = torch.tensor(raw) / sum(raw)
    drawn = torch.bincount(drawn_rows(shares, count), minlength=len(raw))
    assert drawn.sum() == count
    assert bool(((drawn - count * shares).abs() < 1 + 1e-4).all())


def test_the_mean_loss_of_drawn_rows_is_the_weighted_loss_of_all() -> None:
    torch.manual_seed(0)
    shares, losses = torch.tensor([0.05, 0.6, 0.35]), torch.tensor([1.0, 2.0, 4.0])
    means = torch.stack([losses[drawn_rows(shares, 7)].mean() for _ in range(2000)])
    assert means.mean() == pytest.approx(float(shares @ losses), abs=0.01)


# -------------------------------------------------------------------------------------------------- exploitation


def test_a_change_is_the_paired_mean_with_its_interval_of_student() -> None:
    """Differences 0, 1, 2, 3, 4: mean 2, standard error sqrt(2.5 / 5), 2.776 of them on each side."""
    found = mean_change([0.0] * 5, [0.0, 1.0, 2.0, 3.0, 4.0])
    assert (found.n, found.mean) == (5, 2.0)
    assert found.high - found.mean == pytest.approx(2.7764 * 0.5**0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("imagined", "real", "flagged"),
    [
        (1.0, 0.0, True),  # only the dream got better
        (1.0, -1.0, True),
        (1.0, 1.0, False),  # both did
        (2.0, 1.0, False),  # the dream exaggerates, but the world got better
        (0.0, 0.0, False),
        (-1.0, -2.0, False),
    ],
)
def test_only_a_rise_that_is_not_real_is_flagged(imagined: float, real: float, flagged: bool) -> None:
    noise = [0.1, -0.1, 0.05, -0.05, 0.0, 0.02]
    before = Returns(tuple(noise), tuple(noise[::-1]))
    after = Returns(tuple(imagined + n for n in noise[::-1]), tuple(real + n for n in noise))
    found = exploitation(before, after)
    assert found.flagged == flagged
    assert after.gap == pytest.approx(imagined - real)


def test_returns_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DataError, match="at least 5"):
        Returns((1.0,) * 4, (1.0,) * 4)
    with pytest.raises(DataError, match="not finite"):
        Returns((1.0,) * 5, (*[1.0] * 4, float("nan")))
    with pytest.raises(DataError, match="measure from the same ones"):
        exploitation(Returns((1.0,) * 5, (1.0,) * 5), Returns((1.0,) * 6, (1.0,) * 6))
