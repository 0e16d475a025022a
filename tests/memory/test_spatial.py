"""Oracles of mm.spatial-memory on plates over a floor, rendered in closed form."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from scenes import ABOVE, ASLANT, SIDE, look, pose, render
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.memory import SpatialMemory

OBJECT, COVER = pose(0.1, 0.05, 0.1), pose(0.08, 0.05, 0.55)  # the cover hides the object from above
AWAY = pose(-0.6, -0.6, 0.55)
LOW = torch.tensor([0.1, 0.05, 0.45, 1.0, 0.0, 0.0, 0.0, 60.0])  # below the cover, looking down
FLOOR_ID, OBJECT_ID, COVER_ID = 0.0, 1.0, 2.0


def watch(memory: SpatialMemory, plates: list[Tensor], camera: Tensor = ABOVE) -> None:
    depth, ids = render(torch.stack(plates), camera)
    memory.observe(depth, camera, ids.float()[..., None])


def overlap(memory: SpatialMemory, plates: list[Tensor], camera: Tensor) -> float:
    """Intersection over union of the object in the drawn and in the true picture."""
    _, ids = render(torch.stack(plates), camera)
    drawn = memory.render(camera, SIDE, SIDE).values[..., 0].round() == OBJECT_ID
    return float((drawn & (ids == 1)).sum() / (drawn | (ids == 1)).sum())


@pytest.mark.parametrize("hidden", [1, 50])
def test_an_object_hidden_for_n_steps_is_predicted_at_its_stored_place(hidden: int) -> None:
    memory, forgetful = SpatialMemory(0.04), SpatialMemory(0.04)  # above the spacing of the pixels
    watch(memory, [OBJECT, AWAY])
    place = memory.locate(torch.tensor([OBJECT_ID]), 0.3)
    for step in range(hidden):
        shift = torch.zeros(7).index_fill(0, torch.tensor([0]), 0.02 * (step % 2))  # the cover trembles
        watch(memory, [OBJECT, COVER + shift])
    watch(forgetful, [OBJECT, COVER])
    assert forgetful.locate(torch.tensor([OBJECT_ID]), 0.3) is None
    kept = memory.locate(torch.tensor([OBJECT_ID]), 0.3)
    assert kept is not None
    assert place is not None
    torch.testing.assert_close(kept, place, atol=1e-3, rtol=0)
    torch.testing.assert_close(kept, OBJECT[:3], atol=0.02, rtol=0)
    # Where it reappears: below the cover, and from above once the cover has gone.
    print(f"hidden {hidden}: overlap {overlap(memory, [OBJECT], LOW):.2f} from below the cover")
    assert overlap(memory, [OBJECT], LOW) > 0.8
    assert overlap(forgetful, [OBJECT], LOW) == 0
    before = memory.locate(torch.tensor([OBJECT_ID]), 0.3)
    watch(memory, [OBJECT, AWAY])
    after = memory.locate(torch.tensor([OBJECT_ID]), 0.3)
    assert before is not None
    assert after is not None
    torch.testing.assert_close(before, after, atol=0.01, rtol=0)
    assert (
        memory.locate(torch.tensor([COVER_ID]), 0.3) is None
    )  # looked through: the camera sees where it was


def test_what_has_moved_is_not_left_behind() -> None:
    memory = SpatialMemory(0.02)
    for x in (0.1, 0.0, -0.2):
        watch(memory, [pose(x, 0.05, 0.1)])
        found = memory.locate(torch.tensor([OBJECT_ID]), 0.3)
        assert found is not None
        torch.testing.assert_close(found, torch.tensor([x, 0.05, 0.1]), atol=0.02, rtol=0)
    # Through its old place the floor is seen, and stored.
    assert overlap(memory, [pose(-0.2, 0.05, 0.1)], ABOVE) > 0.8


def test_it_grows_with_the_scene_and_not_with_time() -> None:
    memory, sizes = SpatialMemory(0.04), {}
    for step in range(1, 201):
        watch(memory, [OBJECT], (ABOVE, ASLANT)[step % 2])
        sizes[step] = len(memory)
    assert sizes[200] == sizes[100] == sizes[10]
    assert len(memory.points) == len(memory.values) == sizes[200]
    richer = SpatialMemory(0.04)
    for step in range(10):  # plates aside, one above the other: more surface
        watch(richer, [OBJECT], (ABOVE, ASLANT)[step % 2])
    for height in (0.3, 0.5):
        before = len(richer)
        watch(richer, [OBJECT, pose(0.1, 0.05, height)])
        assert len(richer) > before
    assert len(SpatialMemory(0.08)) == 0


def test_a_view_drawn_from_the_store_is_the_true_one() -> None:
    memory = SpatialMemory(0.02)
    watch(memory, [OBJECT], ABOVE)
    view = memory.render(ABOVE, SIDE, SIDE)
    depth, ids = render(OBJECT[None], ABOVE)
    assert view.known.float().mean() > 0.95
    torch.testing.assert_close(view.depth[view.known], depth[view.known], atol=0.04, rtol=0)
    assert (view.values[..., 0].round() == ids)[view.known].float().mean() > 0.97
    empty = SpatialMemory().render(ABOVE, SIDE, SIDE)
    assert not empty.known.any()
    assert bool(empty.depth.isinf().all())


def test_colours_of_an_observation_are_stored_by_its_depth() -> None:
    memory, seen = SpatialMemory(0.02), look([OBJECT])
    memory.see(seen, "scene")
    found = memory.locate(torch.full((3,), 120.0), 20.0)  # the first plate's grey
    assert found is not None
    torch.testing.assert_close(found, OBJECT[:3], atol=0.02, rtol=0)


@pytest.mark.sim
def test_two_cameras_of_the_simulator_agree_on_where_things_are() -> None:
    """The gripper's camera wanders; what the store shows is what the cameras then really see."""
    env = MetaWorldConfig(task="drawer-open-v3", image_size=64, record=("depth", "camera")).build()
    env.restart(0)
    memory = SpatialMemory(0.02, far_m=2.5)

    def sight(camera: str) -> tuple[Tensor, Tensor, Tensor]:
        seen = env.observe()
        extras = (
            torch.from_numpy(seen["extras"][f"{kind}.{camera}"]).float() for kind in ("depth", "camera")
        )
        depth, place = extras
        return depth, place, torch.from_numpy(seen["images"][camera]).float()

    sizes = []
    for tick in range(30):
        for camera in ("scene", "gripper"):
            memory.observe(*sight(camera))
        sizes.append(len(memory))
        env.advance([0.3 * math.sin(tick / 3), 0.3 * math.cos(tick / 3), 0.0, 0.0])
    assert sizes[-1] - sizes[20] < 0.1 * sizes[20]
    for camera in ("scene", "gripper"):
        depth, place, colours = sight(camera)
        view = memory.render(place, 64, 64)
        known = view.known & (depth < 2.5)
        error = (view.depth - depth).abs()[known].median().item()
        print(f"{camera}: {known.float().mean():.2f} known, median depth error {1000 * error:.1f} mm")
        assert known.float().mean() > 0.6
        assert error < memory.voxel_m / 2
        assert (view.values - colours).abs()[known].median() < 8
    env.close()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="voxel_m 0"):
        SpatialMemory(0.0)
    memory, seen = SpatialMemory(), look([OBJECT])
    with pytest.raises(SpecError, match=r"no extra 'depth.gripper'.* Known: .*depth.scene"):
        memory.see(seen, "gripper")
    blind = dataclasses.replace(seen, state=torch.zeros(2, 1, 4))
    with pytest.raises(SpecError, match="belongs to one episode, got 2 rows"):
        memory.see(blind, "scene")
    memory.see(seen, "scene")
    with pytest.raises(SpecError, match="this memory holds 3 values, got 1"):
        watch(memory, [OBJECT])
    with pytest.raises(SpecError, match=r"needs depth \(H, W\)"):
        memory.observe(torch.zeros(4, 4), ABOVE, torch.zeros(4, 4))
    with pytest.raises(SpecError, match="from the origin"):
        SpatialMemory(1e-7).observe(torch.ones(2, 2), ABOVE, torch.zeros(2, 2, 1))
