"""One episode of an evaluation: how it ended, and what the simulator saw of it."""

from __future__ import annotations

from dataclasses import dataclass

from wamkit.envs.perturbations.suite import CLEAN

STATUSES = ("success", "failure", "timeout", "error")


@dataclass(frozen=True)
class Events:
    """What the simulator saw of one episode.

    Attributes:
        phase: the furthest of :data:`PHASES`.
        first_contact: tick of the first contact, None without one.
        contacts: how often contact began.
        contact_ticks: ticks in contact.
        lost: whether there was contact and none at the end.
        moved_m: the furthest that a point of a task object was moved, metres.
        drift_m: how much further from the object the gripper ended than it had been, metres.
    """

    phase: str
    first_contact: int | None
    contacts: int
    contact_ticks: int
    lost: bool
    moved_m: float
    drift_m: float


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode.

    Attributes:
        task: task name.
        seed: episode seed.
        instruction: the words the policy was given.
        status: ``success``, ``failure`` (the task itself ended it), ``timeout`` (ticks ran out) or ``error``
            (simulator or policy broke: says nothing about the policy's skill).
        ticks: control ticks executed.
        calls: model calls.
        clipped: share of the executed action entries that lay outside the action limits and were clipped.
        error: traceback or message of an ``error``, else None.
        variant: id of the variant, None outside a suite of variants.
        dimension: what is changed: ``Original`` or one of :data:`wamkit.envs.perturbations.DIMENSIONS`.
        kind: how it is changed, ``clean`` where nothing is.
        strength: how much, 0 to 5.
        early_calls: model calls that the controller asked for before their time.
        events: what the simulator saw of it, None where it states no facts or the episode broke.
    """

    task: str
    seed: int
    instruction: str
    status: str
    ticks: int
    calls: int
    clipped: float = 0.0
    error: str | None = None
    variant: str | None = None
    dimension: str = CLEAN
    kind: str = "clean"
    strength: int = 0
    early_calls: int = 0
    events: Events | None = None

    @property
    def key(self) -> str:
        """What names this episode among all of one evaluation: the variant's id, or task and seed."""
        return self.variant or f"{self.task}/{self.seed}"
