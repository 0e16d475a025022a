"""Facts that the graph of a design reads and the status that it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wamkit.contract.protocols import Exposure, Family

Coupling = Literal["Direct", "Joint generation", "Post-prediction head", "Cond. rollout", "None"]

FAMILY_NAMES: Mapping[Family, str] = {
    "diffusion": "Diffusion",
    "autoregressive": "Autoregressive",
    "joint-embedding": "Joint-embedding",
    "proposal": "Proposal",
    "state-space": "State-space",
    "geometric": "Geometric",
    "mixture": "Hybrid",
}


@dataclass(frozen=True)
class WamStatus:
    """World Action Model status of a design, and the paths by which the future reaches the action.

    Attributes:
        is_wam: True when at least one path exists.
        paths: ``produces`` (the action is generated from the future), ``joint`` (one process generates both
            and the action reads the future), ``selects`` (a planner chooses the action by its predicted future, or a
            guide steers it by that), ``trains`` (the future's loss trains the network that produces the action).
        kind: ``WAM``, ``VLA`` (acts without a future) or ``world model`` (predicts but does not act: it generates no
            executed action, whether its futures follow a given action or none).
    """

    is_wam: bool
    paths: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class EstimatorFacts:
    """Facts about an estimator that the graph reads; see :class:`wamkit.contract.Estimator` for the other fields.

    Attributes:
        trunk: name of its trunk, or None for an estimator that brings its own network.
        sees: stream -> for each of its steps, the streams of the same factor that reach the step; without an entry,
            all that ``reads`` leads to.
        language: true when its trunk is a language model.
    """

    family: Family
    trunk: str | None
    processes: int = 1
    past: int = 0
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exposes: Mapping[str, Exposure] = field(default_factory=dict)
    language: bool = False
    sees: Mapping[str, tuple[frozenset[str], ...]] = field(default_factory=dict)
