"""Oracles of geometry: depth as points, futures of motion, maps of the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from cases import Case
from torch import Tensor

from gates import moved_steps, sharpen
from oracles.registry import oracle
from wamkit.contract.protocols import Substrate
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.depth import DepthEncoder
from wamkit.geometry.cameras import project
from wamkit.memory.scene import SceneMemory
from wamkit.substrates.episode_progress import Progress, Value
from wamkit.substrates.heatmap import Heatmap
from wamkit.substrates.label_maps import Segmentation
from wamkit.substrates.motion_vectors import MotionVectors
from wamkit.substrates.object_flow import ObjectFlow, Tracks
from wamkit.substrates.optical_flow import OpticalFlow
from wamkit.substrates.polyline import Polyline
from wamkit.substrates.pose_stream import PoseStream
from wamkit.substrates.quantized import Quantized

SHIFT_M = (0.04, -0.02, 0.03)
Extras = Mapping[str, Tensor]


def recorded(case: Case, frames: tuple[int, ...] = (12,)) -> Observation:
    """Recorded observations of one step."""
    return case.data.windows(np.array(frames), WindowSpec()).observation


def with_extras(observation: Observation, extras: Extras) -> Observation:
    """The observation with other extras."""
    return replace(observation, extras={**observation.extras, **extras})


def shifted(pose: Tensor, by: tuple[float, ...] = SHIFT_M) -> Tensor:
    """Poses (..., 7) moved along the world's axes."""
    moved = pose.clone()
    moved[..., :3] += torch.tensor(by).to(pose)
    return moved


@oracle("oe.geometry")
def points_of_depth(case: Case) -> None:
    """Depth becomes points of a declared frame; a missing or imputed depth is flagged, and nothing else is."""
    found = [e for e in case.design.encoders.values() if isinstance(e, DepthEncoder | SceneMemory)]
    assert found, "no encoder of depth"
    encoder, seen = found[0], case.observation()
    depth = next(name for name in encoder.extras if name.startswith("depth."))
    nearer = with_extras(seen, {depth: seen.extras[depth] * 0.8})
    with torch.no_grad():
        assert not torch.equal(encoder(seen)[0], encoder(nearer)[0]), "the depth is not read"
        if isinstance(encoder, DepthEncoder):
            frame_of(encoder, seen)
            fallback(encoder, seen, depth)


def frame_of(encoder: DepthEncoder, seen: Observation) -> None:
    """A rigid motion of camera (and gripper) moves the points as their frame says."""
    camera = encoder.extras[1]
    moved = {name: shifted(seen.extras[name].float()) for name in encoder.extras[1:]}
    before, after = encoder.points(seen), encoder.points(with_extras(seen, moved))
    there = before + torch.tensor(SHIFT_M) if encoder.config.frame == "world" else before
    torch.testing.assert_close(after, there, atol=1e-4, rtol=1e-4)
    if encoder.config.frame == "gripper":
        alone = encoder.points(with_extras(seen, {camera: moved[camera]}))
        assert not torch.allclose(alone, before, atol=1e-3), "the points do not follow the gripper's frame"


def fallback(encoder: DepthEncoder, seen: Observation, depth: str) -> None:
    """Flagged depth is not read; with imputation the picture stands for it, and the token says so."""
    flag = {depth: torch.ones_like(seen.pad)}
    flagged = replace(seen, missing={**seen.missing, **flag})
    garbage = with_extras(flagged, {depth: torch.rand_like(seen.extras[depth].float())})
    told, blind, free = encoder(seen)[0], encoder(flagged)[0], encoder(garbage)[0]
    assert torch.equal(blind, free), "what lies in the buffer of a missing sensor is read"
    assert not torch.equal(told, blind), "the missing depth is not marked"
    if encoder.imputer is None:
        return
    absent = replace(seen, extras={n: v for n, v in seen.extras.items() if n != depth})
    assert torch.equal(encoder(absent)[0], blind), "without the channel the fallback is not the flagged one"
    dark = replace(flagged, images={n: torch.zeros_like(p) for n, p in seen.images.items()})
    assert not torch.equal(encoder(dark)[0], blind), "the imputed depth does not come from the picture"


def inner_of(part: Substrate) -> Substrate:
    """Substrate inside a quantised one."""
    return part.inner if isinstance(part, Quantized) else part


@oracle("ps.motion-geometry")
def motion(case: Case) -> None:
    """A known rigid motion is what the field says it is; what does not move has none; the hidden is flagged."""
    parts = [inner_of(case.design.substrate(n)) for n in case.futures()]
    parts = [p for p in parts if p.category == "geometric" or p.variant in ("flow", "RGB-D")]
    assert parts, "no future in physical coordinates"
    for part in parts:
        {
            ObjectFlow: carried_points,
            Tracks: carried_points,
            PoseStream: carried_bodies,
            Polyline: carried_hand,
            MotionVectors: carried_pictures,
            OpticalFlow: carried_pictures,
        }.get(type(part), plain_field)(case, part)
    design = sharpen(case.untrained())
    if case.acts and "trains" not in design.graph.wam().paths and "selects" not in design.graph.wam().paths:
        assert any(moved_steps(design, case.cut(design.window))), "the action does not see the motion"


def plain_field(case: Case, part: Substrate) -> None:
    """Other frames, other values; the same frame, the same values."""
    now, later = recorded(case), recorded(case, (30,))
    assert torch.equal(part.encode(now, now), part.encode(now, now))
    assert not torch.equal(part.encode(now, now), part.encode(later, now))


