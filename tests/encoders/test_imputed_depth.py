"""Depth imputed from colour: right about which of two objects is nearer, and flagged exactly where it stands in."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scenes import ASLANT, SIDE, look, pose, scene_spec, shifted
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Batch, Budget, Observation, WindowSpec
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.encoders import DepthConfig, DepthEncoder, StateConfig
from wamkit.encoders.imputed_depth import SCALE_FREE, DepthImputer, scale_invariant
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError, DataError, SpecError
from wamkit.estimators import DenoiserConfig
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, rollout
from wamkit.geometry.cameras import moved
from wamkit.substrates import EmaFeatureConfig
from wamkit.trunks import TransformerConfig
from wamkit.verbs.load import unit_stats

DATA = scene_spec()
WINDOW = WindowSpec(observation=(-2, 0))
APART_M = 0.05
CONFIG = DepthConfig(impute=True, impute_steps=200)


def arrangement(rng: np.random.Generator) -> list[Tensor]:
    """Two plates beside each other; which is left, how high each is and how it lies follows chance."""
    left = rng.choice([-1, 1])
    return [
        pose(
            side * rng.uniform(0.2, 0.24), rng.uniform(-0.1, 0.1), rng.uniform(0.05, 0.4), rng.uniform(0, 1.5)
        )
        for side in (left, -left)
    ]


class Scenes:
    """Arrangements as a dataset of independent frames; ``unsensed`` of them have no depth, but garbage."""

    def __init__(self, count: int, seed: int, unsensed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.num_frames = count
        self.plates = [arrangement(rng) for _ in range(count)]
        seen = [look([first], second=second) for first, second in self.plates]
        self.images = torch.cat([o.images["scene"] for o in seen])[:, 0]
        self.extras = {name: torch.cat([o.extras[name] for o in seen])[:, 0] for name in seen[0].extras}
        self.truth = self.extras["depth.scene"].clone()
        self.missing = torch.arange(count) < unsensed
        self.extras["depth.scene"][self.missing] = math.nan

    def _observe(self, rows: np.ndarray, offsets: tuple[int, ...]) -> Observation:
        steps = torch.from_numpy(rows[:, None] + np.array(offsets))
        inside = steps.clip(0, self.num_frames - 1)
        return Observation(
            {"scene": self.images[inside]},
            torch.zeros(*steps.shape, 4),
            ("push it",) * len(rows),
            steps != inside,
            {name: values[inside] for name, values in self.extras.items()},
            missing={"depth.scene": self.missing[inside]},
        )

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        action = torch.zeros(len(index), spec.past_actions + spec.horizon, 4)
        return Batch(
            self._observe(index, spec.observation),
            action,
            torch.zeros(action.shape[:2], dtype=torch.bool),
            spec.past_actions,
            self._observe(index, spec.future) if spec.future else None,
        )


def build(config: DepthConfig = CONFIG) -> DepthEncoder:
    torch.manual_seed(0)
    return config.build(DATA, WINDOW, 16).eval()


@pytest.fixture(scope="module")
def fitted() -> DepthEncoder:
    encoder = build()
    encoder.fit(Scenes(300, seed=0, unsensed=40), seed=0)
    return encoder


@pytest.fixture(scope="module")
def held_out() -> Scenes:
    return Scenes(120, seed=1)


# ------------------------------------------------------------------------------------------------- the network


def object_depths(depth: Tensor, ids: Tensor) -> Tensor:
    """Mean depth of each of the two plates, (M, 2), from depths and object ids (M, rows, columns)."""
    masks = torch.stack([ids == 1, ids == 2], dim=1)
    assert masks.flatten(2).any(dim=2).all()
    return (depth[:, None] * masks).sum(dim=(2, 3)) / masks.sum(dim=(2, 3))


@pytest.mark.learns
def test_the_order_of_two_objects_is_kept_in_arrangements_never_seen(
    fitted: DepthEncoder, held_out: Scenes
) -> None:
    frames = held_out.windows(np.arange(held_out.num_frames), WindowSpec(horizon=1)).observation
    ids = held_out.extras["object_id.scene"][:, 1::2, 1::2]  # the pixels at which points are read
    known = torch.stack([1.0 - torch.stack([p[2] for p in plates]) for plates in held_out.plates])
    apart = (known[:, 0] - known[:, 1]).abs() > APART_M
    nearer = (known[:, 0] < known[:, 1])[apart]
    assert apart.sum() > 60
    assert 0.3 < nearer.float().mean() < 0.7

    def order(images: Tensor) -> Tensor:
        depth = fitted.imputed(replace(frames, images={"scene": images}))[:, 0]
        found = object_depths(depth, ids)[apart]
        return ((found[:, 0] < found[:, 1]) == nearer).float().mean()

    assert order(frames.images["scene"]) > 0.95
    others = frames.images["scene"].roll(1, dims=0)
    assert order(others) < 0.8  # it is the picture that tells, not what scenes look like on average
    error = (fitted.imputed(frames)[:, 0] / fitted.measured(frames)[:, 0] - 1).abs().mean()
    assert error < 0.06


def test_a_fit_follows_its_seed_and_nothing_else() -> None:
    few = replace(CONFIG, impute_steps=3)
    encoders = [build(few) for _ in range(3)]
    data = Scenes(20, seed=0)
    for encoder, seed in zip(encoders, (0, 0, 1), strict=True):
        torch.rand(encoder.config.grid + seed)  # the state of the global generator does not matter
        before = torch.get_rng_state()
        encoder.fit(data, seed)
        assert torch.equal(torch.get_rng_state(), before)
    states = [encoder.state_dict() for encoder in encoders]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["imputer.leave.weight"], states[2]["imputer.leave.weight"])
    assert not any(p.requires_grad or p.grad is not None for p in encoders[0].imputer.parameters())  # type: ignore[union-attr]


def test_imputing_changes_no_other_weight_and_no_token_that_has_its_depth() -> None:
    frame = look([pose(0.05, 0.02, 0.2, 0.3)] * 2, camera=ASLANT)
    plain, imputing = build(DepthConfig()), build()
    for name, value in plain.state_dict().items():
        assert torch.equal(imputing.state_dict()[name], value)
    assert torch.equal(plain(frame)[0], imputing(frame)[0])


def test_the_error_forgives_half_of_a_common_factor_and_what_is_not_known() -> None:
    g = torch.Generator().manual_seed(0)
    truth, known = torch.randn(3, 4, 4, generator=g), torch.rand(3, 4, 4, generator=g) < 0.7
    factor = torch.tensor([0.0, 0.3, -2.0])[:, None, None]
    wild = torch.where(known, truth + factor, math.inf)
    expected = (1 - SCALE_FREE) * factor.square().mean()
    torch.testing.assert_close(scale_invariant(wild, truth, known), expected)
    assert scale_invariant(truth, truth, torch.zeros_like(known)) == 0


@pytest.mark.parametrize(("side", "size"), [(1, (8, 8)), (6, (12, 18)), (9, (72, 144)), (16, (16, 16))])
def test_every_side_and_picture_size_is_tiled(side: int, size: tuple[int, int]) -> None:
    imputer = DepthImputer(side, size, far_m=2.0, steps=2)
    images = torch.randint(256, (5, 3, *size), dtype=torch.uint8)
    imputer.fit(images, torch.full((5, side, side), 1.5), seed=0)
    depth = imputer(images)
    assert depth.shape == (5, side, side)
    torch.testing.assert_close(depth, torch.full_like(depth, 1.5), atol=0.01, rtol=0)


# ------------------------------------------------------------------------------------------------- the flag


def pair() -> Observation:
    """Two rows of two steps, all with depth."""
    rows = [look([pose(x, 0.02, 0.2, 0.3), pose(-x, 0.1, 0.3)], camera=ASLANT) for x in (0.05, -0.1)]
    return replace(
        rows[0],
        images={"scene": torch.cat([r.images["scene"] for r in rows])},
        state=torch.zeros(2, 2, 4),
        task=("push it",) * 2,
        pad=torch.zeros(2, 2, dtype=torch.bool),
        extras={name: torch.cat([r.extras[name] for r in rows]) for name in rows[0].extras},
    )


@pytest.mark.learns
@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.sampled_from([0.0, math.nan, math.inf, -1e30]),
    st.booleans(),
)
def test_the_flag_is_set_exactly_where_depth_is_missing(
    fitted: DepthEncoder, gone: list[bool], garbage: float, impute: bool
) -> None:
    encoder = fitted if impute else build(DepthConfig())
    frames, mask = pair(), torch.tensor(gone).view(2, 2)
    depth = frames.extras["depth.scene"].masked_fill(mask[..., None, None], garbage)
    torn = replace(frames, extras={**frames.extras, "depth.scene": depth}, missing={"depth.scene": mask})
    tokens = encoder(torn)[0].unflatten(1, (2, -1))
    given_points = encoder.embed(encoder.points(frames).flatten(3))
    marked = encoder.fallback.expand_as(given_points)
    if impute:
        marked = encoder.embed(encoder.lifted(encoder.imputed(frames), frames).flatten(3)) + encoder.fallback
    expected = torch.where(mask[..., None, None], marked, given_points) + encoder.cell + encoder.time
    torch.testing.assert_close(tokens, expected)
    whole = encoder(frames)[0].unflatten(1, (2, -1))
    assert torch.equal(tokens[~mask], whole[~mask])
    assert not any(torch.equal(a, b) for a, b in zip(tokens[mask], whole[mask], strict=True))


@pytest.mark.learns
def test_depth_that_is_not_there_at_all_is_missing_everywhere(fitted: DepthEncoder) -> None:
    frames = pair()
    flagged = replace(frames, missing={"depth.scene": torch.ones(2, 2, dtype=torch.bool)})
    extras = {name: value for name, value in frames.extras.items() if name != "depth.scene"}
    blind = replace(frames, extras=extras)
    assert torch.equal(fitted(blind)[0], fitted(flagged)[0])
    assert not torch.allclose(fitted(blind)[0], fitted(frames)[0])
    with pytest.raises(SpecError, match=r"no extra 'depth.scene'"):
        build(DepthConfig())(blind)
    with pytest.raises(SpecError, match=r"no extra 'camera.scene'"):
        fitted(replace(frames, extras={"depth.scene": frames.extras["depth.scene"]}))


@pytest.mark.parametrize("impute", [True, False])
def test_without_the_camera_no_point_is_placed(impute: bool) -> None:
    encoder, frames = build(replace(CONFIG, impute=impute)), pair()
    found = []
    for garbage in (0.0, math.nan):
        extras = {**frames.extras, "camera.scene": frames.extras["camera.scene"].clone()}
        extras["camera.scene"][1, 0] = garbage
        gone = {"camera.scene": torch.tensor([[False, False], [True, False]])}
        for missing in (gone, {**gone, "depth.scene": gone["camera.scene"]}):
            tokens = encoder(replace(frames, extras=extras, missing=missing))[0].unflatten(1, (2, -1))
            torch.testing.assert_close(tokens[1, 0], encoder.fallback + encoder.cell + encoder.time[0])
            found.append(tokens)
    assert all(torch.equal(found[0], other) for other in found)


@pytest.mark.learns
def test_imputed_points_move_with_scene_and_camera(fitted: DepthEncoder) -> None:
    frame, by = look([pose(0.05, 0.02, 0.2, 0.3)], camera=ASLANT), pose(0.7, -0.4, 0.3, 1.1)
    frame = replace(frame, missing={"depth.scene": torch.ones(1, 1, dtype=torch.bool)})
    carried = replace(shifted(frame, by), missing=frame.missing)
    for name in ("camera", "gripper"):
        local = build(replace(CONFIG, frame=name))  # type: ignore[arg-type]
        local.imputer = fitted.imputer
        torch.testing.assert_close(local(carried)[0], local(frame)[0], atol=1e-5, rtol=0)
    before, after = (fitted.lifted(fitted.imputed(o), o).flatten(0, 3) for o in (frame, carried))
    origin = torch.tensor([0.0, 0, 0, 1, 0, 0, 0])
    torch.testing.assert_close(after, moved(before, origin, by), atol=1e-5, rtol=0)


@pytest.mark.learns
def test_depth_is_dropped_in_training_only(fitted: DepthEncoder) -> None:
    encoder, frames = build(replace(CONFIG, dropout=1.0)), pair()
    flagged = replace(frames, missing={"depth.scene": torch.ones(2, 2, dtype=torch.bool)})
    marked = encoder(flagged)[0]
    assert not torch.equal(encoder(frames)[0], marked)
    assert torch.equal(encoder.train()(frames)[0], marked)
    marked.sum().backward()
    assert encoder.fallback.grad is not None


def test_what_cannot_be_imputed_is_refused() -> None:
    with pytest.raises(ConfigError, match="impute_steps: must be at least 1, got 0"):
        build(replace(CONFIG, impute_steps=0))
    with pytest.raises(ConfigError, match=r"dropout: must be at least 0 and at most 1, got 1\.5"):
        build(replace(CONFIG, dropout=1.5))
    finer = replace(DATA, extras={**DATA.extras, "depth.scene": (2 * SIDE, 2 * SIDE)})
    with pytest.raises(ConfigError, match="have 32 x 32 pixels and its depth 64 x 64"):
        CONFIG.build(finer, WINDOW, 16)
    with pytest.raises(DataError, match="none of 0 frames has a finite depth"):
        build().fit(Scenes(4, seed=0, unsensed=4), seed=0)
    poor = Scenes(4, seed=0)
    del poor.extras["depth.scene"]
    with pytest.raises(SpecError, match=r"no extra 'depth.scene'"):
        build().fit(poor, seed=0)


# ------------------------------------------------------------------------------------------------- the design


def design_config(**change: object) -> DesignConfig:
    config = DesignConfig(
        horizon=8,
        stride=4,
        width=16,
        encoders={"state": StateConfig(), "depth": replace(CONFIG, impute_steps=5, dropout=0.5)},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
        estimators={"policy": DenoiserConfig(steps=1, draws=1)},
        factors=(Factor(("action",), (), "policy"),),
        controller=Chunked(4),
    )
    return replace(config, **change)  # type: ignore[arg-type]


def test_a_design_imputes_after_training_and_after_reloading(tmp_path: Path) -> None:
    torch.manual_seed(0)
    design, data = Design(design_config(), DATA), Scenes(20, seed=0)
    design.fit(data, 0)
    fixed = {name: value.clone() for name, value in design.encoders["depth"].state_dict().items()}
    optimizer = torch.optim.SGD([p for p in design.parameters() if p.requires_grad], lr=0.1)
    for step in range(2):
        loss = design.train().loss(data.windows(np.arange(8) + step, design.training_window))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    now = design.encoders["depth"].state_dict()
    assert all(torch.equal(now[name], fixed[name]) for name in fixed if name.startswith("imputer"))
    assert not torch.equal(now["fallback"], fixed["fallback"])
    assert set(design.droppable) == {"camera.scene", "depth.scene"}

    save_pretrained(design.eval(), tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    seen = data.windows(np.array([3, 9]), design.window).observation
    seen = replace(seen, missing={"depth.scene": torch.tensor([[True], [False]])})
    blank = replace(seen, images={"scene": torch.zeros_like(seen.images["scene"])})
    acted, reloaded, blind = (
        d.forecast(o, d.initial_state(2), Budget(), [1, 2])[0].action
        for d, o in ((design, seen), (again, seen), (design, blank))
    )
    assert torch.equal(acted, reloaded)
    assert not torch.equal(acted[0], blind[0])  # this row's depth comes from its picture
    assert torch.equal(acted[1], blind[1])


def test_a_target_that_follows_the_encoder_follows_the_fitted_one() -> None:
    config = design_config(
        substrates={"s": EmaFeatureConfig(encoder="depth")},
        futures={"future": FutureConfig("s", (4,))},
        factors=(Factor(("future", "action"), (), "policy"),),
    )
    torch.manual_seed(0)
    design = Design(config, DATA)
    design.fit(Scenes(20, seed=0), 0)
    online, target = design.encoders["depth"].state_dict(), design.substrates["s"].target.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(online[name], target[name]) for name in online)
    assert online["imputer.usual"].any()


@pytest.mark.sim
def test_depth_that_an_evaluation_drops_is_imputed_from_the_picture() -> None:
    task = "button-press-topdown-v3"
    env = MetaWorldConfig(image_size=32, action_repeat=4, max_ticks=4, record=("camera",))
    extras = {"depth.scene": (32, 32), "camera.scene": (8,)}
    observation, action = env.observation_spec(), env.action_spec()
    stats = {"action": unit_stats(action.width), "observation.state": unit_stats(len(observation.state))}
    spec = DataSpec(observation, action, stats, extras)
    torch.manual_seed(0)
    design = Design(design_config(), spec).eval()
    numb = EvaluationConfig(
        tasks=(task,),
        episodes=1,
        env=env,
        workers=1,
        slots=1,
        films=0,
        latency_calls=0,
        drop=("depth.scene",),
    )
    sensing = replace(numb, env=replace(env, record=("camera", "depth")), drop=())

    def sent(config: EvaluationConfig, policy: Design = design) -> np.ndarray:
        done = rollout(policy, config, progress=False)
        assert [episode.status for episode in done.report.episodes] == ["timeout"]
        return np.concatenate([block.actions for trace in done.traces for block in trace.blocks])

    dropped = sent(numb)
    assert np.isfinite(dropped).all()
    assert not np.allclose(dropped, sent(sensing))
    with pytest.raises(SpecError, match=r"put 'depth.scene' into `drop`"):
        rollout(design, replace(numb, drop=()), progress=False)
