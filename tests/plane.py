"""A point that moves over a plane as it is told: every level of commands names the goal of a window."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wamkit.contract.data import DataSpec
from wamkit.contract.specs import MILESTONES
from wamkit.contract.types import Batch, Budget, Observation
from wamkit.design import Design
from wamkit.geometry.cameras import project

SPOTS = {"red": (-0.2, 0.15), "green": (0.2, 0.15), "blue": (0.05, -0.25), "grey": (-0.15, -0.1)}  # metres
REACH = 0.3  # metres from the centre to the edge of the plane
HEIGHT = 1.0  # of the camera above the plane, metres
SHARE = 0.5  # of the windows whose goal is a spot


@dataclass(frozen=True)
class Plane:
    """Windows of one movement each: the state's first two entries are the place, the action's first two its change.

    Attributes:
        data: specs of the windows.
        horizon: ticks of a movement.
    """

    data: DataSpec
    horizon: int

    @property
    def centre(self) -> Tensor:
        """Centre of the plane, (2,), where the recorded places are."""
        return torch.as_tensor(self.data.stats["observation.state"]["mean"][:2], dtype=torch.float32)

    @property
    def camera(self) -> Tensor:
        """Pose of a camera that looks straight down."""
        return torch.tensor([*self.centre.tolist(), HEIGHT, 1.0, 0.0, 0.0, 0.0, 60.0])

    @property
    def per_metre(self) -> float:
        """Sum of actions that moves the point by a metre."""
        return 0.5 * self.horizon / REACH / 2

    def look(self, place: Tensor, task: tuple[str, ...], spot: Tensor | None = None) -> Observation:
        """Observation of a point at ``place`` (B, 2); ``spot`` (B,) is the number of its goal, 1 to 4, else 9."""
        rows = len(place)
        state = torch.as_tensor(self.data.stats["observation.state"]["mean"], dtype=torch.float32).repeat(
            rows, 1, 1
        )
        state[:, 0, :2] = place
        cameras = self.data.observation.cameras
        images = {
            n: torch.zeros(rows, 1, 3, c.height, c.width, dtype=torch.uint8) for n, c in cameras.items()
        }
        extras = {name: torch.zeros(rows, 1, *shape) for name, shape in self.data.extras.items()}
        extras["camera.scene"] = self.camera.repeat(rows, 1, 1)
        extras["gripper_pose"] = torch.cat((place, torch.zeros(rows, 5)), dim=1)[:, None]
        if spot is not None and MILESTONES in extras:
            extras[MILESTONES] = torch.stack((torch.ones(rows), spot.float()), dim=1)[:, None]
        return Observation(images, state, task, torch.zeros(rows, 1, dtype=torch.bool), extras)

    def places(self, rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Starts and goals (B, 2) in metres, and the number of the spot (B,), 1 to 4, or 9 for a goal that is none."""
        g = torch.Generator().manual_seed(seed)
        start, goal = ((torch.rand(rows, 2, generator=g) * 2 - 1) * REACH + self.centre for _ in range(2))
        spot = torch.randint(len(SPOTS), (rows,), generator=g)
        named = torch.rand(rows, generator=g) < SHARE
        goal = torch.where(named[:, None], torch.tensor(list(SPOTS.values()))[spot] + self.centre, goal)
        return start, goal, torch.where(named, spot + 1, 9)

    def batch(self, rows: int, seed: int) -> Batch:
        """Windows of movements that end at their goal."""
        start, goal, spot = self.places(rows, seed)
        names = list(SPOTS)
        task = tuple("go there" if n == 9 else f"go to the {names[n - 1]} spot" for n in spot.tolist())
        action = torch.zeros(rows, self.horizon, self.data.action.width)
        action[..., :2] = ((goal - start) * self.per_metre / self.horizon)[:, None]
        pad = torch.zeros(rows, self.horizon, dtype=torch.bool)
        end = self.look(goal, task, spot)
        return Batch(self.look(start, task, spot), action, pad, future=end, goal=end)

    def act(self, design: Design, place: Tensor, commands: tuple[str, ...]) -> Tensor:
        """Places (B, 2) at which points end that are told ``commands`` at ``place`` (B, 2)."""
        seen = self.look(place, commands)
        sensed = {name: seen.extras[name] for name in design.sensors}
        state = design.initial_state(len(place))
        forecast, _ = design.forecast(replace(seen, extras=sensed), state, Budget(), range(len(place)))
        return place + forecast.action[:, : self.horizon, :2].sum(dim=1) / self.per_metre

    def pixels(self, place: Tensor) -> Tensor:
        """Places (B, 2) in metres as x and y in pixels of the camera, (B, 2)."""
        points = torch.cat((place, torch.zeros(len(place), 1)), dim=1)[:, None]
        size = self.data.observation.cameras["scene"]
        return project(points, self.camera.expand(len(place), -1), size.height, size.width)[0][:, 0]

    @property
    def metres_per_pixel(self) -> float:
        """Side of a pixel on the plane."""
        return 2 * HEIGHT * math.tan(math.radians(30)) / self.data.observation.cameras["scene"].height


def train(design: Design, plane: Plane, steps: int, rows: int = 32, rate: float = 3e-3) -> None:
    """Train a design on movements over the plane."""
    optimizer = torch.optim.AdamW(design.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    design.train()
    for step in range(steps):
        loss = design.loss(plane.batch(rows, step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    design.eval()
