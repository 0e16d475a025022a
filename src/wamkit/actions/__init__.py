"""Action representations: action chunk <-> action stream."""

from wamkit.actions.bins import Bins, BinsConfig
from wamkit.actions.chunk import Chunk, ChunkConfig
from wamkit.actions.columns import Columns, ColumnsConfig
from wamkit.actions.fast import Fast, FastConfig
from wamkit.actions.movement_primitive import MovementPrimitive, MovementPrimitiveConfig
from wamkit.actions.painted import Painted, PaintedConfig

__all__ = [
    "Bins",
    "BinsConfig",
    "Chunk",
    "ChunkConfig",
    "Columns",
    "ColumnsConfig",
    "Fast",
    "FastConfig",
    "MovementPrimitive",
    "MovementPrimitiveConfig",
    "Painted",
    "PaintedConfig",
]
