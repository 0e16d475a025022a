"""Observations and batches compared with the specs of the design that reads them, before any part runs.

What is asked of a value stands here once, for every entry of a design. Nothing is converted: a value of another type,
layout or size is refused with the call that converts it, because a picture in 0..1 taken for one in 0..255 is darkness.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wamkit.contract.data import DataSpec
from wamkit.contract.hints import Shape, layout_hint, type_hint
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.contract.values import number
from wamkit.errors import SpecError, did_you_mean

OPEN = "Open the dataset with what the design learns from: `dataset.with_extras(design.extras)`."


def is_finite(values: Tensor) -> bool:
    """True when no value is NaN or infinite. The sum says so at once, unless it is itself too large."""
    return math.isfinite(values.sum().item()) or bool(torch.isfinite(values).all())


@dataclass(frozen=True)
class Reads:
    """What a design reads, for comparison with what it is given.

    Attributes:
        data: specs of the data that it is built for.
        name: name of the design, for messages.
    """

    data: DataSpec
    name: str

    def observation(
        self,
        seen: Observation,
        steps: int,
        *,
        extras: Collection[str] = (),
        place: str = "observation",
        now: bool = False,
        past: int = 0,
        device: torch.device | None = None,
    ) -> int:
        """Compare an observation with the specs and return its number of rows B.

        Args:
            seen: the observation.
            steps: number of observed steps T.
            extras: names of the extras that must be there.
            place: name of the observation in messages.
            now: true when the last step is the present, which cannot be padding.
            past: P, number of executed actions that must be there; 0 for any.
            device: device that the tensors must be on; None for any.

        Raises:
            SpecError: a field is missing, or of another type, layout, size or number of rows, or not finite.
        """
        if not isinstance(seen, Observation):
            raise self._wrong(place, f"is a {type(seen).__name__}", "Give a `wamkit.contract.Observation`.")
        rows = self._counted(seen, steps, place, device)
        state = seen.state
        if not is_finite(state):
            raise self._not_finite(state, f"{place}.state", self.data.observation.state)
        self._images(seen, rows, steps, place, device)
        self._flags(seen.pad, rows, steps, f"{place}.pad", device)
        if now and bool(seen.pad[:, -1].any()):
            raise self._wrong(
                f"{place}.pad",
                "marks the last step, which is now, as padding",
                "Only steps before it can be.",
            )
        self._extras(seen, rows, steps, extras, place, device)
        state_width, action_width = len(self.data.observation.state), self.data.action.width
        if seen.state_columns is not None:
            self._flags(seen.state_columns, rows, state_width, f"{place}.state_columns", device)
        if seen.action_columns is not None:
            self._flags(seen.action_columns, rows, action_width, f"{place}.action_columns", device)
        if past or seen.past_action is not None or seen.past_action_pad is not None:
            self._past(seen, rows, past, place, device)
        if seen.goal is not None:
            found = self.observation(seen.goal, 1, place=f"{place}.goal", device=device)
            self._rows(found, rows, f"{place}.goal")
        return rows

    def _counted(self, seen: Observation, steps: int, place: str, device: torch.device | None) -> int:
        """Rows of an observation, once its state has the right type and layout."""
        state = self._tensor(seen.state, f"{place}.state", torch.float32, device)
        if state.dim() != 3:
            raise self._wrong(
                f"{place}.state",
                f"has the shape {tuple(state.shape)}, needs (B, {steps}, {len(self.data.observation.state)})",
                "Add the dimensions of rows and steps: `state.reshape(B, T, -1)`.",
            )
        words = self._words(seen.task, f"{place}.task")
        pad = self._tensor(seen.pad, f"{place}.pad", torch.bool, device)
        # Two of three decide, so that the one which differs is named.
        rows = sorted((state.shape[0], len(words), pad.shape[0] if pad.dim() else 0))[1]
        if rows < 1:
            raise self._wrong(place, "has no rows", "Give at least one.")
        if len(words) != rows:
            raise self._wrong(
                f"{place}.task",
                f"has {len(words)} instructions for {rows} rows",
                "Give one instruction per row.",
            )
        self._shape(state, f"{place}.state", (rows, steps, len(self.data.observation.state)), "state")
        return rows

    def batch(self, batch: Batch, window: WindowSpec, extras: Collection[str], device: torch.device) -> None:
        """Compare a batch with the specs and with the window that training cuts; raises :class:`SpecError`."""
        if not isinstance(batch, Batch):
            raise self._wrong("batch", f"is a {type(batch).__name__}", "Give a `wamkit.contract.Batch`.")
        if batch.past != window.past_actions:
            raise self._wrong(
                "batch.past",
                f"is {batch.past!r}, needs {window.past_actions}",
                "Cut the batch with `design.training_window`.",
            )
        rows = self.observation(
            batch.observation,
            len(window.observation),
            extras=extras,
            place="batch.observation",
            now=True,
            device=device,
        )
        ticks = window.past_actions + window.horizon
        self.action(batch.action, rows, ticks, "batch.action", device)
        self._flags(batch.action_pad, rows, ticks, "batch.action_pad", device)
        parts = {
            "future": (batch.future, len(window.future)),
            "goal": (batch.goal, int(window.goal)),
            "milestones": (batch.milestones, window.milestones),
        }
        for name, (part, steps) in parts.items():
            if not steps:
                continue
            if part is None:
                raise self._wrong(
                    f"batch.{name}", "is missing", "Cut the batch with `design.training_window`."
                )
            found = self.observation(part, steps, extras=extras, place=f"batch.{name}", device=device)
            self._rows(found, rows, f"batch.{name}")

    def action(
        self, action: Tensor, rows: int, ticks: int, place: str, device: torch.device | None = None
    ) -> None:
        """Compare actions (B, ticks, A) with the action spec; raises :class:`SpecError`."""
        self._tensor(action, place, torch.float32, device)
        self._shape(action, place, (rows, ticks, self.data.action.width), "action")
        if not is_finite(action):
            raise self._not_finite(action, place, self.data.action.names)

    def seeds(self, seeds: Sequence[int], rows: int) -> None:
        """Raise :class:`SpecError` unless there is one whole number per row."""
        if isinstance(seeds, str | bytes | Tensor) or not isinstance(seeds, Sequence):
            raise self._wrong("seeds", f"is {seeds!r}", f"Give a list of {rows} int, one per row.")
        if len(seeds) != rows:
            raise self._wrong(
                "seeds",
                f"has {len(seeds)} entries for {rows} rows",
                "Give one int per row of the observation.",
            )
        for seed in seeds:
            if not isinstance(seed, numbers.Integral) or isinstance(seed, bool):
                raise self._wrong("seeds", f"holds {seed!r}", "A seed is an int.")

    def values(self, given: Mapping[str, Tensor], streams: Mapping[str, StreamSpec], rows: int) -> None:
        """Compare given values of streams with the streams' specs; raises :class:`SpecError`."""
        for name, value in given.items():
            spec, place = streams[name], f"given stream {name!r}"
            if spec.vocabulary is None:
                self._tensor(value, place, torch.float32, None)
                self._shape(value, place, (rows, spec.steps, spec.tokens, spec.features), "")
                if not is_finite(value):
                    raise self._wrong(place, "has values that are not finite", "Give finite values.")
                continue
            self._tensor(value, place, torch.int64, None)
            self._shape(value, place, (rows, spec.steps, spec.tokens), "")
            low, high = int(value.min()), int(value.max())
            if low < 0 or high >= spec.vocabulary:
                raise self._wrong(
                    place, f"has ids {low} to {high}", f"An id lies in 0 to {spec.vocabulary - 1}."
                )

    def carried(self, state: Any, names: Collection[str], rows: int) -> None:
        """Raise :class:`SpecError` unless ``state`` was carried by this design for ``rows`` rows."""
        way_out = f"Begin an episode with `design.initial_state({rows})`."
        if not isinstance(state, Mapping) or set(state) != set(names):
            held = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            raise self._wrong("state", f"holds {held}, needs {sorted(names)}", way_out)
        found = rows_of(state) - {rows}
        if found:
            raise self._wrong("state", f"is carried for {min(found)} rows, not {rows}", way_out)

    def weights(self, weights: Mapping[str, float], streams: Collection[str]) -> None:
        """Raise :class:`SpecError` unless ``weights`` maps streams to finite numbers that are not negative."""
        for name, weight in weights.items():
            if name not in streams:
                raise self._wrong(f"weight of {name!r}", "is of no stream", did_you_mean(name, streams))
            if not isinstance(weight, Tensor) and (not number(weight) or weight < 0):
                raise self._wrong(
                    f"weight of {name!r}", f"is {weight!r}", "Give a finite number of at least 0."
                )

    def _images(
        self, seen: Observation, rows: int, steps: int, place: str, device: torch.device | None
    ) -> None:
        cameras = self.data.observation.cameras
        if seen.images.keys() != cameras.keys():
            for name in cameras:
                if name not in seen.images:
                    raise self._wrong(
                        f"{place}.images", f"has no camera {name!r}", did_you_mean(name, seen.images)
                    )
            (extra, *_) = (name for name in seen.images if name not in cameras)
            raise self._wrong(
                f"{place}.images",
                f"has a camera {extra!r} that the design does not know",
                f"{did_you_mean(str(extra), cameras)} Leave it out.",
            )
        for name, camera in cameras.items():
            picture, where = seen.images[name], f"{place}.images[{name!r}]"
            want = (rows, steps, camera.channels, camera.height, camera.width)
            if isinstance(picture, Tensor) and picture.shape != want:
                raise self._wrong(
                    where,
                    f"has the shape {tuple(picture.shape)}, needs {want}",
                    layout_hint(tuple(picture.shape), camera, rows, steps),
                )
            self._tensor(picture, where, torch.uint8, device)

    def _words(self, task: Any, place: str) -> Sequence[str]:
        if not isinstance(task, tuple | list) or not all(isinstance(words, str) for words in task):
            raise self._wrong(place, f"is {task!r}", "Give a tuple of texts, one instruction per row.")
        return task

    def _extras(
        self,
        seen: Observation,
        rows: int,
        steps: int,
        needed: Collection[str],
        place: str,
        device: torch.device | None,
    ) -> None:
        for name, flags in seen.missing.items():
            self._flags(flags, rows, steps, f"{place}.missing[{name!r}]", device)
        for name in needed:
            if name not in seen.extras:
                learned = place.startswith("batch")
                way_out = OPEN if learned else "Keep the buffer of a failed sensor and flag it in `missing`."
                raise self._wrong(
                    f"{place}.extras",
                    f"has no {'extra' if learned else 'sensor'} {name!r}",
                    f"{did_you_mean(name, seen.extras)} {way_out}",
                )
        for name, values in seen.extras.items():
            where = f"{place}.extras[{name!r}]"
            self._tensor(values, where, None, device)
            shape = self.data.extras.get(name)
            if shape is None:
                self._rows(values.shape[0] if values.dim() else 0, rows, where)
                continue
            self._shape(values, where, (rows, steps, *shape), "")
            if name not in needed or not values.is_floating_point():
                continue
            flagged = seen.missing.get(name)
            if not is_finite(values if flagged is None else values[~flagged]):
                raise self._wrong(
                    where,
                    "has values that are not finite",
                    f"Flag the steps without a reading: `missing={{{name!r}: flags}}`, flags (B, T) bool.",
                )

    def _past(self, seen: Observation, rows: int, past: int, place: str, device: torch.device | None) -> None:
        if seen.past_action is None or seen.past_action_pad is None:
            raise self._wrong(
                f"{place}.past_action",
                "or its mask is missing",
                f"The design {self.name!r} carries its past and needs the {past} actions executed since the last call: "
                f"fill `past_action` and `past_action_pad` of the observation.",
            )
        ticks = past or (seen.past_action.shape[1] if seen.past_action.dim() == 3 else 0)
        self.action(seen.past_action, rows, ticks, f"{place}.past_action", device)
        self._flags(seen.past_action_pad, rows, ticks, f"{place}.past_action_pad", device)

    def _flags(self, flags: Tensor, rows: int, steps: int, place: str, device: torch.device | None) -> Tensor:
        self._tensor(flags, place, torch.bool, device)
        self._shape(flags, place, (rows, steps), "")
        return flags

    def _tensor(
        self, value: Any, place: str, dtype: torch.dtype | None, device: torch.device | None
    ) -> Tensor:
        """Return ``value`` if it is a tensor of this type on this device; without a type, any that can be ordered."""
        if not isinstance(value, Tensor):
            hint = (
                "Convert it: `torch.from_numpy(...)`."
                if type(value).__module__ == "numpy"
                else "Give a tensor."
            )
            raise self._wrong(place, f"is a {type(value).__name__}, needs a tensor", hint)
        if value.dtype != dtype and (dtype is not None or value.is_complex()):
            raise self._wrong(
                place, f"is {value.dtype}, needs {dtype or 'real numbers'}", type_hint(value, dtype)
            )
        if device is not None and value.device != device:
            raise self._wrong(
                place,
                f"is on {value.device}, the design on {device}",
                "Move it: `to_device(x, design.device)`.",
            )
        return value

    def _shape(self, value: Tensor, place: str, want: Shape, kind: str) -> None:
        if value.shape == want:
            return
        found, names = (
            tuple(value.shape),
            {"state": self.data.observation.state, "action": self.data.action.names},
        )
        hint = "Cut the windows with `design.window` (acting) or `design.training_window` (training)."
        if len(found) != len(want):
            hint = f"It has {len(found)} dimensions instead of {len(want)}."
        elif kind in names and found[-1] != want[-1]:
            hint = f"Its entries are {', '.join(names[kind]) or 'none'}, in this order."
        elif found[0] != want[0]:
            hint = "All fields have the same number of rows."
        raise self._wrong(place, f"has the shape {found}, needs {want}", hint)

    def _rows(self, found: int, rows: int, place: str) -> None:
        if found != rows:
            raise self._wrong(
                place, f"has {found} rows, the observation {rows}", "All fields have the same number of rows."
            )

    def _not_finite(self, values: Tensor, place: str, names: Sequence[str]) -> SpecError:
        row, step, entry = (int(i) for i in (~torch.isfinite(values)).nonzero()[0])
        return self._wrong(
            place,
            f"is {values[row, step, entry].item()} in row {row}, step {step}, entry {names[entry]!r}",
            "Hold the last finite reading, or stop: the design cannot act on it.",
        )

    def _wrong(self, place: str, fault: str, way_out: str) -> SpecError:
        return SpecError(f"design {self.name!r}: {place} {fault}. {way_out}")


def rows_of(tree: Any) -> set[int]:
    """Leading dimensions of all tensors inside nested mappings, tuples, lists and dataclasses."""
    if isinstance(tree, Tensor):
        return {tree.shape[0] if tree.dim() else 0}
    if isinstance(tree, Mapping):
        parts: Iterable[Any] = tree.values()
    elif isinstance(tree, tuple | list):
        parts = tree
    else:
        parts = vars(tree).values() if dataclasses.is_dataclass(tree) else ()
    return {rows for part in parts for rows in rows_of(part)}
