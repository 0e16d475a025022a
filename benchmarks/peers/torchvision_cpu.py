"""torchvision beside the CPU build of torch: import this module before anything that imports torchvision.

The wheel of torchvision that belongs to torch 2.13 is compiled for CUDA, and its library does not load beside the CPU
build. Its Python code (networks, transforms) needs none of it, except that it attaches shape functions to two operators
of that library when it is imported. They are declared here, without an implementation, where the library cannot be
loaded; where it can, nothing is done.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def declare() -> torch.library.Library | None:
    """Declare the operators, unless torchvision's own library has them; the result must be kept alive."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise SystemExit("no torchvision in this environment: see benchmarks/peers/README.md")
    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(library)
            return None
    except OSError:
        pass  # compiled for CUDA
    declared = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        declared.define(operator)
    return declared


DECLARED = declare()
