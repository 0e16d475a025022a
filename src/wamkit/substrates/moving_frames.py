"""Future frames, and the motion of a body that they show (`ps.pixel-decoded`, `ar.motion-recovery`; eqs. 13, 20).

What is predicted is pictures and nothing else. The motion is found in them when it is needed: dense flow follows the
pixels of a body from the picture of now through the frames, and each is lifted into space, either by the one rigid
motion that explains all pixels, given their depth now (perspective-n-point), or by depth that is predicted itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Positive, Size, Word
from wamkit.contract.protocols import (
    Category,
    DataSpec,
    Encoder,
    Substrate,
    SubstrateConfig,
    Windows,
)
from wamkit.contract.scales import Scale
from wamkit.contract.streams import PointMotion, Reading, Sensor, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.geometry.cameras import focal, rays, to_world
from wamkit.substrates.label_maps import CLASS_IDS
from wamkit.substrates.optical_flow import LEAST, dense_flow, grey, import_cv2
from wamkit.substrates.pixels import PixelsConfig

Body = Literal["object", "gripper"]
PLACE = "substrate 'moving_frames'"
FEWEST = 6  # points that a perspective pose needs to be determined
TURNED = np.diag([1.0, -1.0, -1.0])  # axes right, up, backward <-> right, down, forward


@SubstrateConfig.register_subclass("moving_frames")
@dataclass(frozen=True)
class MovingFramesConfig(SubstrateConfig):
    """Future frames whose shown motion of a body can be recovered by flow and a rigid lift (AVDC; survey eq. 20).

    The values are those of ``inner``. The camera must stand still, and its pose, depth and segmentation now must be
    known.

    Attributes:
        inner: substrate of the frames; any that can be decoded.
        camera: camera in whose frames the motion is found.
        points: number of pixels of the body that are followed.
        window: side, in pixels, of the window that the flow is averaged over.
        follow: ``frame_to_frame`` adds up the flow between neighbouring frames; ``since_now`` compares every frame with
            the picture of now.
        lift: ``rigid`` finds the rigid motion that explains where the pixels go, from their depth now; ``depth`` takes
            their later depth from the frames, which then must predict it.
        tolerance_px: largest distance, in pixels, of a pixel from the rigid motion that it takes part in.
    """

    inner: SubstrateConfig = field(default_factory=PixelsConfig)
    camera: Word = "scene"
    points: Size = 32
    window: Size = 9
    follow: Literal["frame_to_frame", "since_now"] = "frame_to_frame"
    lift: Literal["rigid", "depth"] = "rigid"
    tolerance_px: Positive = 1.0

    @override
    def build(self, data: DataSpec) -> MovingFrames:
        """Build; raises :class:`ConfigError` when frames are not decoded or what the lift needs is missing."""
        import_cv2()
        size = data.camera(self.camera, PLACE)
        if min(size.height, size.width) < LEAST:
            raise ConfigError(
                f"{PLACE}: camera {self.camera!r} has {size.height} x {size.width} pixels; flow needs {LEAST}."
            )
        for kind in ("camera", "depth", "segmentation"):
            data.extra(f"{kind}.{self.camera}", PLACE)
        inner = self.inner.build(data)
        if not inner.decodable:
            raise ConfigError(
                f"{PLACE}: the frames of {inner.label()} cannot be decoded. Use 'pixels' or 'rgbd'."
            )
        spec = inner.spec("future", "future", 1)
        if spec.vocabulary is not None or inner.relative:
            raise ConfigError(f"{PLACE}: the inner substrate must be continuous and of single frames.")
        return MovingFrames(self, inner)


@final
class MovingFrames(Substrate):
    """Values of the inner substrate, which are decoded where their motion is asked for."""

    category: ClassVar[Category] = "pixel-grounded"
    variant: ClassVar[str] = "decoded"
    decodable = True

    def __init__(self, config: MovingFramesConfig, inner: Substrate) -> None:
        super().__init__()
        self.config, self.inner = config, inner
        self.extras, self.moving = inner.extras, inner.moving
        needed = tuple(f"{kind}.{config.camera}" for kind in ("camera", "depth", "segmentation"))
        self.moves = dict.fromkeys(("object", "gripper"), tuple(sorted({*needed, *inner.extras})))

    @override
    def cell(self) -> tuple[tuple[str, str], ...]:
        """Pictures, decoded on the way to the action, and surfaces where depth is predicted with them."""
        pictures = tuple(
            ("Pixel", "decoded") if name == "Pixel" else (name, variant)
            for name, variant in self.inner.cell()
        )
        return tuple(sorted({*pictures, ("Geometric", "")})) if self.config.lift == "depth" else pictures

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return self.inner.spec(name, role, steps)

    @override
    def grids(self) -> Scale:
        return self.inner.grids()

    @override
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        return self.inner.encode(observation, now)

    @override
    def decode(self, values: Tensor) -> dict[str, Tensor]:
        return self.inner.decode(values)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return self.inner.readings(values)

    @override
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the inner substrate."""
        self.inner.fit(windows, seed)

    @override
    def bind(self, encoders: Mapping[str, Encoder], data: DataSpec) -> None:
        self.inner.bind(encoders, data)

    @override
    def after_step(self, encoders: Mapping[str, Encoder]) -> None:
        self.inner.after_step(encoders)

    @override
    @torch.no_grad()
    def moving_points(self, values: Tensor, now: Observation, body: str) -> PointMotion:
        """Points of the body's pixels: followed by flow through the decoded frames and lifted into space."""
        camera = self.config.camera
        frames = grey(self.inner.decode(values)[camera])
        shown = grey(
            self.inner.decode(self.inner.encode(now, now))[camera]
        )  # now, as these frames would show it
        depth, lens = (now.extras[f"{kind}.{camera}"][:, 0].float() for kind in ("depth", "camera"))
        mask = now.extras[f"segmentation.{camera}"][:, 0] == CLASS_IDS[body]
        places, there = chosen(mask, self.config.points)
        size = (mask.shape[1], mask.shape[2])
        index = (places[..., 1].floor() * size[1] + places[..., 0].floor()).long()
        start = rays(lens, places, *size) * depth.flatten(1).gather(1, index)[..., None]
        tracks = self._follow(shown, frames, places)
        if self.config.lift == "depth":
            local, known = self._by_depth(values, tracks, lens, size)
        else:
            local, known = self._by_pose(start, tracks, lens, size)
        later = torch.stack([to_world(local[:, t], lens) for t in range(local.shape[1])], dim=1)
        return PointMotion(to_world(start, lens), later, known & there[:, None, None], anchored=True)

    def _follow(self, shown: Tensor, frames: Tensor, places: Tensor) -> Tensor:
        """Places (B, T, K, 2) in every frame of the pixels at ``places`` (B, K, 2) now."""
        rows = []
        for first, later, start in zip(shown[:, 0], frames, places, strict=True):
            before, at, steps = first, start, []
            for frame in later:
                flow = torch.from_numpy(
                    dense_flow(before.cpu().numpy(), frame.cpu().numpy(), self.config.window)
                ).to(places)
                if self.config.follow == "frame_to_frame":
                    at, before = at + sampled(flow, at), frame
                else:
                    at = start + sampled(flow, start)
                steps.append(at)
            rows.append(torch.stack(steps))
        return torch.stack(rows)

    def _by_depth(
        self, values: Tensor, tracks: Tensor, lens: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Camera points (B, T, K, 3) from the depth that the frames predict, and which are in the picture."""
        wanted = Sensor(f"depth.{self.config.camera}")
        found = [
            reading.values for reading in self.inner.readings(values).values() if reading.shows == wanted
        ]
        if not found:
            raise ConfigError(f"{PLACE}: lift: depth needs frames that predict depth, such as 'rgbd'.")
        inside = within(tracks, size)
        held = tracks.clamp(min=0)
        x, y = (held[..., i].clamp(max=size[1 - i] - 1e-3).floor().long() for i in (0, 1))
        depth = found[0].flatten(2).gather(2, y * size[1] + x)
        local = torch.stack([rays(lens, tracks[:, t], *size) for t in range(tracks.shape[1])], dim=1)
        return local * depth[..., None], inside

    def _by_pose(
        self, start: Tensor, tracks: Tensor, lens: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Camera points (B, T, K, 3): each pixel's ray at the depth of the rigid motion that explains most of them.

        A pixel that does not take part lands elsewhere in space than the motion would carry it, so that whoever fits a
        rigid motion to the points sees it.
        """
        lengths = focal(lens, size[0])
        local = torch.empty(*tracks.shape[:3], 3, device=tracks.device)
        known = within(tracks, size)
        for row in range(len(tracks)):
            points = start[row].double().cpu().numpy() @ TURNED
            length, centre = float(lengths[row]), (size[1] / 2, size[0] / 2)
            for t in range(tracks.shape[1]):
                seen = tracks[row, t].double().cpu().numpy()
                moved = posed(points, seen, length, centre, self.config.tolerance_px)
                known[row, t] &= moved is not None
                deep = torch.from_numpy((points if moved is None else moved)[:, 2]).to(local)
                local[row, t] = rays(lens[row], tracks[row, t], *size) * deep[:, None]
        return local, known


def posed(
    points: np.ndarray, seen: np.ndarray, length: float, centre: tuple[float, float], tolerance_px: float
) -> np.ndarray | None:
    """Points (K, 3) carried by the rigid motion that brings most of them to the pixels ``seen`` (K, 2); None if none.

    Axes are right, down and forward of the camera; the search begins at no motion (RANSAC over perspective poses).
    """
    cv2: Any = import_cv2()
    if len(points) < FEWEST or len(np.unique(points, axis=0)) < FEWEST:
        return None
    matrix = np.array([[length, 0, centre[0]], [0, length, centre[1]], [0, 0, 1]])
    found, turn, shift, inside = cv2.solvePnPRansac(
        points,
        seen,
        matrix,
        None,
        np.zeros(3),
        np.zeros(3),
        useExtrinsicGuess=True,
        iterationsCount=1000,
        reprojectionError=tolerance_px,
        confidence=0.9999,  # a missed pose would be taken for a body that is not rigid
    )
    if not found or inside is None or len(inside) < FEWEST:
        return None
    carried = points @ cv2.Rodrigues(turn)[0].T + shift.reshape(1, 3)
    return carried if bool((carried[:, 2] > 0).all()) else None


def chosen(mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Centres (B, count, 2), as x and y, of pixels spread evenly over masks (B, H, W), and which masks have any."""
    flat = mask.flatten(1)
    number = flat.sum(dim=1)
    order = (~flat).int().argsort(dim=1, stable=True)  # the mask's pixels first, in row order
    share = (torch.arange(count, device=mask.device) + 0.5) / count
    index = order.gather(1, (share * number[:, None]).long())
    width = mask.shape[2]
    return torch.stack((index % width, index // width), dim=-1).float() + 0.5, number > 0


def within(places: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask (...) of places (..., 2) that lie in a picture of height and width ``size``."""
    x, y = places[..., 0], places[..., 1]
    return (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])


def sampled(flow: Tensor, places: Tensor) -> Tensor:
    """Flow (H, W, 2) at places (K, 2), between the four nearest pixels; the edge's outside the picture."""
    scale = torch.tensor([flow.shape[1], flow.shape[0]], device=flow.device) / 2
    grid = (places / scale - 1)[None, None]
    field = torch.nn.functional.grid_sample(
        flow.movedim(2, 0)[None], grid, padding_mode="border", align_corners=False
    )
    return field[0, :, 0].T
