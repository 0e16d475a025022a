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
    ValueArray,
)
from wamkit.controllers.cost import chunk_cost, feasible, open_loop_cost, single_step_cost
from wamkit.controllers.overlap import Overlap
from wamkit.controllers.periodic import Chunked, OpenLoop, Periodic, SingleStep

__all__ = [
    "ActionArray",
    "AsyncOverlap",
    "Chunked",
    "Controller",
    "ControllerState",
    "HorizonUse",
    "OpenLoop",
    "Overlap",
    "Periodic",
    "Plan",
    "Seen",
    "SingleStep",
    "Spend",
    "ValueArray",
    "chunk_cost",
    "feasible",
    "open_loop_cost",
    "single_step_cost",
]
