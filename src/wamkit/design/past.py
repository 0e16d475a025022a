"""Past of a design: real blocks, read off observations, and what of them stays in the carried state.

A block is `stride` ticks, counted from the start of the episode, and the observation at its end.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wamkit.contract.protocols import Substrate
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import Past
from wamkit.contract.types import Carries, Forecast, Observation, choose_rows
from wamkit.design.action_streams import ActionStreams


def read_past(
    observation: Observation,
    executed: Tensor,
    pad: Tensor,
    stride: int,
    futures: Mapping[str, Substrate],
    actions: ActionStreams,
) -> Past:
    """Real blocks: observed values at the K observed steps and the ``stride`` executed actions before each.

    Args:
        observation: K observed steps.
        executed: (B, K * stride, A).
        pad: (B, K * stride) bool, True where no action was executed.
        stride: actions of one block.
        futures: future stream -> its substrate.
        actions: representations of the action, of which that of ``action`` is kept.
    """
    k, rows = observation.pad.shape[1], executed.shape[0]
    columns = observation.action_columns
    repeated = None if columns is None else columns.repeat_interleave(k, dim=0)
    flat = executed.unflatten(1, (k, stride)).flatten(0, 1)
    blocks = actions.encode_one(ACTION, flat, repeated).unflatten(0, (rows, k))
    values = {name: substrate.encode(observation) for name, substrate in futures.items()}
    return Past(values, blocks, observation.pad, pad.unflatten(1, (k, stride)).any(dim=2))


def imagined_past(forecast: Forecast, action: Tensor) -> Past:
    """First block of a forecast as if it had been observed, ``action`` (B, T, N, D) the values of its actions."""
    unpadded = torch.zeros(action.shape[0], 1, dtype=torch.bool, device=action.device)
    first = {name: values[:, :1] for name, values in forecast.future.items()}
    return Past(first, action[:, None], unpadded, unpadded)


def unfinished(pad: Tensor) -> Tensor | None:
    """Rows (B,) bool whose block of executed actions, padded where ``pad`` (B, P), is not over yet; None for no row.

    A block without any action is the start of an episode, and whole.
    """
    partial = pad.any(dim=1) & ~pad.all(dim=1)
    return partial if bool(partial.any()) else None


def kept(observation: Observation, before: Carries, after: Carries) -> Carries:
    """State to keep after ``observation`` was taken in: only whole blocks stay in it.

    A call inside a block reads its own moment too, but leaves no trace, so that the state is a function of what
    happened, and not of when the design was called.
    """
    partial = None if observation.past_action_pad is None else unfinished(observation.past_action_pad)
    return after if partial is None else choose_rows(partial, before, after)
