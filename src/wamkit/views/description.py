"""Words for a view: what a design reads of a robot, and what it is made of."""

from __future__ import annotations

from collections.abc import Iterable

from wamkit.contract.specs import DECLARED, UNKNOWN_FRAME
from wamkit.views.columns import Columns
from wamkit.views.config import ViewConfig
from wamkit.views.pictures import Sizing
from wamkit.views.view import View

REFERENCES = {"state": 'the state at "now"', "tick": "the action one tick before"}


def describe_view(view: View) -> dict[str, list[str]]:
    """Lines about ``cameras``, ``state``, ``action``, ``rate`` and ``extras`` that a design reads, and all changes."""
    observation, _ = view.recorded
    return {
        "cameras": [
            *(_camera(name, view.cameras[name], sizing) for name, sizing in view.sizing.items()),
            *_left_out(observation.cameras, view.cameras.values()),
        ]
        or ["none"],
        "state": _columns(view.state, "") or ["none"],
        "action": [
            *_columns(view.action, view.config.relative),
            *_declared(view),
            *(
                []
                if view.action.whole
                else ["the robot needs every column, so this can be tested on recordings only"]
            ),
        ],
        "rate": [_rate(observation.rate_hz, view.every)],
        **({"extras": _extras(view.config)} if view.config.points or view.config.unmoved else {}),
    }


def _declared(view: View) -> list[str]:
    """What the view says of the recorded actions, and what nobody says although a relative view rests on it."""
    said = {name: value for name in DECLARED if (value := getattr(view.config.declare, name)) is not None}
    lines = [f"declared: {', '.join(f'{name} {value}' for name, value in said.items())}"] if said else []
    _, action = view.recorded
    if view.config.relative != "none" and action.frame == UNKNOWN_FRAME and "mode" not in said:
        lines.append(
            "the dataset does not say that its actions are absolute: taken as such (view.declare.mode)"
        )
    return lines


def _extras(config: ViewConfig) -> list[str]:
    """Extras that the view treats otherwise than their name says."""
    return [
        *(f"{name}: pixels of {camera}, moved with its picture" for name, camera in config.points.items()),
        *(f"{name}: not in the picture, as recorded" for name in config.unmoved),
    ]


def _camera(name: str, recorded: str, sizing: Sizing) -> str:
    """One camera: its recorded name and size, the size that is read, and how it is met."""
    (rows, columns), (high, wide) = sizing.source, sizing.target
    place = name if name == recorded else f"{name} (recorded as {recorded})"
    if sizing.same:
        return f"{place}: {rows} x {columns} pixels, as recorded"
    how: str = "scaled" if sizing.fit == "letterbox" else sizing.fit
    left, upper, right, lower = sizing.place
    if sizing.fit == "letterbox" and (lower - upper, right - left) != (high, wide):
        how = f"letterbox: the picture takes {lower - upper} x {right - left}, the rest is black"
    if sizing.fit == "crop":
        x0, y0, x1, y1 = sizing.cut
        how = f"crop: the middle {y1 - y0:.0f} x {x1 - x0:.0f} is kept"
    return f"{place}: {rows} x {columns} -> {high} x {wide} pixels ({how})"


def _columns(columns: Columns, relative: str) -> list[str]:
    """Columns that are read, those that are changed with their changes, and those that are left out."""
    lines: list[str] = [", ".join(columns.names)] if columns.names else []
    named = {piece.names: [columns.recorded[i] for i in piece.source] for piece in columns.pieces}
    if relative in REFERENCES:
        against = [name for piece in columns.pieces if piece.against for name in piece.names]
        absolute = [name for piece in columns.pieces if not piece.against for name in piece.names]
        lines.append(f"relative to {REFERENCES[relative]}: {', '.join(against)}")
        lines += [f"absolute: {', '.join(absolute)}"] if absolute else []
    for piece in columns.pieces:
        source = ", ".join(named[piece.names])
        if piece.rotation is None and piece.names != (source,):
            lines.append(f"{source} is called {piece.names[0]}")
        if piece.rotation is not None:
            before, after = piece.rotation
            lines.append(f"rotation {source} ({before}) -> {', '.join(piece.names)} ({after})")
        elif (piece.scale, piece.shift) != (1.0, 0.0):
            lines.append(
                f"{source} times {piece.scale:g}" + (f" plus {piece.shift:g}" if piece.shift else "")
            )
    if columns.real < len(columns.names):
        lines.append(f"padded with zeros from {columns.real} to {len(columns.names)} columns")
    read = [name for names in named.values() for name in names]
    return lines + _left_out(columns.recorded, read)


def _left_out(recorded: Iterable[str], read: Iterable[str]) -> list[str]:
    kept = set(read)
    missing = [name for name in recorded if name not in kept]
    return [f"not read: {', '.join(missing)}"] if missing else []


def _rate(recorded_hz: float, every: float) -> str:
    if every == 1:
        return f"{recorded_hz:g} Hz, as recorded"
    return f"{recorded_hz:g} -> {recorded_hz / every:g} Hz (every {every:g} recorded ticks)"
