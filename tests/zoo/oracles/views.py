"""Oracle of futures in several views, with depth or maps, that together make a scene in space and time."""

from __future__ import annotations

from dataclasses import replace

import torch
from cases import Case
from torch import Tensor

from oracles.registry import oracle
from wamkit.contract.types import Observation, WindowSpec
from wamkit.geometry.cameras import pixel_centres, project, rays, to_world, unproject
from wamkit.substrates import RGBD, DepthMap, Heatmap, PixelLatent, Pixels, PoseStream

FRAMES = (0, 12, 30)
NEAR_M = 0.1  # distance within which a lifted point lies on the surface that another view shows


@oracle("ps.multiview-4d")
def multiview_4d(case: Case) -> None:
    """The predicted views are of one scene: apart in the values, together in space, and moving as the scene moves."""
    streams = (*case.futures(), *case.config.goals)
    parts = [part for name in streams for part in case.design.substrate(name).modules()]  # inner ones, too
    pictures = [s for s in parts if isinstance(s, Pixels | PixelLatent | RGBD)]
    shown = {camera for s in pictures for camera in s.cameras}
    shaped = [s for s in parts if isinstance(s, RGBD | DepthMap | PoseStream)]
    maps = [s for s in parts if isinstance(s, Heatmap) and s.config.where == "gripper"]
    assert len(shown) > 1 or shaped, f"one view of colours: {sorted(shown)}"
    seen = case.cut(WindowSpec(), FRAMES)
    for substrate in pictures:
        if len(substrate.cameras) > 1:
            apart(substrate, seen)
    for substrate in shaped:
        if isinstance(substrate, PoseStream):
            follows(substrate, case)
        else:
            in_space(substrate, seen)
            moves(substrate, seen)
    if len(maps) > 1:
        meet(maps, seen)


def apart(substrate: Pixels | PixelLatent | RGBD, seen: Observation) -> None:
    """Another picture in one view changes the tokens of that view and nothing in the others."""
    values = substrate.encode(seen, seen)
    for camera in substrate.cameras:
        images = {**seen.images, camera: 255 - seen.images[camera]}
        other = substrate.encode(replace(seen, images=images), seen)
        assert not torch.equal(values, other)
        before, after = substrate.decode(values), substrate.decode(other)
        moved = [name for name in substrate.cameras if not torch.equal(before[name], after[name])]
        assert moved == [camera], f"a change in {camera} is seen in {moved}"


def lifted(substrate: RGBD | DepthMap, seen: Observation) -> dict[str, tuple[Tensor, Tensor]]:
    """View -> its points in the world (B, K, 3) and their depths (B, K), read from values of the stream."""
    values = substrate.encode(seen, seen)
    if isinstance(substrate, RGBD):
        cameras = {name: seen.extras[f"camera.{name}"].float() for name in substrate.cameras}
        points = substrate.points(values, cameras)
        metres = substrate.metres(values)
        return {name: (points[name][:, 0], metres[name][:, 0].flatten(1)) for name in substrate.cameras}
    name, grid = substrate.config.camera, substrate.config.grid
    metres = substrate.metres(values)[:, 0].flatten(1)
    height, width = seen.images[name].shape[-2:]
    pixels = pixel_centres(grid, grid, metres.device) * torch.tensor([width / grid, height / grid])
    camera = seen.extras[f"camera.{name}"][:, 0].float()
    return {name: (unproject(metres, pixels.expand(len(metres), -1, -1), camera, height, width), metres)}


def far(substrate: RGBD | DepthMap) -> float:
    """Depth beyond which the representation is clipped."""
    return substrate.config.far_m - 0.1