def carried_points(case: Case, part: Substrate) -> None:
    """Points of an object that is moved by a known shift move by it; hidden ones are flagged."""
    now = recorded(case, (2,))
    later = with_extras(now, {"object_pose": shifted(now.extras["object_pose"].float())})
    (still,), (field,) = (
        part.readings(part.encode(now, now)).values(),
        part.readings(part.encode(later, now)).values(),
    )
    torch.testing.assert_close(still.values, torch.zeros_like(still.values), atol=1e-4, rtol=0)
    moving = field.values.abs().sum(dim=-1) > 1e-6
    if field.unit == "m" and bool(moving.any()):
        expected = torch.tensor(SHIFT_M).expand_as(field.values)
        torch.testing.assert_close(field.values[moving], expected[moving], atol=1e-4, rtol=1e-3)
    camera = case.config.substrates[next(iter(case.config.substrates))]
    name = f"depth.{vars(part)['config'].camera}"
    walled = with_extras(now, {name: torch.full_like(now.extras[name], 0.05)})
    (hidden,) = part.readings(part.encode(walled, now)).values()
    assert hidden.known is not None
    assert not hidden.known.any(), "points behind a wall count as visible"
    assert camera is not None


def carried_bodies(case: Case, part: Substrate) -> None:
    """Bodies moved by a known shift report it, without a rotation."""
    assert isinstance(part, PoseStream)
    now = recorded(case)
    later = with_extras(now, {name: shifted(now.extras[name].float()) for name in part.extras})
    rotation, shift = part.motion(part.encode(later, now))
    torch.testing.assert_close(shift, torch.tensor(SHIFT_M).expand_as(shift), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(rotation, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)


def carried_hand(case: Case, part: Substrate) -> None:
    """A hand moved by a known shift is found where it went, in the world or in the picture."""
    assert isinstance(part, Polyline)
    now = recorded(case)
    pose = shifted(now.extras["gripper_pose"].float())
    later = with_extras(now, {"gripper_pose": pose})
    (place,) = part.readings(part.encode(later, now)).values()
    if not part.config.camera:
        torch.testing.assert_close(place.values[0, 0, 0], torch.tensor(SHIFT_M), atol=1e-5, rtol=1e-4)
        return
    camera = now.extras[f"camera.{part.config.camera}"].float()
    pixels = project(pose[:, :, None, :3], camera, 2, 2)[0]
    torch.testing.assert_close(
        place.values * 2, (pixels - 1) * torch.tensor([1 / part.aspect, 1.0]), atol=1e-4, rtol=1e-4
    )


def carried_pictures(case: Case, part: Substrate) -> None:
    """A picture of noise moved by whole pixels has that flow; the same picture has none."""
    now = recorded(case)
    camera = vars(part)["config"].camera
    height, width = now.images[camera].shape[-2:]
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=generator) * 255
    scene = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)[:, None]
    first = replace(now, images={**now.images, camera: scene})
    second = replace(now, images={**now.images, camera: scene.roll(2, dims=-1)})
    (still,) = part.readings(part.encode(first, first)).values()
    (flow,) = part.readings(part.encode(second, first)).values()
    known = torch.ones_like(flow.values[..., 0], dtype=torch.bool) if flow.known is None else flow.known
    assert float(still.values.abs().median()) < 0.1
    median = flow.values[known].median(dim=0).values
    torch.testing.assert_close(median, torch.tensor([2.0, 0.0]), atol=0.7, rtol=0)


@oracle("ps.task-map")
def task_map(case: Case) -> None:
    """Maps have their peak at the label, ignore colours, and scores keep their range."""
    names = [n for n in case.futures() if inner_of(case.design.substrate(n)).category == "affordance"]
    assert names, "no map or score of the task is predicted"
    seen = recorded(case, (2, 20))
    recoloured = replace(seen, images={n: 255 - p for n, p in seen.images.items()})
    for name in names:
        part = inner_of(case.design.substrate(name))
        values = part.encode(seen, seen)
        assert torch.equal(values, part.encode(recoloured, recoloured)), f"{name} depends on colours"
        if isinstance(part, Heatmap):
            peaked(part, seen)
        if isinstance(part, Segmentation):
            assert len(part.classes(values).unique()) > 1, "the mask has one class"
        if isinstance(part, Progress | Value):
            assert float(values.min()) >= -1 - 1e-6
            assert float(values.max()) <= 1 + 1e-6
        if isinstance(part, Progress):
            assert float(values[1].max()) > float(values[0].max()), "progress does not grow"


def peaked(part: Heatmap, seen: Observation) -> None:
    """The peak of a drawn map lies on the drawn position, closer than half a pixel; a recorded one on the body."""
    grid, size = part.config.grid, torch.tensor([part.width, part.height])
    inside = torch.tensor([[0.3, 0.6], [0.5, 0.45]]) * (grid - 3) / grid * size + 1.5 / grid * size
    torch.testing.assert_close(part.points(part.draw(inside)), inside, atol=0.5, rtol=0)
    pose, camera = (seen.extras[name].float() for name in part.extras[:2])
    pose = pose if pose.dim() == 3 else pose[..., 0, :]
    values = part.encode(seen)
    pixels = project(pose[:, :, None, :3], camera, part.height, part.width)[0][:, :, 0]
    cell = pixels / size * grid
    clear = ((cell > 1.5) & (cell < grid - 1.5)).all(dim=-1) & (values.amax(dim=(-2, -1)) > -1)
    assert part.config.where == "contact" or bool(clear.any()), "no body is in view of the map"
    torch.testing.assert_close(part.points(values)[clear], pixels[clear], atol=0.5, rtol=0)
