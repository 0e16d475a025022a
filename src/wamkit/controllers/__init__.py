"""Controllers: when the model is called and which action each control tick executes."""

from wamkit.controllers.base import ActionArray, Controller, ControllerState, HorizonUse
from wamkit.controllers.cost import chunk_cost, feasible, open_loop_cost, single_step_cost
from wamkit.controllers.periodic import Chunked, OpenLoop, Periodic, SingleStep

__all__ = [
    "ActionArray",
    "Chunked",
    "Controller",
    "ControllerState",
    "HorizonUse",
    "OpenLoop",
    "Periodic",
    "SingleStep",
    "chunk_cost",
    "feasible",
    "open_loop_cost",
    "single_step_cost",
]
