"""Messages between wamkit and a policy that runs in an environment of its own: no pickle, no shared package.

A message is the length of a header (4 bytes, little-endian), the header (JSON: plain fields, and name, type and shape
of every array), and the arrays' bytes in that order. Both sides read and write it through pipes with this module, which
needs numpy alone.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

TYPES = ("float32", "int64", "uint8")
LARGEST_HEADER = 1 << 24  # bytes; more is no header but something printed into the pipe

Message = tuple[dict[str, Any], dict[str, np.ndarray]]
Answer = Callable[[dict[str, Any], dict[str, np.ndarray]], Message]


def send(stream: BinaryIO, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write one message; raises :class:`TypeError` for an array of another type than :data:`TYPES`."""
    kept = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    for name, array in kept.items():
        if array.dtype.name not in TYPES:
            raise TypeError(f"array {name!r} is {array.dtype.name}; a message carries {', '.join(TYPES)}")
    shapes = [[name, array.dtype.name, list(array.shape)] for name, array in kept.items()]
    header = json.dumps({"fields": dict(fields), "arrays": shapes}).encode()
    stream.write(struct.pack("<I", len(header)) + header)
    for array in kept.values():
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: BinaryIO) -> Message:
    """Read one message; raises :class:`EOFError` when the other side has gone, :class:`ValueError` for other bytes."""
    (length,) = struct.unpack("<I", _exactly(stream, 4))
    if length > LARGEST_HEADER:
        raise ValueError(
            f"a header of {length} bytes: something else than messages was written into the pipe"
        )
    header = json.loads(_exactly(stream, length))
    arrays = {}
    for name, kind, shape in header["arrays"]:
        if kind not in TYPES:
            raise ValueError(f"array {name!r} is {kind!r}; a message carries {', '.join(TYPES)}")
        raw = _exactly(stream, math.prod(shape) * np.dtype(kind).itemsize)
        arrays[name] = np.frombuffer(bytearray(raw), kind).reshape(shape)
    return header["fields"], arrays


def serve(build: Callable[[], tuple[Mapping[str, Any], Answer]]) -> None:
    """Build a server, say its hello, and answer the messages on the standard input until it is closed.

    What libraries print, from the building on, goes to the standard error, so that it does not fall between messages.

    Args:
        build: returns the hello and the function that answers a message.
    """
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    hello, answer = build()
    send(out, hello)
    while True:
        try:
            fields, arrays = receive(sys.stdin.buffer)
        except EOFError:
            return
        send(out, *answer(fields, arrays))


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError(f"the pipe was closed after {len(data)} of {count} bytes")
    return data
