"""Every observation that reaches a design is compared with its spec: one wrong field is refused by its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support import ToyWindows, acting_observation, data_spec
from wamkit.api import recipe
from wamkit.contract import Batch, Budget, Observation
from wamkit.controllers import Chunked
from wamkit.design import Design
from wamkit.encoders import BodySensorsConfig, GoalImageConfig, ImagesConfig, InstructionConfig, StateConfig
from wamkit.errors import BudgetError, SpecError
from wamkit.imagination.dreams import dream
from wamkit.imagination.unrolling import unroll, world_step
from wamkit.trunks import TransformerConfig


class Felt(ToyWindows):
    """The toy episode with a force sensor."""

    def _observe(self, steps: np.ndarray, tasks: tuple[str, ...]) -> Observation:
        return replace(super()._observe(steps, tasks), extras={"force": torch.zeros(*steps.shape, 3)})


TOY = Felt()
ROWS, STEPS = 2, 2
WORLD = "recurrent"  # keeps its past
NAN, INF = float("nan"), float("inf")


def build(name: str = "direct", **changes: Any) -> Design:
    base = recipe(name)
    config = replace(
        base,
        width=16,
        encoders={"images": ImagesConfig(channels=(4, 4)), "instruction": InstructionConfig(hidden=4)}
        | changes.pop("encoders", {"state": StateConfig()}),
        trunks={n: TransformerConfig(width=16, depth=1, heads=2) for n in base.trunks},
        **changes,
    )
    torch.manual_seed(0)
    design = Design(config, replace(data_spec(), extras={"force": (3,)}))
    design.fit(TOY, 0)
    return design.eval()


SENSING = {
    "force": BodySensorsConfig(sensors=("force",)),
    "goal": GoalImageConfig(channels=(4, 4)),
    "state": StateConfig(),
}
DESIGN = build(observation=(-4, 0), horizon=4, stride=4, controller=Chunked(execute=4), encoders=SENSING)


def right() -> Observation:
    seen = acting_observation(TOY, [20, 40], DESIGN.window)
    force = torch.linspace(-1, 1, ROWS * STEPS * 3).reshape(ROWS, STEPS, 3)
    goal = acting_observation(TOY, [90, 91], replace(DESIGN.window, observation=(0,)))
    return replace(seen, extras={"force": force}, goal=goal)


def act(seen: Observation, design: Design = DESIGN, rows: int = ROWS, **changes: Any) -> Tensor:
    given: dict[str, Any] = {
        "state": design.initial_state(rows),
        "budget": Budget(),
        "seeds": list(range(rows)),
    }
    return design.forecast(seen, **{**given, **changes})[0].action


def other_type(x: Tensor, kinds: list[torch.dtype], pick: int) -> Tensor:
    return x.to([kind for kind in kinds if kind != x.dtype][pick % (len(kinds) - 1)])


TYPES = [torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64, torch.bool]


def other_shape(x: Tensor, pick: int) -> Tensor:
    """One side longer or shorter, one dimension more or less, or two dimensions swapped."""
    dim = pick % x.dim()
    ways: list[Callable[[], Tensor]] = [
        lambda: x.index_select(dim, torch.arange(x.shape[dim] - 1)),
        lambda: torch.cat((x, x.narrow(dim, 0, 1)), dim=dim),
        lambda: x[0],
        lambda: x[None],
        lambda: x.movedim(1, -1) if x.dim() > 2 else x[..., None],
    ]
    return ways[pick % len(ways)]()


def poisoned(x: Tensor, pick: int) -> Tensor:
    x = x.clone()
    x.view(-1)[pick % x.numel()] = (NAN, INF, -INF)[pick % 3]
    return x


def faults(field: str, x: Tensor, pick: int) -> dict[str, Any]:
    wrong = {
        "type": other_type(x, TYPES, pick),
        "shape": other_shape(x, pick),
        "numpy": x.numpy(),
        "none": None,
    }
    if x.is_floating_point():
        wrong["value"] = poisoned(x, pick)
    return wrong


def corrupt(seen: Observation, field: str, how: str, pick: int) -> Observation:
    """``seen`` with one wrong field."""
    if field.startswith("goal."):
        assert seen.goal is not None
        return replace(seen, goal=corrupt(seen.goal, field.removeprefix("goal."), how, pick))
    if field == "images":
        name = ("gripper", "scene")[pick % 2]
        ways = {**faults(field, seen.images[name], pick // 2)}
        return replace(seen, images={**seen.images, name: ways.get(how, ways["shape"])})
    if field == "extras":
        ways = faults(field, seen.extras["force"], pick)
        if ways["type"].is_floating_point() or how == "type":
            ways["type"] = seen.extras["force"].to(torch.complex64)
        return replace(seen, extras={"force": ways[how]})
    ways = faults(field, getattr(seen, field), pick)
    return replace(seen, **{field: ways.get(how, ways["shape"])})


FIELDS = ["images", "state", "pad", "extras", "goal.images", "goal.state", "goal.pad"]


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(FIELDS),
    st.sampled_from(["type", "shape", "numpy", "none", "value"]),
    st.integers(0, 10**6),
)
def test_one_wrong_field_is_refused_by_its_name(field: str, how: str, pick: int) -> None:
    with pytest.raises(SpecError, match=re.escape(f"design 'direct': observation.{field}")):
        act(corrupt(right(), field, how, pick))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 2**62))
def test_a_right_observation_acts_as_it_is(one: int, other: int, seed: int) -> None:
    seen = replace(
        acting_observation(TOY, [one, other], DESIGN.window), extras=right().extras, goal=right().goal
    )
    before = [x.clone() for x in (seen.state, *seen.images.values())]
    chosen = act(seen, seeds=[seed, seed + 1])
    with torch.inference_mode():
        context = DESIGN._encode(seen)
        bare = DESIGN.sample(seen, ["action"], seeds=[seed, seed + 1], context=context)
    assert torch.equal(chosen, DESIGN.action.decode(bare.values["action"]))
    assert all(torch.equal(a, b) for a, b in zip(before, (seen.state, *seen.images.values()), strict=True))


WORDS: list[tuple[dict[str, Any], str]] = [
    ({"images": {}}, r"observation.images has no camera 'scene'. Known: none"),
    ({"images": {"gripper": 0, "scnee": 0}}, "has no camera 'scene'. Did you mean 'scnee'"),
    (
        {"images": {"gripper": 0, "scene": 0, "wrist": 0}},
        "has a camera 'wrist' that the design does not know",
    ),
    ({"task": "push it"}, "task is 'push it'. Give a tuple of texts"),
    ({"task": ("push it",)}, "has 1 instructions for 2 rows"),
    ({"task": (1, 2)}, "Give a tuple of texts"),
    ({"extras": {}}, "observation.extras has no sensor 'force'"),
    ({"pad": torch.ones(ROWS, STEPS, dtype=torch.bool)}, "marks the last step, which is now, as padding"),
    ({"missing": {"force": torch.zeros(ROWS, dtype=torch.bool)}}, r"missing\['force'\] has the shape"),
    ({"goal": "there"}, "observation.goal is a str"),
]


@pytest.mark.parametrize(("change", "message"), WORDS)
def test_what_else_can_be_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        act(replace(right(), **change))


def test_an_observation_is_not_a_dictionary() -> None:
    with pytest.raises(SpecError, match="observation is a dict"):
        act({"state": torch.zeros(1, 1, 4)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seeds", "message"),
    [([1], "seeds has 1 entries for 2 rows"), ([1.0, 2.0], "seeds holds 1.0"), ("12", "seeds is '12'"),
     (3, "seeds is 3"), ([True, False], "seeds holds True"), (torch.arange(2), "seeds is tensor")],
)  # fmt: skip
def test_one_seed_per_row(seeds: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        act(right(), seeds=seeds)


def test_seeds_of_numpy_and_ranges_are_understood() -> None:
    assert torch.equal(act(right(), seeds=range(2)), act(right(), seeds=[np.int64(0), np.int64(1)]))


def test_a_flagged_sensor_may_hold_anything() -> None:
    seen = right()
    broken = replace(seen, extras={"force": torch.full_like(seen.extras["force"], NAN)})
    with pytest.raises(SpecError, match=r"extras\['force'\] has values that are not finite. Flag the steps"):
        act(broken)
    flags = {"force": torch.ones(ROWS, STEPS, dtype=torch.bool)}
    assert torch.isfinite(act(replace(broken, missing=flags))).all()


def numbers_of(error: pytest.ExceptionInfo[SpecError]) -> str:
    return str(error.value)


LED_OUT: list[tuple[str, Callable[[Observation], Observation], str, Callable[[Observation], Observation]]] = [
    ("pictures in 0..1", lambda o: pictures(o, lambda x: x.float() / 255),
     "(x * 255).round().clamp(0, 255).to(torch.uint8)",
     lambda o: pictures(o, lambda x: (x * 255).round().clamp(0, 255).to(torch.uint8))),
    ("pictures in 0..255 as floats", lambda o: pictures(o, lambda x: x.float()),
     "(x).round().clamp(0, 255).to(torch.uint8)",
     lambda o: pictures(o, lambda x: (x).round().clamp(0, 255).to(torch.uint8))),
    ("channels last", lambda o: pictures(o, lambda x: x.permute(0, 1, 3, 4, 2)), ".permute(0, 1, 4, 2, 3)",
     lambda o: pictures(o, lambda x: x.permute(0, 1, 4, 2, 3))),
    ("integers", lambda o: pictures(o, lambda x: x.long()), ".to(torch.uint8)",
     lambda o: pictures(o, lambda x: x.to(torch.uint8))),
    ("arrays", lambda o: pictures(o, lambda x: x.numpy()), "torch.from_numpy(...)",
     lambda o: pictures(o, lambda x: torch.from_numpy(x))),
    ("double", lambda o: replace(o, state=o.state.double()), ".float()", lambda o: replace(o, state=o.state.float())),
    ("mask of numbers", lambda o: replace(o, pad=o.pad.float()), ".bool()", lambda o: replace(o, pad=o.pad.bool())),
    ("an undeclared camera", lambda o: replace(o, images={**o.images, "wrist": o.images["scene"]}), "Leave it out",
     lambda o: replace(o, images={k: v for k, v in o.images.items() if k != "wrist"})),
]  # fmt: skip


def pictures(seen: Observation, change: Callable[[Any], Any]) -> Observation:
    return replace(seen, images={name: change(x) for name, x in seen.images.items()})


@pytest.mark.parametrize(("spoil", "advice", "follow"), [c[1:] for c in LED_OUT], ids=[c[0] for c in LED_OUT])
def test_the_way_out_of_the_message_leads_out(
    spoil: Callable[[Observation], Observation], advice: str, follow: Callable[[Observation], Observation]
) -> None:
    with pytest.raises(SpecError) as error:
        act(spoil(right()))
    assert advice in numbers_of(error)
    assert torch.equal(act(follow(spoil(right()))), act(right()))


def test_dimensions_that_are_missing_are_added_as_the_message_says() -> None:
    design = build(horizon=4, stride=4, controller=Chunked(execute=4))
    seen = acting_observation(TOY, [20], design.window)
    flat = replace(seen, images={k: v[0, 0] for k, v in seen.images.items()})
    with pytest.raises(SpecError, match=r"\.reshape\(1, 1, \*\(3, 32, 32\)\)"):
        act(flat, design, 1)
    added = replace(flat, images={k: v.reshape(1, 1, *(3, 32, 32)) for k, v in flat.images.items()})
    assert torch.equal(act(added, design, 1), act(seen, design, 1))


# ------------------------------------------------------------------------------------------- every entry


ENTRIES: dict[str, Callable[[Observation], Any]] = {
    "forecast": act,
    "sample": lambda o: DESIGN.sample(o, ["action"], seeds=[0, 1]),
    "generate": lambda o: DESIGN.generate(o, DESIGN.initial_state(ROWS), "action", Budget(), [0, 1]),
    "encode_context": lambda o: DESIGN.encode_context(o),
    "observe": lambda o: DESIGN.observe(o, DESIGN.initial_state(ROWS), {}),
}


@pytest.mark.parametrize("entry", sorted(ENTRIES))
def test_no_part_runs_on_a_wrong_observation(entry: str) -> None:
    ENTRIES[entry](right())
    ran: list[str] = []
    hooks = [
        part.register_forward_pre_hook(lambda *_: ran.append("ran")) for part in DESIGN.encoders.values()
    ]
    with pytest.raises(SpecError, match=r"observation.state"):
        ENTRIES[entry](replace(right(), state=right().state.double()))
    for hook in hooks:
        hook.remove()
    assert ran == []


def test_a_call_carries_its_own_rows_and_budget() -> None:
    with pytest.raises(BudgetError, match=r"must be a `wamkit.contract.Budget`"):
        act(right(), budget={"nfe": 3})
    with pytest.raises(SpecError, match=r"Begin an episode with `design.initial_state"):
        act(right(), state={})
    with pytest.raises(SpecError, match="batch_size 0 must be at least 1"):
        DESIGN.initial_state(0)


# ------------------------------------------------------------------------------------------------- worlds


def world() -> Design:
    return build(WORLD)


def test_executed_actions_are_checked_and_carried_rows_too() -> None:
    design = world()
    seen = acting_observation(TOY, [20, 40], design.window)
    act(seen, design)
    assert seen.past_action is not None
    for wrong in (
        seen.past_action.double(),
        seen.past_action[:, 1:],
        poisoned(seen.past_action, 3),
        seen.past_action[..., :2],
    ):
        with pytest.raises(SpecError, match=r"observation.past_action"):
            act(replace(seen, past_action=wrong), design)
    with pytest.raises(SpecError, match=r"needs the .* actions executed since the last call"):
        act(replace(seen, past_action=None), design)
    with pytest.raises(SpecError, match="state is carried for 3 rows, not 2"):
        act(seen, design, state=design.initial_state(3))


def test_imagined_steps_are_checked_at_their_entries() -> None:
    design = world()
    seen = acting_observation(TOY, [20, 40], design.window)
    wrong = replace(seen, state=seen.state[:, :, :3])
    with pytest.raises(SpecError, match=r"observation.state"):
        unroll(design, wrong, design.initial_state(2), 1, seeds=[0, 1])
    with pytest.raises(SpecError, match="seeds has 1 entries"):
        unroll(design, seen, design.initial_state(2), 1, seeds=[0])
    asked: list[Any] = []
    with pytest.raises(SpecError, match=r"observation.state"):
        dream(design, lambda d: asked.append(d) or torch.zeros(0), wrong, 1, seeds=[0, 1])
    assert asked == []
    moves = torch.zeros(2, design.config.horizon, 4)
    for action in (
        moves[:, 1:],
        moves[:1],
        moves[..., 1:],
        moves.double(),
        poisoned(moves, 5),
        moves.numpy(),
    ):
        with pytest.raises(SpecError, match="design 'recurrent': action"):
            world_step(design, seen, action, seeds=[0, 1], budget=Budget(), carry=None)


def test_given_values_of_a_stream_have_its_shape() -> None:
    design = build("joint")
    seen = acting_observation(TOY, [20, 40], design.window)
    spec = design.streams["action"]
    value = torch.zeros(2, spec.steps, spec.tokens, spec.features)
    design.sample(seen, ["future"], seeds=[0, 1], given={"action": value})
    for wrong in (value[:1], value[:, 1:], value.double(), poisoned(value, 1)):
        with pytest.raises(SpecError, match="given stream 'action'"):
            design.sample(seen, ["future"], seeds=[0, 1], given={"action": wrong})


def batch(design: Design) -> Batch:
    return TOY.windows(np.array([20, 40, 60]), design.training_window)


JOINT = build("joint")
BATCH_FIELDS = ["action", "action_pad", "observation", "future", "past"]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(BATCH_FIELDS), st.sampled_from(["type", "shape", "value"]), st.integers(0, 10**6))
def test_a_wrong_batch_is_refused_by_its_field(field: str, how: str, pick: int) -> None:
    made = batch(JOINT)
    if field == "past":
        wrong: Any = made.past + 1 + pick
    elif field in ("observation", "future"):
        wrong = corrupt(getattr(made, field), ("state", "images", "pad")[pick % 3], how, pick)
    else:
        ways = faults(field, getattr(made, field), pick)
        wrong = ways.get(how, ways["shape"])
    with pytest.raises(SpecError, match=f"design 'joint': batch.{field}"):
        JOINT.loss(replace(made, **{field: wrong}))


def test_a_batch_without_its_future_and_weights_of_nothing() -> None:
    made = batch(JOINT)
    assert torch.isfinite(JOINT.loss(made).total)
    with pytest.raises(
        SpecError, match=r"batch.future is missing. Cut the batch with `design.training_window`"
    ):
        JOINT.loss(replace(made, future=None))
    with pytest.raises(SpecError, match=r"weight of 'futur' is of no stream. Did you mean 'future'"):
        JOINT.loss(made, {"futur": 1.0})
    with pytest.raises(SpecError, match="weight of 'future' is nan"):
        JOINT.loss(made, {"future": NAN})
    with pytest.raises(SpecError, match="batch is a Observation"):
        JOINT.loss(made.observation)  # type: ignore[arg-type]
