"""Controllers: when the model is called and which action each control tick executes."""

from wamkit.controllers.async_overlap import AsyncOverlap
from wamkit.controllers.base import (
    ActionArray,
    Controller,
    ControllerState,
    HorizonUse,
    Plan,
    Seen,
    Spend,
    Subgoal,
    ValueArray,
)
from wamkit.controllers.cost import chunk_cost, feasible, open_loop_cost, single_step_cost
from wamkit.controllers.goal_pointer import GoalPointer
from wamkit.controllers.interactive import Interactive
from wamkit.controllers.online_adapt import OnlineAdapt
from wamkit.controllers.overlap import Overlap
from wamkit.controllers.periodic import Chunked, Early, OpenChunked, OpenLoop, Periodic, SingleStep
from wamkit.controllers.phase_trigger import PhaseTrigger
from wamkit.controllers.progress_gate import ProgressGate
from wamkit.controllers.slow_fast import SlowFast
from wamkit.controllers.subgoal_refresh import SubgoalRefresh
from wamkit.controllers.verifier_replan import VerifierReplan

__all__ = [
    "ActionArray",
    "AsyncOverlap",
    "Chunked",
    "Controller",
    "ControllerState",
    "Early",
    "GoalPointer",
    "HorizonUse",
    "Interactive",
    "OnlineAdapt",
    "OpenChunked",
    "OpenLoop",
    "Overlap",
    "Periodic",
    "PhaseTrigger",
    "Plan",
    "ProgressGate",
    "Seen",
    "SingleStep",
    "SlowFast",
    "Spend",
    "Subgoal",
    "SubgoalRefresh",
    "ValueArray",
    "VerifierReplan",
    "chunk_cost",
    "feasible",
    "open_loop_cost",
    "single_step_cost",
]
