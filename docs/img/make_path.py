"""Draw docs/img/path.png: the path of the data, and which of the four choices is made at which station."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

INK, PAPER, BLUE, AMBER = "#1b1f24", "#ffffff", "#dbe8f6", "#f8e6c4"
STATIONS = (
    ("episode\non disk", "data"),
    ("batch", "data"),
    ("context c", "encoders"),
    ("future s\nand action a", "estimators, trunks"),
    ("action\nof this tick", "controllers"),
    ("simulator", "envs"),
    ("report", "evaluation"),
)
CHOICES = (
    ("substrate", "where does the future live?", "pixels, features,\nbody state"),
    ("coupling", "how are s and a tied?", "direct, joint,\npost-head, rollout"),
    ("backbone", "what predicts?", "denoiser, autoregressor,\nregressor, state space"),
    ("deployment", "when is it called?", "open-loop, chunked,\nsingle-step"),
)


def box(ax: Axes, x: float, y: float, width: float, height: float, colour: str) -> None:
    """A rounded box with its lower left corner at x, y."""
    patch = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12", fc=colour, ec=INK, lw=1.2
    )
    ax.add_patch(patch)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], style: str = "-") -> None:
    """An arrow from start to end."""
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=13, lw=1.2, color=INK, ls=style, shrinkA=0
        )
    )


def draw_path(ax: Axes) -> list[float]:
    """The stations from left to right; returns their middles."""
    width, gap = 1.62, 0.36
    middles = []
    for i, (label, room) in enumerate(STATIONS):
        x = i * (width + gap)
        middles.append(x + width / 2)
        box(ax, x, 3.0, width, 1.1, BLUE)
        ax.text(x + width / 2, 3.55, label, ha="center", va="center", fontsize=12)
        ax.text(x + width / 2, 2.78, room, ha="center", va="top", fontsize=9, family="monospace")
        if i:
            arrow(ax, (x - gap + 0.03, 3.55), (x - 0.03, 3.55))
    ax.add_patch(
        FancyArrowPatch(
            (middles[5], 4.13),
            (middles[2], 4.13),
            arrowstyle="-|>",
            mutation_scale=13,
            lw=1.2,
            color=INK,
            connectionstyle="arc3,rad=0.18",
        )
    )
    ax.text((middles[2] + middles[5]) / 2, 5.0, "what it saw and did", ha="center", fontsize=10)
    return middles


def draw_choices(ax: Axes, future: float, tick: float, right: float) -> None:
    """The four choices below, pointing at the stations that they decide."""
    width = right / 4 - 0.2
    for i, (name, question, values) in enumerate(CHOICES):
        x = i * (width + 0.2 * 4 / 3)
        box(ax, x, 0.0, width, 1.75, AMBER)
        ax.text(x + width / 2, 1.45, name, ha="center", va="center", fontsize=13, weight="bold")
        ax.text(x + width / 2, 1.08, question, ha="center", va="center", fontsize=10, style="italic")
        ax.text(x + width / 2, 0.48, values, ha="center", va="center", fontsize=10)
        target = tick if name == "deployment" else future
        arrow(ax, (x + width / 2, 1.78), (target + (i - 1) * 0.25 * (name != "deployment"), 2.45), ":")


def main() -> None:
    """Write the picture beside this file."""
    figure, ax = plt.subplots(figsize=(12, 4.9), dpi=110, facecolor=PAPER)
    right = 7 * 1.62 + 6 * 0.36
    middles = draw_path(ax)
    draw_choices(ax, middles[3], middles[4], right)
    ax.text(right / 2, 5.55, "p( s, a | c )", ha="center", va="center", fontsize=19, family="serif")
    ax.set_xlim(-0.15, right + 0.15)
    ax.set_ylim(-0.15, 5.95)
    ax.axis("off")
    figure.savefig(
        Path(__file__).with_name("path.png"), bbox_inches="tight", pad_inches=0.05, facecolor=PAPER
    )


if __name__ == "__main__":
    main()
