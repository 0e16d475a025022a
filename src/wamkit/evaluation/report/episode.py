"""Episodes of an evaluation: outcome, cost, and ground-truth events."""

from __future__ import annotations

from dataclasses import dataclass

from wamkit.envs.perturbations.suite import CLEAN

STATUSES = ("success", "failure", "timeout", "error")


@dataclass(frozen=True)
class Events:
    """Ground-truth events of one episode.

    Attributes:
        phase: furthest phase reached; see :mod:`wamkit.evaluation.report.failures`.
        first_contact: tick of the first contact, None without one.
        contacts: number of contact onsets.
        contact_ticks: number of ticks in contact.
        lost: true if there was contact, but none at the end.
        moved_m: largest displacement of a point of a task object, metres.
        drift_m: final distance of the gripper to the object minus the smallest one, metres.
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
    """Outcome of one episode.

    Attributes:
        task: task name.
        seed: episode seed.
        instruction: instruction given to the policy.
        status: ``success``, ``failure`` (the task itself ended it), ``timeout`` (ticks ran out) or ``error``
            (simulator or policy broke: says nothing about the policy's skill).
        ticks: control ticks executed.
        calls: model calls.
        clipped: share of the executed action entries that lay outside the action limits and were clipped.
        error: traceback or message of an ``error``, else None.
        variant: id of the variant, None outside a suite of variants.
        dimension: perturbed dimension: ``Original`` or one of :data:`wamkit.envs.perturbations.DIMENSIONS`.
        kind: kind of the perturbation, ``clean`` without one.
        strength: strength of the perturbation, 0 to 5.
        early_calls: model calls that the controller asked for ahead of schedule.
        events: ground-truth events, None if the simulator states no facts or the episode broke.
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
        """Identifier within its evaluation: the id of the variant, or task and seed."""
        return self.variant or f"{self.task}/{self.seed}"
