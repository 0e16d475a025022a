"""``VideoReader`` over PyAV, with the interface that torchvision's had until 0.25."""

from __future__ import annotations

from collections.abc import Iterator

import av
import torch


class VideoReader:
    """Iterates over the frames of a video from the last seek position on."""

    def __init__(self, path: str, stream: str) -> None:
        self.container = av.open(path)
        self._stream = self.container.streams.video[0]

    def seek(self, seconds: float, keyframes_only: bool = False) -> VideoReader:
        """Go to the key frame at or before ``seconds``."""
        assert self._stream.time_base is not None
        self.container.seek(int(seconds / self._stream.time_base), stream=self._stream)
        return self

    def __iter__(self) -> Iterator[dict[str, torch.Tensor | float]]:
        for frame in self.container.decode(self._stream):
            data = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
            yield {"data": data, "pts": float(frame.time or 0.0)}
