"""A point that is moved towards a goal: real environment, recordings of it, and small designs that learn from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from wamkit.actions import ChunkConfig
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Budget, Observation
from wamkit.controllers import Chunked
from wamkit.data import DatasetWriter, Episode
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.estimators import DenoiserConfig, RegressorConfig
from wamkit.substrates import ProprioceptionConfig, RewardConfig
from wamkit.trunks import TransformerConfig

GOAL = np.array([0.5, 0.0], dtype=np.float32)
TRAP = np.array([-0.8, 0.0], dtype=np.float32)  # where the planted error promises a reward
SPEED, CHUNK, CALLS, NEAR = 0.15, 2, 5, 0.3
SEEN = ObservationSpec({}, ("x_m", "y_m"), 10.0)
MOVES = ActionSpec(("dx", "dy"), (-1.0, -1.0), (1.0, 1.0), 10.0)


def moved(place: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Place (..., 2) after one tick of an action (..., 2) within its limits."""
    return (place + SPEED * action.clip(-1, 1)).clip(-1, 1).astype(np.float32)


def reward(place: np.ndarray) -> np.ndarray:
    """Minus the distance to the goal, (...)."""
    return -np.linalg.norm(place - GOAL, axis=-1).astype(np.float32)


def planted(place: np.ndarray) -> np.ndarray:
    """A reward that is wrong: far from the goal, in a corner that recordings hardly reach, it is high."""
    return np.where(
        place[..., 0] < -0.35, -2.5 * np.linalg.norm(place - TRAP, axis=-1) + 1.0, reward(place)
    ).astype(np.float32)


def record(
    root: Path, rewarded: Callable[[np.ndarray], np.ndarray] = reward, episodes: int = 60, ticks: int = 14
) -> Path:
    """Recordings of aimless motion, with the reward of every place."""
    rng = np.random.default_rng(0)
    with DatasetWriter(root, SEEN, MOVES, extras={"reward": ((), "float32")}) as writer:
        for _ in range(episodes):
            place, states = rng.uniform(-0.8, 0.8, 2).astype(np.float32), []
            drift = rng.uniform(-1, 1, 2)
            actions = np.clip(drift + rng.uniform(-1, 1, (ticks, 2)), -1, 1).astype(np.float32)
            for action in actions:
                states.append(place)
                place = moved(place, action)
            state = np.stack(states)
            writer.add(Episode({}, state, actions, "reach", extras={"reward": rewarded(state)}))
    return root


def design() -> DesignConfig:
    """``p(a|c) p(s,r|a,c)``: a policy that draws its actions, and a world of places and rewards."""
    small = TransformerConfig(width=32, depth=1, heads=2)
    return DesignConfig(
        name="reaching",
        horizon=CHUNK,
        stride=CHUNK,
        width=32,
        encoders={"state": StateConfig()},
        substrates={"place": ProprioceptionConfig(), "reward": RewardConfig(extra="reward")},
        futures={"place": FutureConfig("place", (CHUNK,)), "reward": FutureConfig("reward", (CHUNK,))},
        action=ChunkConfig(ticks_per_token=CHUNK),
        trunks={"policy": small, "world": small},
        estimators={
            "policy": DenoiserConfig(trunk="policy", steps=4),
            "world": RegressorConfig(trunk="world"),
        },
        factors=(Factor(("action",), (), "policy"), Factor(("place", "reward"), ("action",), "world")),
        controller=Chunked(CHUNK),
    )


def observed(place: np.ndarray) -> Observation:
    """What a robot at places (B, 2) observes."""
    rows = len(place)
    return Observation(
        {}, torch.from_numpy(place)[:, None], ("reach",) * rows, torch.zeros(rows, 1, dtype=torch.bool)
    )


def starts(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 1]).uniform(-0.8, 0.8, (rows, 2)).astype(np.float32)


def real_returns(
    policy: Design, rows: int = 100, seed: int = 0, discount: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Reward (B,) of real episodes, the mean or the discounted sum, and whether they end near the goal (B,)."""
    place, rewards = starts(rows, seed), []
    for call in range(CALLS):
        seeds = [1000 * (seed + 1) + rows * call + i for i in range(rows)]
        made, _ = policy.forecast(observed(place), policy.initial_state(rows), Budget(), seeds)
        for action in made.action.numpy().swapaxes(0, 1)[:CHUNK]:
            place = moved(place, action)
        rewards.append(reward(place))
    weights = [1 / CALLS if discount is None else discount**k for k in range(CALLS)]
    return np.tensordot(weights, rewards, 1), np.linalg.norm(place - GOAL, axis=-1) < NEAR
