"""Ways out for values of a wrong type or layout: the call that converts them."""

from __future__ import annotations

import torch
from torch import Tensor

from wamkit.contract.specs import CameraSpec

Shape = tuple[int, ...]


def type_hint(value: Tensor, dtype: torch.dtype | None) -> str:
    """Say how ``value`` becomes a tensor of type ``dtype``."""
    if dtype is torch.uint8:
        if not value.is_floating_point():
            return "Convert it, if its values are 0 to 255: `.to(torch.uint8)`."
        scale = "Multiply by 255 and round to uint8" if bool((value <= 1).all()) else "Round to uint8"
        factor = " * 255" if scale.startswith("Multiply") else ""
        return f"{scale}: `(x{factor}).round().clamp(0, 255).to(torch.uint8)`."
    names = {torch.float32: "float()", torch.bool: "bool()", torch.int64: "long()"}
    return f"Convert it: `.{names[dtype]}`." if dtype in names else "Give real numbers."


def layout_hint(found: Shape, camera: CameraSpec, rows: int, steps: int) -> str:
    """Say how pictures of the shape ``found`` become (B, T, channels, height, width)."""
    picture = (camera.channels, camera.height, camera.width)
    last = (camera.height, camera.width, camera.channels)
    if found == (rows, steps, *last):
        return "The channels come first: `.permute(0, 1, 4, 2, 3)`."
    if found[-3:] == last and len(found) < 5:
        return "The channels come first: `.movedim(-1, -3)`, then add rows and steps: `.reshape(B, T, ...)`."
    if found[-3:] == picture and len(found) < 5:
        return f"Add the dimensions of rows and steps: `.reshape({rows}, {steps}, *{picture})`."
    if found[2:] == picture:
        return "Rows and steps must be those of the state; cut the windows with `design.window`."
    return (
        f"The camera was recorded with {camera.height} x {camera.width} pixels; resize the pictures to that."
    )
