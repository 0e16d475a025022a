"""Commands (`st.command-levels`): written from recordings as they are said, drawn by shares, and followed alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from plane import SPOTS, Plane, train
from scenes import SIDE, look, pose, scene_spec
from support import data_spec
from wamkit.actions import ChunkConfig
from wamkit.contract import Batch, DataSpec
from wamkit.contract.specs import MILESTONES
from wamkit.controllers import Chunked
from wamkit.design import AxisConfig, Design, DesignConfig, Factor, MotionConfig, PointConfig, WordsConfig
from wamkit.design.commands import CommandConfig
from wamkit.encoders import InstructionConfig, StateConfig
from wamkit.errors import ConfigError, DataError
from wamkit.estimators import RegressorConfig
from wamkit.trunks import TransformerConfig

H = 4
AXES = {
    "x_m": AxisConfig("left", "right", "cm", 100.0),
    "y_m": AxisConfig("down", "up", "cm", 100.0),
    "open": AxisConfig("close", "open", least=0.2),
}
LEVELS: dict[str, CommandConfig] = {
    "task": WordsConfig(),
    "subtask": WordsConfig(template="part {part} of {parts}"),
    "motion": MotionConfig(axes=AXES, ticks=H),
    "place": PointConfig(pose="gripper_pose"),
}


def plane_spec() -> DataSpec:
    """Specs of a point on a plane under one camera."""
    base = data_spec()
    stats = {k: v * (0.3 if k != "mean" else 0.0) for k, v in base.stats["observation.state"].items()}
    return replace(
        base,
        observation=replace(base.observation, cameras={"scene": base.observation.cameras["scene"]}),
        extras={"camera.scene": (8,), "gripper_pose": (7,), MILESTONES: (2,), "stage": (1,)},
        stats={**base.stats, "observation.state": {k: np.asarray(v) for k, v in stats.items()}},
    )


DATA = plane_spec()
PLANE = Plane(DATA, H)


def build(levels: dict[str, CommandConfig] = LEVELS, data: DataSpec = DATA) -> Design:
    torch.manual_seed(0)
    config = DesignConfig(
        name="told",
        horizon=H,
        width=32,
        encoders={"state": StateConfig(), "instruction": InstructionConfig(tokens=2, hidden=48, length=32)},
        commands=levels,
        action=ChunkConfig(ticks_per_token=H),
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={"policy": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"),),
        controller=Chunked(execute=H),
    )
    return Design(config, data).eval()


# ------------------------------------------------------------------------------------------------ what is written


def test_a_level_writes_from_recordings_what_is_said_from_facts() -> None:
    design, batch = build(), PLANE.batch(32, 0)
    written = design.commands.written(batch, design.training_window)
    start, goal, spot = PLANE.places(32, 0)
    for row, (change, pixel) in enumerate(
        zip((goal - start).tolist(), PLANE.pixels(goal).tolist(), strict=True)
    ):
        assert written["task"][row] == design.commands.say("task", task=batch.observation.task[row])
        assert written["subtask"][row] == design.commands.say("subtask", part=1, parts=int(spot[row]))
        assert written["motion"][row] == design.commands.say("motion", x_m=change[0], y_m=change[1])
        assert written["place"][row] == design.commands.say("place", that=tuple(pixel))


def test_motion_is_told_in_the_order_of_its_axes_and_small_changes_are_not() -> None:
    say = build().commands.say
    assert say("motion", open=-1, x_m=-0.053) == "left 5 cm, then close"
    assert say("motion", y_m=0.121, x_m=0.004) == "up 12 cm"
    assert say("motion", open=0.1) == "hold still"
    assert say("motion") == "hold still"


def test_a_place_is_the_cell_that_the_pixel_lies_in() -> None:
    say = build(
        {"place": PointConfig(template="from {this} to {that}", pose="gripper_pose", bins=8)}
    ).commands.say
    assert say("place", this=(0, 0), that=(SIDE, SIDE - 0.01)) == "from (0, 0) to (7, 7)"
    assert say("place", this=(3.9, 4.1), that=(16, 12)) == "from (0, 1) to (4, 3)"


def test_a_window_without_a_place_has_no_command_of_that_level() -> None:
    data = scene_spec()
    level = PointConfig(template="move {this} to {that}").build("place", data)
    assert level.goal
    assert level.extras == ("camera.scene", "object_pose")
    here, outside = look([pose(0.1, 0.05, 0.0)]), look([pose(5.0, 0.0, 0.0)])
    assert level.relabel(replace(here, goal=here), None) != [None]
    assert level.relabel(replace(here, goal=outside), None) == [None]
    assert level.relabel(replace(outside, goal=here), None) == [None]
    assert not PointConfig(template="touch {this}").build("place", data).goal


def test_clicks_are_places_too() -> None:
    data = replace(scene_spec(), extras={**scene_spec().extras, "gesture": (2, 2)})
    level = PointConfig(source="clicks", template="put {this} at {that}", bins=32).build("place", data)
    seen = replace(look([pose(0, 0, 0)]), extras={"gesture": torch.tensor([[[[3.0, 4.0], [31.5, 0.0]]]])})
    assert level.relabel(seen, None) == ["put (03, 04) at (31, 00)"]
    none = replace(seen, extras={"gesture": torch.tensor([[[[3.0, 4.0], [-1.0, -1.0]]]])})
    assert level.relabel(none, None) == [None]


def test_subtasks_are_named_by_an_extra() -> None:
    design = build({"subtask": WordsConfig(template="{stage} the cup", names={"stage": ("grasp", "lift")})})
    seen = PLANE.look(torch.zeros(2, 2), ("", ""))
    seen.extras["stage"][1] = 1
    assert design.commands.levels["subtask"].relabel(seen, None) == ["grasp the cup", "lift the cup"]
    assert design.commands.say("subtask", stage="lift") == "lift the cup"
    with pytest.raises(ConfigError, match="stage 'drop' is none of 'grasp', 'lift'"):
        design.commands.say("subtask", stage="drop")
    seen.extras["stage"][1] = 2
    with pytest.raises(DataError, match="'stage' is 2 in a frame"):
        design.commands.levels["subtask"].relabel(seen, None)


# ------------------------------------------------------------------------------------------------- what is drawn


def test_levels_are_drawn_by_their_shares_among_those_that_a_window_shows() -> None:
    shares = {"task": 1.0, "subtask": 0.0, "motion": 2.0, "place": 1.0}
    design = build({name: replace(level, share=shares[name]) for name, level in LEVELS.items()})
    batch = PLANE.batch(4000, 0)
    assert batch.goal is not None
    away = torch.arange(4000) < 2000
    batch.goal.extras["gripper_pose"][away, 0, 0] = 50.0  # these windows show no place
    torch.manual_seed(0)
    told = design.commands.drawn(batch, design.training_window)
    kinds = {"go": "task", "re": "place", "pa": "subtask"}
    for half, expected in (
        (slice(2000), {"task": 1 / 3, "motion": 2 / 3}),
        (slice(2000, 4000), {"task": 0.25, "motion": 0.5, "place": 0.25}),
    ):
        seen = Counter(kinds.get(text[:2], "motion") for text in told[half])
        assert {name: count / 2000 for name, count in seen.items()} == pytest.approx(expected, abs=0.04)


def test_a_window_that_shows_no_level_keeps_its_instruction() -> None:
    design, batch = build({"place": LEVELS["place"]}), PLANE.batch(3, 0)
    assert batch.goal is not None
    batch.goal.extras["gripper_pose"][0, 0, 0] = 50.0
    told = design.commands.drawn(batch, design.training_window)
    assert told[0] == batch.observation.task[0]
    assert all(text.startswith("reach (") for text in told[1:])


def test_commands_stand_for_the_instruction_in_training_alone() -> None:
    design, plain = build(), build({})
    plain.load_state_dict(design.state_dict())  # commands have no weights
    batch = PLANE.batch(8, 0)
    short = Batch(batch.observation, batch.action, batch.action_pad)
    assert torch.equal(design.loss(batch).total, plain.loss(short).total)  # both told their tasks
    design.train()
    torch.manual_seed(0)
    told = design.commands.drawn(batch, design.training_window)
    torch.manual_seed(0)
    loss = design.loss(batch).total
    as_told = replace(short, observation=replace(short.observation, task=told))
    assert torch.equal(loss, plain.loss(as_told).total)
    assert not torch.equal(loss, plain.loss(short).total)


def test_only_training_reads_what_commands_are_written_from() -> None:
    design, plain = build(), build({})
    assert design.extras == ("camera.scene", MILESTONES, "gripper_pose")
    assert (design.sensors, plain.extras) == ((), ())
    assert not design.reads_goal
    assert design.training_window.goal
    assert design.training_window.future == (H,)
    assert design.window == plain.window


# ---------------------------------------------------------------------------------------------- what is refused


def test_what_cannot_be_written_or_said_is_refused() -> None:
    motion, point = LEVELS["motion"], LEVELS["place"]
    bad: list[tuple[CommandConfig, str]] = [
        (MotionConfig(axes={"x": AXES["x_m"]}), "'at': the state has no entry 'x'"),
        (MotionConfig(), "`axes` is empty"),
        (PointConfig(), "'at' needs the extra 'object_pose'"),
        (PointConfig(pose=MILESTONES), r"has shape \(2,\), needs \(\.\.\., 3\)"),
        (PointConfig(camera="scen"), "no camera 'scen'. Did you mean 'scene'"),
        (replace(motion, share=0.0), "no level has a share above 0"),
    ]
    for level, says in bad:
        with pytest.raises(ConfigError, match=says):
            build({"at": level})
    with pytest.raises(ConfigError, match="has the field 'there'"):
        replace(point, template="go {there}")  # type: ignore[call-arg]
    say = build().commands.say
    for arguments, says in (
        (("plac", {}), "no level 'plac'. Did you mean 'place'"),
        (
            ("place", {"that": (40.0, 3.0)}),
            r"that \(40.0, 3.0\) lies outside of the picture of camera 'scene'",
        ),
        (("place", {"that": 3}), "must be x and y in pixels"),
        (("motion", {"z_m": 1.0}), "no fact 'z_m'"),
        (("motion", {"x_m": "far"}), "must be a number"),
        (("task", {}), r"say 'task'; the command is '\{task\}'"),
    ):
        with pytest.raises(ConfigError, match=says):
            say(arguments[0], **arguments[1])


# -------------------------------------------------------------------------------------------------- the oracle


@pytest.fixture(scope="module")
def followed() -> Design:
    design = build()
    train(design, PLANE, steps=300, rows=48, rate=1e-2)
    return design


def told(design: Design, level: str, start: Tensor, goal: Tensor, spot: Tensor) -> tuple[str, ...]:
    """Commands at a level that send points from ``start`` to ``goal`` (B, 2), spots ``spot`` (B,)."""
    say, names = design.commands.say, list(SPOTS)
    changes, pixels = (goal - start).tolist(), PLANE.pixels(goal).tolist()
    texts = {
        "task": lambda i: say("task", task=f"go to the {names[int(spot[i]) - 1]} spot"),
        "subtask": lambda i: say("subtask", part=1, parts=int(spot[i])),
        "motion": lambda i: say("motion", x_m=changes[i][0], y_m=changes[i][1]),
        "place": lambda i: say("place", that=tuple(pixels[i])),
    }
    return tuple(texts[level](i) for i in range(len(start)))


@pytest.mark.learns
def test_a_place_is_reached_within_two_pixels(followed: Design) -> None:
    start, goal, spot = PLANE.places(200, 12345)
    end = PLANE.act(followed, start, told(followed, "place", start, goal, spot))
    missed = (PLANE.pixels(end) - PLANE.pixels(goal)).norm(dim=1)
    assert float(missed.quantile(0.9)) < 2.0
    assert float(missed.median()) < 1.0


@pytest.mark.learns
def test_a_goal_that_is_told_at_any_level_is_reached_alike(followed: Design) -> None:
    start, goal, spot = (value[PLANE.places(200, 12345)[2] < 9] for value in PLANE.places(200, 12345))
    ends = {level: PLANE.act(followed, start, told(followed, level, start, goal, spot)) for level in LEVELS}
    for level, end in ends.items():
        assert float((end - goal).norm(dim=1).mean()) < (0.08 if level == "motion" else 0.04), level
        assert float((end - ends["place"]).norm(dim=1).mean()) < 0.1
    assert float((start - goal).norm(dim=1).mean()) > 0.25, "nothing to do"


@pytest.mark.learns
def test_levels_may_change_within_an_episode(followed: Design) -> None:
    start, goal, spot = (value[PLANE.places(200, 12345)[2] < 9] for value in PLANE.places(200, 12345))
    elsewhere = PLANE.places(len(start), 7)[1]
    for first in ("motion", "place"):
        on_the_way = PLANE.act(followed, start, told(followed, first, start, elsewhere, spot))
        inside = on_the_way.clamp(-0.3, 0.3)
        for last in ("task", "subtask", "place"):
            end = PLANE.act(followed, inside, told(followed, last, inside, goal, spot))
            assert float((end - goal).norm(dim=1).mean()) < 0.05, (first, last)
