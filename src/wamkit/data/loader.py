"""Training batches, prepared in the background and resumable at any step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from types import TracebackType
from typing import Protocol

import numpy as np

from wamkit.contract.types import Batch, WindowSpec
from wamkit.errors import DataError

Draw = Callable[[int, int, int], np.ndarray]


class WindowSource(Protocol):
    """Dataset as :class:`Batches` uses it."""

    @property
    def num_frames(self) -> int:
        """Number of frames at which a window can be cut."""
        ...

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        """Cut windows at the frames ``index`` (B,)."""
        ...


def positions(num_frames: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Frame numbers (B,) of the batch at ``step``: a pure function of its arguments.

    Epoch e visits every frame once, in an order drawn with the seed (seed, e). Batches are cut from the endless
    sequence of epochs, so a batch may span two of them.
    """
    return drawn(num_frames, step * batch_size, batch_size, seed)


def drawn(num_frames: int, first: int, count: int, seed: int) -> np.ndarray:
    """Frame numbers (count,) of the draws from number ``first`` on, in the endless sequence of epochs."""
    draws = np.arange(first, first + count)
    out = np.empty(count, dtype=np.int64)
    for epoch in np.unique(draws // num_frames):
        order = _order(num_frames, seed, int(epoch))
        inside = draws // num_frames == epoch
        out[inside] = order[draws[inside] % num_frames]
    return out


@lru_cache(maxsize=16)
def _order(num_frames: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_frames)


class Batches:
    """Endless iterator over batches; the batch at step k depends only on the arguments and k.

    A background thread prepares up to ``prefetch`` batches ahead. Use as a context manager, or call
    :meth:`close`.

    Args:
        dataset: source of the windows.
        window: steps of a window.
        batch_size: number of windows B.
        seed: seed of the order of frames.
        start_step: step of the first batch, for resuming.
        prefetch: number of batches prepared ahead.
        change: change of every batch after it is cut, a function of the batch and its step, run in the background too.
        draw: frame numbers (B,) by batch size, seed and step, a pure function; :func:`positions` by default.

    Attributes:
        step: step of the next batch.
        wait_seconds: total time that the consumer has waited for batches, seconds.

    Raises:
        DataError: an argument is out of range. Errors of cutting a window are raised when its batch is requested.
    """

    def __init__(
        self,
        dataset: WindowSource,
        window: WindowSpec,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        prefetch: int = 2,
        change: Callable[[Batch, int], Batch] | None = None,
        draw: Draw | None = None,
    ) -> None:
        if batch_size < 1 or start_step < 0 or prefetch < 1 or seed < 0:
            raise DataError(
                f"batches need batch_size >= 1, start_step >= 0, prefetch >= 1 and seed >= 0, "
                f"got {batch_size}, {start_step}, {prefetch} and {seed}"
            )
        self._dataset, self._window = dataset, window
        self._batch_size, self._seed = batch_size, seed
        self.step = start_step
        self.wait_seconds = 0.0
        self._prefetch, self._change = prefetch, change
        self._draw = draw or partial(positions, dataset.num_frames)
        # Batches are cut in order, and one thread is enough when frames are in memory.
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._pending: deque[Future[Batch]] = deque()
        self._fill()

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        if not self._pending:
            raise StopIteration
        begin = time.perf_counter()
        batch = self._pending.popleft().result()
        self.wait_seconds += time.perf_counter() - begin
        self.step += 1
        self._fill()
        return batch

    def close(self) -> None:
        """Stop the background thread. Iteration ends afterwards."""
        self._pending.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self) -> None:
        while len(self._pending) < self._prefetch:
            step = self.step + len(self._pending)
            self._pending.append(self._pool.submit(self._cut, step))

    def _cut(self, step: int) -> Batch:
        index = self._draw(self._batch_size, self._seed, step)
        batch = self._dataset.windows(index, self._window)
        return batch if self._change is None else self._change(batch, step)
