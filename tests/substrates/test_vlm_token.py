"""The next stage in words: they say where and whether open, they come back, and the action listens to them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scenes import ABOVE, SIDE, look, pose, scene_spec
from support import ToyWindows, acting_observation
from wamkit.actions import BinsConfig, ChunkConfig
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError, DataError
from wamkit.estimators import AutoregressorConfig, DenoiserConfig, UnmaskerConfig
from wamkit.substrates import VlmToken, VlmTokenConfig
from wamkit.training import OptimConfig
from wamkit.trunks import TransformerConfig, VlmExpertConfig
from wamkit.zoo import recipe

DATA = scene_spec()
PLATE = pose(0.1, -0.1, 0.2, 0.4)
TARGET = VlmTokenConfig(opening="open")


def substrate(**options: object) -> VlmToken:
    return replace(TARGET, **options).build(DATA)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------- tokens


@settings(max_examples=60, deadline=None)
@given(st.floats(-0.25, 0.25), st.floats(-0.25, 0.25), st.sampled_from([16, 64, 1024]))
def test_tokens_say_where_the_bodies_are_in_the_picture(x: float, y: float, bins: int) -> None:
    words = substrate(bodies=("gripper", "object"), bins=bins)
    grip = pose(x, y, 0.5)
    values = words.encode(look([PLATE], gripper=grip[None]))
    spec = words.spec("future", "future", 1)
    assert values.shape == (1, spec.steps, spec.tokens)
    assert spec.vocabulary == bins + 3
    # Straight down from 1 m: a point at (x, y, z) stands f * (x, -y) / (1 - z) from the middle of the picture.
    focal = SIDE / 2 / np.tan(np.deg2rad(30))
    for body, (px, py, pz) in enumerate(((x, y, 0.5), PLATE[:3].tolist())):
        true = torch.tensor([SIDE / 2 + focal * px / (1 - pz), SIDE / 2 - focal * py / (1 - pz)])
        assert (words.points(values)[0, 0, body] - true).abs().max() <= SIDE / bins / 2 + 1e-3


def test_what_the_view_does_not_show_is_not_invented() -> None:
    words = substrate()
    for place in (pose(3.0, 0.0, 0.5), pose(0.0, 0.0, 1.5)):  # beside the picture, behind the camera
        values = words.encode(look([PLATE], gripper=place[None]))
        assert words.points(values).isnan().all()
        assert words.text(values[0, 0]) == "outside gripper ; closed"


def test_the_gripper_is_called_open_from_the_threshold_on() -> None:
    frame = look([PLATE] * 3)
    frame.state[0, :, 3] = torch.tensor([0.2, 0.5, 0.9])
    words = substrate()
    values = words.encode(frame)
    assert words.opened(values)[0].tolist() == [False, True, True]
    assert words.text(values[0, 2]).endswith(" ; open")
    silent = substrate(opening="")
    assert silent.encode(frame).shape == (1, 3, 2)
    with pytest.raises(ConfigError, match="do not include the gripper"):
        silent.opened(silent.encode(frame))


def test_the_text_is_that_of_paligemma() -> None:
    words = substrate()
    values = words.encode(look([PLATE], gripper=pose(0.0, 0.0, 0.5)[None]))
    assert words.text(values[0, 0]) == "<loc0512><loc0512> gripper ; closed"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_text_and_parse_are_inverse(data: st.DataObject) -> None:
    bodies = data.draw(st.sampled_from([("gripper",), ("object", "gripper")]))
    words = substrate(bodies=bodies, bins=100, opening=data.draw(st.sampled_from(["", "open"])))
    place = st.one_of(st.just((102, 102)), st.tuples(st.integers(0, 99), st.integers(0, 99)))
    ids = [i for _ in bodies for i in data.draw(place)]
    ids += [data.draw(st.integers(100, 101))] if words.opening is not None else []
    values = torch.tensor(ids)
    assert torch.equal(words.parse(words.text(values)), values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<loc0001><loc0002> gripper",
        "<loc0001> gripper ; open",
        "<loc1024><loc0002> gripper ; open",
        "<loc0001><loc0002> gripper ; ajar",
    ],
)
def test_a_text_that_is_no_target_is_refused(text: str) -> None:
    expected = re.escape("Expected a text like '<loc0000><loc0000> gripper ; open'")
    with pytest.raises(DataError, match=expected):
        substrate().parse(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"camera": "scne"}, "no camera 'scne'.*scene"),
        ({"bodies": ("gripper", "gripper")}, r"VlmTokenConfig\.bodies: must name each entry once"),
        ({"bins": 1}, r"VlmTokenConfig\.bins: must be at least 2 .*got 1"),
        ({"opening": "opn"}, "no state dimension 'opn'.*open"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        substrate(**options)
    with pytest.raises(ConfigError, match="gripper_pose"):
        TARGET.build(replace(DATA, extras={}))


# ------------------------------------------------------------------------------------------------------- designs


class Reaching(ToyWindows):
    """The gripper draws a curve under the camera; the action is where it will be in eight ticks."""

    def __init__(self) -> None:
        super().__init__()
        later = self.state[np.minimum(np.arange(self.num_frames) + 8, self.num_frames - 1)]
        self.action = later.astype(np.float32)

    def _observe(self, steps: np.ndarray, tasks: tuple[str, ...]) -> Observation:
        seen = super()._observe(steps, tasks)
        still = torch.tensor([0.5, 1.0, 0.0, 0.0, 0.0]).expand(*seen.state.shape[:2], 5)
        grip = torch.cat((0.25 * seen.state[..., :2], still), dim=-1)
        return replace(seen, extras={"gripper_pose": grip, "camera.scene": ABOVE.expand(*grip.shape[:2], 8)})

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        batch = super().windows(index, spec)
        return replace(batch, action=batch.action[:, :1].expand_as(batch.action))


def design(writer: str = "autoregressor", coupling: str = "post_head") -> DesignConfig:
    """Like AVP: the model writes the next stage in tokens, an expert acts under their guidance."""
    tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    facts = {"model_type": "llama", "intermediate_size": 48, "vocab_size": 8, "pad_token_id": 0, **tiny}
    model = VlmExpertConfig(architecture=json.dumps({"config": facts}), width=32, language=("future",))
    estimators = {
        "writer": AutoregressorConfig()
        if writer == "autoregressor"
        else UnmaskerConfig(steps=2, temperature=0.0),
        "policy": DenoiserConfig(steps=3, temperature=0.0),
    }
    return replace(
        recipe("direct"),
        width=32,
        horizon=8,
        encoders={"state": StateConfig()},
        substrates={"words": replace(TARGET, bins=32)},
        futures={"future": FutureConfig("words", (8,))},
        action=ChunkConfig(ticks_per_token=4),
        trunks={"main": model},
        estimators=estimators,
        factors=(Factor(("future",), (), "writer"), Factor(("action",), ("future",), "policy")),
    )


def spec_of(data: DataSpec) -> DataSpec:
    return replace(data, extras=DATA.extras)


def train(config: DesignConfig, data: DataSpec, windows: Reaching, steps: int) -> Design:
    torch.manual_seed(0)
    model = Design(config, data)
    optimizer = OptimConfig(lr=3e-3, warmup=10).build(model)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        loss = model.loss(windows.windows(rng.integers(300, size=48), model.training_window)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def pixels_off(one: Tensor, two: Tensor) -> float:
    """Mean distance where both are told; a place that is not told counts as half a picture off."""
    return (one - two).norm(dim=-1).nan_to_num(SIDE / 2).mean().item()


@pytest.mark.learns
@pytest.mark.parametrize("writer", ["autoregressor", "unmasker"])
def test_tokens_decode_to_the_next_stage_and_the_action_listens(writer: str, data: DataSpec) -> None:
    windows = Reaching()
    model = train(design(writer), spec_of(data), windows, 120)
    rows = list(range(305, 385, 4))
    seen = acting_observation(windows, rows, model.window)
    truth = model.targets(windows.windows(np.array(rows), model.training_window))["future"].values
    made = model.sample(seen, ["future", "action"], seeds=rows).values
    words = model.substrates["words"]
    assert isinstance(words, VlmToken)
    error = pixels_off(words.points(made["future"]), words.points(truth))
    places = words.points(truth).flatten(0, 2)
    chance = torch.cdist(places, places).mean().item()  # any other row's target
    opened = (words.opened(made["future"]) == words.opened(truth)).float().mean().item()
    true = torch.from_numpy(windows.action[rows])

    def miss(values: Tensor) -> float:
        return (model.action.decode(values)[:, 0, :2] - true[:, :2]).abs().mean().item()

    swapped = model.sample(
        seen, ["action"], seeds=rows, given={"future": truth.roll(len(rows) // 2, 0)}
    ).values
    moved = (swapped["action"] - made["action"]).abs().mean().item()
    print(f"{writer}: {error:.2f} px (chance {chance:.2f}), open {opened:.2f}, n = {len(rows)}")
    print(
        f"action misses {miss(made['action']):.3f}, with other tokens {miss(swapped['action']):.3f}, moves {moved:.3f}"
    )
    assert error < 0.4 * chance
    assert opened > 0.8
    assert moved > 0.05
    assert miss(swapped["action"]) > 1.2 * miss(made["action"])


def test_the_survey_tuple_and_the_status_are_computed(data: DataSpec) -> None:
    spec = spec_of(data)
    words = Design(design(), spec)
    assert tuple(words.cells().values()) == (
        "Feature (VLM token)",
        "Post-prediction head",
        "LLM/VLM",
        "Chunked",
    )
    assert (words.graph.wam().kind, words.graph.wam().paths) == ("WAM", ("produces",))
    plain = TransformerConfig(width=32, depth=2, heads=2)
    unread = replace(
        design(),
        trunks={"main": plain, "other": plain},
        estimators={"writer": AutoregressorConfig(trunk="other"), "policy": DenoiserConfig()},
        factors=(Factor(("future",), (), "writer"), Factor(("action",), (), "policy")),
    )
    assert Design(unread, spec).graph.wam().kind == "VLA"  # tokens that nothing reads


def test_action_tokens_alone_are_no_future(data: DataSpec) -> None:
    """As RT-2: the same model writes tokens, but all of them are actions."""
    base = design()
    (model,) = base.trunks.values()
    alone = replace(
        base,
        substrates={},
        futures={},
        action=BinsConfig(bins=32),
        trunks={"main": replace(model, expert=(), language=("action",))},  # type: ignore[type-var]
        estimators={"writer": AutoregressorConfig()},
        factors=(Factor(("action",), (), "writer"),),
    )
    built = Design(alone, data)
    assert tuple(built.cells().values()) == ("None", "Direct", "LLM/VLM", "Chunked")
    assert (built.graph.wam().kind, built.graph.wam().is_wam) == ("VLA", False)