def in_space(substrate: RGBD | DepthMap, seen: Observation) -> None:
    """Points that are lifted off one view lie on the surface that another view shows, by its pose and depth."""
    for name, (points, metres) in lifted(substrate, seen).items():
        others = [n for n in seen.images if n != name and f"depth.{n}" in seen.extras]
        assert others, "no other view to compare with"
        for other in others:
            camera, depth = seen.extras[f"camera.{other}"][:, 0].float(), seen.extras[f"depth.{other}"][:, 0]
            away = camera.clone()
            away[:, 0] += 3 * NEAR_M
            hits, misses = (on_surface(points, metres < far(substrate), c, depth) for c in (camera, away))
            assert hits > misses, (
                f"{name} lifted into {other}: {hits:.2f} on its surface, {misses:.2f} by chance"
            )


def on_surface(points: Tensor, known: Tensor, camera: Tensor, depth: Tensor) -> float:
    """Share of the points inside a picture that lie where the picture has its surface."""
    height, width = depth.shape[-2:]
    pixels, distance = project(points, camera, height, width)
    x, y = pixels[..., 0].floor().long(), pixels[..., 1].floor().long()
    inside = known & (x >= 0) & (x < width) & (y >= 0) & (y < height) & (distance > 0)
    at = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    near = (depth.flatten(1).float().gather(1, at) - distance).abs() < NEAR_M
    return float((near & inside).sum() / inside.sum().clamp(min=1))


def moves(substrate: RGBD | DepthMap, seen: Observation) -> None:
    """Depths change between frames as the recorded ones do."""
    found = lifted(substrate, seen)
    for name, (_, metres) in found.items():
        true = seen.extras[f"depth.{name}"][:, 0].float()
        side = int(metres.shape[1] ** 0.5)
        cells = true.unflatten(2, (side, -1)).unflatten(1, (side, -1)).transpose(2, 3).flatten(3)
        cell = cells.median(dim=3).values.flatten(1)
        known = (cell < far(substrate)).all(dim=0) & (cell > NEAR_M).all(dim=0)
        pair = torch.stack([(some[1:] - some[:1])[:, known].flatten() for some in (metres, cell)])
        assert float(pair[1].std()) > 0.01, f"nothing moves in view {name}"
        assert float(torch.corrcoef(pair)[0, 1]) > 0.5, f"view {name}: {torch.corrcoef(pair)}"


def follows(substrate: PoseStream, case: Case) -> None:
    """Poses read back from the values are the recorded motion since now."""
    now, later = (case.cut(WindowSpec(), (frame,)) for frame in FRAMES[:2])
    _, shift = substrate.motion(substrate.encode(later, now))
    true = substrate.poses(later)[..., :3] - substrate.poses(now)[..., :3]
    assert torch.allclose(shift, true.to(shift), atol=1e-4), "the poses do not follow the recording"


def meet(maps: list[Heatmap], seen: Observation) -> None:
    """The rays through the peaks of the maps of two views meet at the recorded place, in every frame."""
    starts, directions = [], []
    for substrate in maps:
        camera = seen.extras[f"camera.{substrate.config.camera}"][:, 0].float()
        pixel = substrate.points(substrate.encode(seen, seen)[:, 0])[:, None]
        local = rays(camera, pixel, substrate.height, substrate.width)
        starts.append(camera[:, :3])
        directions.append(
            torch.nn.functional.normalize(to_world(local, camera)[:, 0] - camera[:, :3], dim=-1)
        )
    place = nearest(starts, directions)
    true = first(seen.extras["gripper_pose"])[:, :3]
    assert float((place - true).norm(dim=-1).max()) < NEAR_M, (
        "the maps of the views do not meet at the gripper"
    )


def first(pose: Tensor) -> Tensor:
    """Poses (B, 7) of the first body at the first step."""
    return pose[:, 0].float() if pose.dim() == 3 else pose[:, 0, 0].float()


def nearest(starts: list[Tensor], directions: list[Tensor]) -> Tensor:
    """Points (B, 3) nearest to all rays, by least squares."""
    across = [torch.eye(3) - d[:, :, None] * d[:, None, :] for d in directions]
    total = sum(across[1:], across[0])
    moved = [(a @ s[:, :, None]) for a, s in zip(across, starts, strict=True)]
    return torch.linalg.solve(total, sum(moved[1:], moved[0]))[:, :, 0]
