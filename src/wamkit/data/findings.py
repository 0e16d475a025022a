"""Check of a whole dataset: every fault with its place, or what a sound one holds."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wamkit.data import faults
from wamkit.data.contents import Contents
from wamkit.data.faults import Fault

HOUR_S = 3600


@dataclass(frozen=True)
class Summary:
    """What a sound dataset holds.

    Attributes:
        episodes: number of episodes.
        frames: number of frames.
        hours: duration, hours.
        rate_hz: frames per second.
        cameras: camera -> rows and columns, pixels.
        state: names of the state's entries.
        action: names of the action's entries.
        tasks: instruction -> number of episodes that have it.
        successes: episodes that reached their goal, and those that record whether they did.
    """

    episodes: int
    frames: int
    hours: float
    rate_hz: float
    cameras: Mapping[str, tuple[int, int]]
    state: tuple[str, ...]
    action: tuple[str, ...]
    tasks: Mapping[str, int]
    successes: tuple[int, int]


@dataclass(frozen=True)
class Checked:
    """Result of a check.

    Attributes:
        root: the dataset folder.
        decoded: true if every picture was decoded.
        faults: every fault; empty for a sound dataset.
        left_out: checks that were left out, because what they need is broken.
        summary: what the dataset holds; None where there are faults.
    """

    root: Path
    decoded: bool
    faults: tuple[Fault, ...]
    left_out: tuple[str, ...]
    summary: Summary | None

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {
            "dataset": str(self.root),
            "sound": not self.faults,
            "decoded": self.decoded,
            "faults": [fault.to_json() for fault in self.faults],
            "left_out": list(self.left_out),
            "summary": None if self.summary is None else dataclasses.asdict(self.summary),
        }


def check_dataset(root: Path | str, decode: bool = False) -> Checked:
    """Find every fault of a dataset. Of equal faults in one episode, or in one file, the first is named.

    Args:
        root: the dataset folder.
        decode: true to decode every picture as well: damage inside a video shows only then.
    """
    return check_contents(Contents(Path(root), extras=None), decode)


def check_contents(contents: Contents, decode: bool = False) -> Checked:
    """The same of contents that are of further use."""
    with faults.collecting(contents.root) as found:
        left_out = contents.check(decode)
    summary = None if found.faults else summarise(contents)
    return Checked(contents.root, decode, tuple(found.faults), tuple(left_out), summary)


def summarise(contents: Contents) -> Summary:
    """What a sound dataset holds."""
    episodes, (observation, action) = contents.episodes, contents.specs
    frames = episodes[-1].stop
    outcomes = [episode.success for episode in episodes if episode.success is not None]
    return Summary(
        episodes=len(episodes),
        frames=frames,
        hours=frames / contents.fps / HOUR_S,
        rate_hz=contents.fps,
        cameras={name: (c.height, c.width) for name, c in observation.cameras.items()},
        state=observation.state,
        action=action.names,
        tasks=dict(Counter(task for episode in episodes for task in episode.tasks).most_common()),
        successes=(sum(outcomes), len(outcomes)),
    )
