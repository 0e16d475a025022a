"""Layers in space, in time and in both: who reads whom in a clip, and what a motion module changes at first."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError
from wamkit.trunks import SpaceTime, SpaceTimeConfig

FRAMES, PLACES, STEPS = 3, 2, 6  # six steps of the action, two to a frame
CLIP = StreamSpec("clip", "future", FRAMES, PLACES, 4)
ACTION = StreamSpec("action", "action", STEPS, 1, 4)


def trunk(*pattern: Any, **fields: Any) -> SpaceTime:
    torch.manual_seed(0)
    built = SpaceTimeConfig(width=16, heads=2, pattern=pattern, **fields).build()
    built.shape([CLIP, ACTION])
    return built.eval()


def frames(seed: int = 1) -> Tensor:
    return torch.randn(1, FRAMES * PLACES, 16, generator=torch.Generator().manual_seed(seed))


def read_by(net: SpaceTime) -> Tensor:
    """(readers, sources) bool: which token of the clip changes with which."""
    plain = net(frames(), layout=[("clip", FRAMES * PLACES)])[0]
    rows = []
    for source in range(FRAMES * PLACES):
        changed = frames()
        changed[:, source] = frames(7)[:, source]
        moved = net(changed, layout=[("clip", FRAMES * PLACES)])[0]
        rows.append((moved != plain).any(dim=-1)[0])
    return torch.stack(rows, dim=1)


FRAME = torch.arange(FRAMES * PLACES) // PLACES
PLACE = torch.arange(FRAMES * PLACES) % PLACES
SAME_FRAME, SAME_PLACE = FRAME[:, None] == FRAME, PLACE[:, None] == PLACE


@pytest.mark.parametrize(
    ("pattern", "causal", "expected"),
    [
        (("space",), False, SAME_FRAME),
        (("time",), False, SAME_PLACE),
        (("joint",), False, torch.ones_like(SAME_FRAME)),
        (("space", "time"), False, torch.ones_like(SAME_FRAME)),
        (("time",), True, SAME_PLACE & (FRAME[:, None] >= FRAME)),
        (("joint", "joint"), True, FRAME[:, None] >= FRAME),
    ],
)
def test_a_token_reads_what_its_layers_reach(pattern: Any, causal: bool, expected: Tensor) -> None:
    assert torch.equal(read_by(trunk(*pattern, causal=causal)), expected)


def test_a_motion_module_changes_nothing_at_first_and_the_frozen_layers_never() -> None:
    net = trunk("space", "time", motion=("time",), frozen=("space",))
    assert torch.equal(read_by(net), SAME_FRAME)
    net(frames(), layout=[("clip", FRAMES * PLACES)])[0].square().sum().backward()
    trained = {name for name, p in net.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert "gates.1" in trained
    assert not any(name.startswith("blocks.0") for name in trained)
    with torch.no_grad():
        net.gates["1"].fill_(0.5)
    assert bool(read_by(net).all())


def moved_by_action(net: SpaceTime) -> Tensor:
    """(frames, action steps) bool: which frame changes with which step of a given action."""

    def clip(action: Tensor) -> Tensor:
        _, cache = net(action, layout=[("action", STEPS)])
        hidden = net(frames(), cache=cache, layout=[("clip", FRAMES * PLACES)])[0]
        return hidden.unflatten(1, (FRAMES, PLACES))

    given = torch.randn(1, STEPS, 16, generator=torch.Generator().manual_seed(2))
    columns = []
    for step in range(STEPS):
        changed = given.clone()
        changed[:, step] = -changed[:, step]
        columns.append((clip(changed) != clip(given)).flatten(2).any(dim=-1)[0])
    return torch.stack(columns, dim=1)


def test_an_aligned_frame_reads_the_actions_that_lead_to_it() -> None:
    own = torch.arange(FRAMES)[:, None] == torch.arange(STEPS) // (STEPS // FRAMES)
    assert torch.equal(moved_by_action(trunk("space", aligned=True)), own)
    assert bool(moved_by_action(trunk("space")).all())
    assert torch.equal(moved_by_action(trunk("time", aligned=True)), torch.zeros_like(own))
    earlier = torch.arange(FRAMES)[:, None] >= torch.arange(STEPS) // (STEPS // FRAMES)
    assert torch.equal(moved_by_action(trunk("joint", causal=True)), earlier)


def test_long_skips_join_the_first_layers_to_the_last() -> None:
    net = trunk("joint", "joint", "joint", "joint", skips=True)
    assert len(net.skips) == 2
    plain = net(frames(), layout=[("clip", FRAMES * PLACES)])[0]
    with torch.no_grad():
        net.skips[1].weight[:, 16:].zero_()  # the last layer no longer sees the first one's tokens
    assert not torch.equal(plain, net(frames(), layout=[("clip", FRAMES * PLACES)])[0])


def test_what_it_cannot_do_is_refused() -> None:
    for fields, words in (({"width": 15}, "multiple of heads"), ({"motion": ("space",)}, "pattern is")):
        with pytest.raises(ConfigError, match=words):
            SpaceTimeConfig(**{"width": 16, "heads": 2, "pattern": ("time",), **fields}).build()
    net = trunk("time")
    with pytest.raises(ConfigError, match="whole frames of stream 'clip'"):
        net(frames()[:, :1], layout=[("clip", 1)])
    with pytest.raises(ConfigError, match="no blocks of a past"):
        net(frames(), times=torch.zeros(1, FRAMES * PLACES, dtype=torch.long), layout=[("clip", 6)])
