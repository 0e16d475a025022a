"""Recipes small enough for a training step, and values of every kind in any of their fields."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from support import ToyWindows, acting_observation
from wamkit.config import decode, encode
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Budget
from wamkit.design import Design, DesignConfig
from wamkit.errors import WamkitError
from wamkit.training import OptimConfig
from wamkit.zoo import recipe

POOL: tuple[Any, ...] = (
    -1, 0, 1, 2, 3, 10**9, 10**30, -0.5, 0.5, 1.0, 1e9, float("nan"), float("inf"), -float("inf"),
    "", "x", "main", "future", "action", "None", None, True, False, [], {}, [1], [0], [-1, 0], ["x"], {"x": 1}, [[1]],
)  # fmt: skip
SMALL = {
    "width": 16, "depth": 3, "heads": 2, "hidden": 8, "keypoints": 4, "length": 8, "layers": 1, "draws": 1,
    "vocabulary": 16, "stochastic": 4, "features": 4, "steps": 2, "batch_size": 4, "candidates": 4, "elites": 2,
}  # fmt: skip
RECIPES = (
    "direct", "joint", "post_head", "autoregressive", "rollout", "recurrent", "chunk_causal", "pixels", "teacher",
    "noise_prediction", "equilibrium", "masked", "fast_tokens", "regression", "jepa", "shared_trunk", "mixture",
    "inverse_dynamics", "latent_action", "continuous_tokens", "next_scale", "feature_tap", "encoder_only",
)  # fmt: skip


def small(name: str) -> dict[str, Any]:
    """Plain values of a recipe of debug size."""
    values = encode(recipe(name))
    shrink(values)
    values["horizon"], values["stride"] = 8, 4
    values["controller"] = {"type": "chunked", "execute": 4}
    decode(DesignConfig, values, name)
    return values


def shrink(values: Any) -> None:
    """Make every size small, in place."""
    entries = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in entries:
        if isinstance(value, dict | list):
            if key == "channels":
                values[key] = [4] * len(value)
            else:
                shrink(value)
        elif key in SMALL and isinstance(value, int) and value > SMALL[key]:
            values[key] = SMALL[key] if key != "vocabulary" or values.get("type") != "fast" else value


def places(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Path of every value inside plain values, of what holds others too."""
    entries = list(values.items()) if isinstance(values, dict) else list(enumerate(values))
    for key, value in entries:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def put(values: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of plain values with another value at a place."""
    values = copy.deepcopy(values)
    node = values
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return values


def outcome(values: Any, data: DataSpec, toy: ToyWindows) -> str:
    """Decode, build, train one step and act: ``works``, or the words of the refusal.

    Raises:
        AssertionError: the loss is not finite, nothing learned, or the action is not finite.
    """
    torch.manual_seed(0)
    try:
        design = Design(decode(DesignConfig, values, "here"), data)
        design.fit(toy, seed=0)  # type: ignore[arg-type]
        batch = toy.windows(np.arange(40, 44), design.training_window)
        optimizer = OptimConfig().build(design)
        before = {name: value.clone() for name, value in design.named_parameters()}
        loss = design.train().loss(batch).total
        assert loss.isfinite(), loss
        loss.backward()
        optimizer.step()
        design.after_step()
        assert any(not torch.equal(value, before[name]) for name, value in design.named_parameters())
        observation = acting_observation(toy, [40, 41], design.window)
        state = design.eval().initial_state(2)
        action = design.forecast(observation, state, Budget(), seeds=[0, 1])[0].action
        assert action.isfinite().all()
    except WamkitError as error:
        return str(error)
    return "works"
