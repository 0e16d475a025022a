"""Extras of an observation as a view shows them: what lies in a camera's picture follows that picture.

An extra ``kind.camera`` belongs to the camera of that name, and is renamed with it. Where the view changes the size of
the camera's pictures,

- a map of one value per pixel (``depth.front``, ``segmentation.front``) follows to the nearest pixel; bars hold 0,
  which is no measurement, the background or no object;
- ``camera.front`` gets the lens of the picture that is seen; its pose stays;
- coordinates of pixels follow where ``ViewConfig.points`` names them;
- anything else of that camera is refused, unless ``ViewConfig.unmoved`` names it.

All others (poses, contacts, forces) stay as they are recorded, and so do those of a camera that the view does not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.specs import CameraSpec
from wamkit.errors import ConfigError, did_you_mean
from wamkit.views.config import ViewConfig
from wamkit.views.pictures import Sizing

CAMERA = "camera"  # kind of the extra that holds pose and lens
CAMERA_SHAPE = (8,)
LENS_PIXELS = 1.0  # a lens that misses the picture by less is that of the picture

Shape = tuple[int, ...]


@final
class SeenExtras:
    """Extras of a robot as a view shows them.

    Args:
        config: the view.
        cameras: name that the design reads -> recorded camera.
        sizing: name that the design reads -> change of the picture's size.
        recorded: recorded cameras.

    Raises:
        ConfigError: points are said to lie in the picture of a camera that is not recorded.
    """

    def __init__(
        self,
        config: ViewConfig,
        cameras: Mapping[str, str],
        sizing: Mapping[str, Sizing],
        recorded: Mapping[str, CameraSpec],
    ) -> None:
        self._config, self._cameras, self._recorded = config, cameras, recorded
        self._points, self._unmoved = config.points, config.unmoved
        # One size for all, so a camera that is seen under two names is seen in the same way.
        self._sizing = {camera: sizing[name] for name, camera in cameras.items()}
        for name, camera in config.points.items():
            if camera not in recorded:
                raise ConfigError(
                    f"view.points.{name}: no recorded camera {camera!r}. {did_you_mean(camera, recorded)}"
                )

    def recorded_name(self, name: str) -> str:
        """Name under which an extra that a design reads is recorded.

        Raises:
            ConfigError: it belongs to a camera that the view shows under another name.
        """
        kind, dot, last = name.rpartition(".")
        shown = [seen for seen, camera in self._cameras.items() if dot and camera == last]
        if shown and last not in self._cameras and name not in self._unmoved:
            raise ConfigError(f"the view shows the extra {name!r} as '{kind}.{shown[0]}', like its camera.")
        return self._config.recorded_extra(name)

    def recorded_shape(self, name: str, shape: Shape) -> Shape:
        """Shape per step with which an extra that a design reads in the shape ``shape`` is recorded."""
        sizing = self._sizing_of(self.recorded_name(name))
        return sizing.source if sizing is not None and shape == sizing.target else shape

    def names(self, name: str) -> list[str]:
        """Names under which a recorded extra is seen; none where another camera has the name of its own."""
        kind, dot, last = name.rpartition(".")
        if name in self._unmoved or not dot or last not in self._recorded:
            return [name]
        shown = [seen for seen, camera in self._cameras.items() if camera == last]
        return [f"{kind}.{seen}" for seen in shown] or [name] * (last not in self._cameras)

    def shapes(self, recorded: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes per step of the extras that are seen: name that the design reads -> shape."""
        shown = {}
        for name, shape in recorded.items():
            sizing = self._sizing_of(name)
            seen = sizing.target if sizing is not None and shape == sizing.source else shape
            shown.update(dict.fromkeys(self.names(name), seen))
        return shown

    def require(self, name: str, shape: Shape) -> None:
        """Raise :class:`ConfigError` where a recorded extra of this shape per step cannot follow its camera."""
        sizing = self._sizing_of(name)
        if sizing is None or sizing.same or shape == sizing.source:
            return
        camera = self._camera_of(name)
        place = f"the view changes the pictures of camera {camera!r}, and the extra {name!r}"
        if name in self._points:
            if not shape or shape[-1] != 2:
                raise ConfigError(
                    f"view.points.{name}: its shape is {shape}, needs (..., 2): x and y in pixels."
                )
        elif name.rpartition(".")[0] == CAMERA and shape == CAMERA_SHAPE:
            if sizing.lens_error >= LENS_PIXELS:
                raise ConfigError(
                    f"{place} describes a lens of square pixels, which `fit` {sizing.fit} distorts by "
                    f"{sizing.lens_error:.1f} pixels. Set `view.fit` to crop or letterbox."
                )
        else:
            rows, columns = sizing.source
            raise ConfigError(
                f"{place} of the shape {shape} is neither a map of its {rows} x {columns} pixels nor a camera's pose "
                f"and lens. Name it in `view.points` ({{{name}: {camera}}}) if it holds x and y in pixels, in "
                f"`view.unmoved` if it does not lie in the picture, or keep the pictures as they are recorded."
            )

    def see(self, values: Mapping[str, Tensor], lead: int = 2) -> dict[str, Tensor]:
        """Change recorded extras to those that the design sees.

        Args:
            values: recorded name -> values; the first ``lead`` axes count steps, the others are those of one step.
            lead: number of axes that count steps.

        Raises:
            ConfigError: one cannot follow its camera (:meth:`require`).
        """
        shown = {}
        for name, value in values.items():
            names = self.names(name)
            if names:
                shape = tuple(value.shape[lead:])
                self.require(name, shape)
                shown.update(dict.fromkeys(names, self._follow(name, value, shape)))
        return shown

    def see_arrays(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """:meth:`see` for arrays (N, ...) of frames."""
        tensors = {name: torch.from_numpy(value) for name, value in values.items()}
        return {name: value.numpy() for name, value in self.see(tensors, lead=1).items()}

    def _follow(self, name: str, value: Tensor, shape: Shape) -> Tensor:
        sizing = self._sizing_of(name)
        if sizing is None or sizing.same:
            return value
        if name in self._points:
            return sizing.points(value)
        return sizing.map(value) if shape == sizing.source else sizing.lens(value)

    def _sizing_of(self, name: str) -> Sizing | None:
        """Change of the picture that a recorded extra lies in; None where it lies in none that is shown."""
        camera = self._camera_of(name)
        return None if camera is None else self._sizing.get(camera)

    def _camera_of(self, name: str) -> str | None:
        """Recorded camera in whose picture a recorded extra lies; None for none."""
        if name in self._unmoved:
            return None
        _, dot, last = name.rpartition(".")
        return self._points.get(name, last if dot and last in self._recorded else None)
