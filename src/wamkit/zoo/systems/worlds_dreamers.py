"""Model-based reinforcement learning: compact states that are imagined forward, to plan or to learn in."""

from __future__ import annotations

from wamkit.controllers import Interactive
from wamkit.design.config import DesignConfig
from wamkit.design.graph import Factor
from wamkit.encoders import ImagesConfig
from wamkit.estimators import ProposerConfig, RegressorConfig, StateSpaceConfig, SummaryConfig
from wamkit.planners import CEMConfig, HighValueConfig
from wamkit.substrates import ProprioceptionConfig, RewardConfig, ValueConfig
from wamkit.zoo.system import system
from wamkit.zoo.systems import parts as p

RSSM = StateSpaceConfig(stochastic=8, hidden=32, past=2)
STEPS = (8, 16)


@system(
    "PlaNet",
    ("ps.latent-state", "cp.rollout", "pl.sampling-mpc"),
    simplified="The reward is one at the end of a success; the recurrent state is small and Gaussian.",
)
def planet() -> DesignConfig:
    """Learn a small recurrent state from pictures and search actions in it: no policy is learned."""
    estimators = {
        "dynamics": RSSM,
        "proposal": ProposerConfig(),
        "reward": RegressorConfig(),
    }
    factors = (
        Factor(("state",), (), "dynamics"),
        Factor(("action",), (), "proposal"),
        Factor(("future",), ("state", "action"), "dynamics"),
        Factor(("reward",), ("state", "action"), "reward"),
    )
    planner = CEMConfig(candidates=12, iterations=2, elites=3, objective=HighValueConfig("reward", "mean"))
    places = {"future": (p.LATENT, STEPS), "reward": (RewardConfig(), STEPS)}
    return p.chain(
        "PlaNet",
        estimators,
        factors,
        places,
        states={"state": 24},
        planner=planner,
        encoders={"images": ImagesConfig()},
    )


@system(
    "DreamerV3",
    ("ps.latent-state", "cp.rollout", "pl.imagination-ac", "pt.wm-rl"),
    simplified="Gaussian codes, not categorical ones; the actor is regressed on its better actions, without entropy "
    "bonus; the return is not normalised by its percentiles.",
    choices="Reward, critic and the decoder of the body read the state and the action that leaves it.",
)
def dreamer_v3() -> DesignConfig:
    """Give the recurrent state an actor and a critic of its own that learn in imagination (`TrainConfig.imagined`)."""
    heads = {name: RegressorConfig() for name in ("body", "reward", "critic")}
    estimators = {"dynamics": RSSM, "actor": p.denoiser(temperature=1.0), **heads}
    then = ("state", "action")
    factors = (
        Factor(("state",), (), "dynamics"),
        Factor(("action",), ("state",), "actor"),
        Factor(("future",), then, "dynamics"),
        Factor(("body",), then, "body"),
        Factor(("reward",), then, "reward"),
        Factor(("value",), then, "critic"),
    )
    scores = {"reward": (RewardConfig(), STEPS), "value": (ValueConfig(), STEPS)}
    places = {"future": (p.LATENT, STEPS), "body": (ProprioceptionConfig(), STEPS), **scores}
    return p.chain(
        "DreamerV3", estimators, factors, places, states={"state": 24}, encoders={"images": ImagesConfig()}
    )


@system(
    "TransDreamer",
    ("ps.latent-state", "oe.rgb-history", "pl.imagination-ac", "pt.wm-rl"),
    simplified="The transformer reads a window of observed or imagined frames; its state is deterministic, and what "
    "comes next is drawn by a denoiser; the actor is regressed on its better actions.",
    choices="Four frames, a step apart.",
)
def transdreamer() -> DesignConfig:
    """Replace the recurrent cell by a transformer over the last frames, real or imagined; learn in imagination."""
    heads = {name: RegressorConfig() for name in ("body", "reward", "critic")}
    world = {"memory": SummaryConfig(), "dynamics": p.denoiser(temperature=1.0)}
    estimators = {**world, "actor": p.denoiser(temperature=1.0), **heads}
    then = ("state", "action")
    factors = (
        Factor(("state",), (), "memory"),
        Factor(("action",), ("state",), "actor"),
        Factor(("future",), then, "dynamics"),
        Factor(("body",), then, "body"),
        Factor(("reward",), then, "reward"),
        Factor(("value",), then, "critic"),
    )
    scores = {"reward": (RewardConfig(), STEPS), "value": (ValueConfig(), STEPS)}
    places = {"future": (p.LATENT, STEPS), "body": (ProprioceptionConfig(), STEPS), **scores}
    return p.chain(
        "TransDreamer",
        estimators,
        factors,
        places,
        states={"state": 16},
        encoders={"images": ImagesConfig()},
        observation=(-24, -16, -8, 0),
    )


@system(
    "Dreamer 4",
    ("dp.interactive", "cp.rollout", "pl.imagination-ac", "pt.wm-rl"),
    simplified="Four evaluations per block instead of shortcut steps; the actor is regressed on its better actions.",
    choices="The compact state is the cache of past blocks; reward and body are read off a block and its action.",
)
def dreamer_4() -> DesignConfig:
    """Denoise one block at a time over a cache of past blocks, so that others can act in it step by step."""
    estimators = {
        "actor": p.denoiser(trunk="actor", temperature=1.0),
        "world": p.denoiser(trunk="world", history=2),
        "readout": RegressorConfig(trunk="readout"),
        "critic": RegressorConfig(trunk="critic"),
    }
    factors = (
        Factor(("action",), (), "actor"),
        Factor(("future",), ("action",), "world"),
        Factor(("reward", "body"), ("future", "action"), "readout"),
        Factor(("value",), ("future",), "critic"),
    )
    places = {
        "future": p.LATENT,
        "reward": RewardConfig(),
        "body": ProprioceptionConfig(),
        "value": ValueConfig(),
    }
    return p.chain(
        "Dreamer 4",
        estimators,
        factors,
        places,
        trunks={name: p.transformer(time_range=4) for name in estimators},
        horizon=8,
        controller=Interactive(execute=8),
    )
