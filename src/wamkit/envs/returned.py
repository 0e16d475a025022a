"""What a simulator returns, compared with the specs that it declares, at every reset and every tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wamkit.contract.specs import ActionSpec, CameraSpec
from wamkit.contract.values import number
from wamkit.errors import SpecError, did_you_mean

Sides = tuple[int, ...]


@dataclass(frozen=True)
class Returned:
    """Values that a simulator returned at one tick.

    Attributes:
        env: name of the environment's class.
        task: name of the task.
        tick: control ticks since the reset.
    """

    env: str
    task: str
    tick: int

    def images(self, images: Any, cameras: Mapping[str, CameraSpec]) -> Mapping[str, NDArray[np.uint8]]:
        """Return the pictures of all ``cameras``, each (H, W, 3) uint8; raises :class:`SpecError` otherwise."""
        if not isinstance(images, Mapping):
            raise self._wrong("images", f"is a {type(images).__name__}", "Return camera -> picture.")
        for name in images:
            if name not in cameras:
                raise self._wrong(
                    "images", f"has an undeclared camera {name!r}", did_you_mean(str(name), cameras)
                )
        for name, camera in cameras.items():
            field = f"images[{name!r}]"
            if name not in images:
                raise self._wrong(field, "is missing", f"{did_you_mean(name, images)} Return every camera.")
            self._array(
                images[name], field, (camera.height, camera.width, camera.channels), np.dtype(np.uint8), ()
            )
        return images

    def state(self, state: Any, names: tuple[str, ...]) -> NDArray[np.float32]:
        """Return a state (S,) float32 without NaN or infinity; raises :class:`SpecError` otherwise."""
        return self._array(state, "state", (len(names),), np.dtype(np.float32), names)

    def extras(self, extras: Any, spec: Mapping[str, tuple[Sides, str]]) -> Mapping[str, NDArray[Any]]:
        """Return all extras of ``spec`` in their shapes and types, finite; raises :class:`SpecError` otherwise."""
        if not isinstance(extras, Mapping):
            raise self._wrong("extras", f"is a {type(extras).__name__}", "Return name -> array.")
        for name in extras:
            if name not in spec:
                raise self._wrong(
                    "extras", f"has an undeclared entry {name!r}", did_you_mean(str(name), spec)
                )
        for name, (shape, dtype) in spec.items():
            if name not in extras:
                raise self._wrong(f"extras[{name!r}]", "is missing", did_you_mean(name, extras))
            self._array(extras[name], f"extras[{name!r}]", shape, np.dtype(dtype), ())
        return extras

    def reward(self, reward: Any) -> float:
        """Return a finite number as a float; raises :class:`SpecError` otherwise."""
        if not number(reward):
            raise self._wrong("reward", f"is {reward!r}", "Return a finite number.")
        return float(reward)

    def success(self, success: Any) -> bool:
        """Return a truth value as a bool; raises :class:`SpecError` for anything else."""
        if not isinstance(success, bool | np.bool_):
            raise self._wrong("success", f"is {success!r}", "Return True or False.")
        return bool(success)

    def action(self, action: Any, spec: ActionSpec) -> NDArray[np.float32]:
        """Return a demonstrator's action (A,) inside the limits; raises :class:`SpecError` otherwise."""
        values = np.asarray(action)
        if values.shape != (spec.width,) or not np.issubdtype(values.dtype, np.number):
            raise self._wrong(
                "the demonstrator's action",
                f"has the shape {values.shape} and the type {values.dtype}",
                f"Return the {spec.width} numbers {', '.join(spec.names)}.",
            )
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise self._wrong("the demonstrator's action", f"is not finite: {values.tolist()}", "")
        low, high = np.asarray(spec.low, np.float32), np.asarray(spec.high, np.float32)
        outside = (values < low - 1e-6) | (values > high + 1e-6)
        if outside.any():
            i = int(np.flatnonzero(outside)[0])
            raise self._wrong(
                f"the demonstrator's action {spec.names[i]!r}",
                f"is {values[i]:g}, outside of {spec.low[i]:g} to {spec.high[i]:g}",
                "Clip it, or widen the limits of the action spec.",
            )
        return values

    def _array(
        self, value: Any, field: str, shape: Sides, dtype: np.dtype[Any], names: tuple[str, ...]
    ) -> NDArray[Any]:
        if not isinstance(value, np.ndarray | np.generic):
            raise self._wrong(field, f"is a {type(value).__name__}", "Return a numpy array.")
        if value.dtype != dtype:
            raise self._wrong(
                field, f"is {value.dtype}, declared {dtype}", f"Convert it: {conversion(value, dtype)}."
            )
        if value.shape != shape:
            raise self._wrong(
                field, f"has the shape {value.shape}, declared {shape}", "Return it as declared."
            )
        if dtype.kind == "f" and not np.isfinite(value).all():
            place = np.argwhere(~np.isfinite(np.asarray(value)))[0].tolist()
            entry = repr(names[place[0]]) if names else place
            raise self._wrong(
                field,
                f"is not finite at entry {entry}",
                "The simulation is unstable, or reads before it has values.",
            )
        return np.asarray(value)

    def _wrong(self, field: str, fault: str, way_out: str) -> SpecError:
        return SpecError(
            f"environment {self.env}, task {self.task!r}, tick {self.tick}: {field} {fault}. {way_out}".rstrip()
        )


def conversion(value: NDArray[Any] | np.generic, dtype: np.dtype[Any]) -> str:
    """Numpy call that turns ``value`` into ``dtype``."""
    if dtype == np.uint8 and value.dtype.kind == "f":
        scale = " * 255" if (np.asarray(value) <= 1).all() else ""
        return f"`(x{scale}).round().clip(0, 255).astype(np.uint8)`"
    return f"`.astype(np.{dtype.name})`"
