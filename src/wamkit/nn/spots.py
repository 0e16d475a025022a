"""Gaussian spots on a grid: positions drawn as maps, and read off their peaks below a cell."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_spots(centre: Tensor, grid: int, sigma: float) -> Tensor:
    """Draw positions (..., 2), x and y in cells, as maps (..., grid, grid): 1 at the place, -1 far from it."""
    cell = torch.arange(grid, device=centre.device) + 0.5
    squared = (cell - centre[..., 0:1]).square()[..., None, :] + (cell - centre[..., 1:2]).square()[..., None]
    return 2 * torch.exp(-squared / (2 * sigma**2)) - 1


def spot_centres(maps: Tensor) -> Tensor:
    """Find the positions (..., 2), x and y in cells, of the peaks of maps (..., grid, grid).

    The logarithm of a Gaussian is a parabola, so the three cells around the maximum give its vertex exactly.
    """
    grid = maps.shape[-1]
    log = ((maps + 1) / 2).clamp(min=1e-8).log()
    peak = log.flatten(-2).argmax(dim=-1)
    row, column = (peak // grid).clamp(1, grid - 2), (peak % grid).clamp(1, grid - 2)
    flat = log.flatten(-2)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        return flat.gather(-1, (rows * grid + columns)[..., None])[..., 0]

    def vertex(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
        curvature = (before - 2 * here + after).clamp(max=-1e-6)
        return (before - after) / (2 * curvature)

    here = at(row, column)
    x = column + 0.5 + vertex(at(row, column - 1), here, at(row, column + 1))
    y = row + 0.5 + vertex(at(row - 1, column), here, at(row + 1, column))
    return torch.stack((x, y), dim=-1)
