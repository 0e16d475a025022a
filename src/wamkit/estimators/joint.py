"""Streams that are generated together: attention between them, and one pass of the trunk over all of them.

Streams that read each other pass through the trunk side by side. A stream that others read without reading them
back goes first, and the others read its keys and values (`cp.leakage-mask`, `cp.action-centric-mask`). Its result is
then bit-identical with and without the others, because its tokens cannot read theirs at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.protocols import Trunk
from wamkit.errors import ConfigError, did_you_mean


class StreamReads:
    """Attention rules among the streams that one estimator generates.

    Args:
        names: the streams, in order.
        table: stream -> streams it may read besides itself; a stream without an entry reads all.
        reader: the estimator, for errors.

    Raises:
        ConfigError: a name is unknown, or two streams that read each other do not read the same other streams.
    """

    def __init__(self, names: Sequence[str], table: Mapping[str, Sequence[str]], reader: str) -> None:
        self.names = tuple(names)
        for name in {*table, *(source for sources in table.values() for source in sources)}:
            if name not in self.names:
                raise ConfigError(
                    f"{reader}: `reads` names stream {name!r}, but it generates {sorted(self.names)}. "
                    f"{did_you_mean(name, self.names)}"
                )
        self._table = {n: frozenset(table.get(n, self.names)) - {n} for n in self.names}
        for block in self.blocks(self.names):
            outside = {n: self._table[n] - set(block) for n in block}
            if len(set(outside.values())) > 1:
                differences = "; ".join(f"{n!r} reads {sorted(others)}" for n, others in outside.items())
                raise ConfigError(
                    f"{reader}: streams {block} read each other, so they must read the same other streams, but "
                    f"{differences}. Change `reads`."
                )

    def allows(self, reader: str, source: str) -> bool:
        """True when tokens of ``reader`` may attend to tokens of ``source``."""
        return reader == source or source in self._table[reader]

    def unread(self, present: Sequence[str], source: str) -> bool:
        """True when no other present stream may read ``source``."""
        return not any(self.allows(name, source) for name in present if name != source)

    def mutual(self, present: Sequence[str]) -> bool:
        """True when every present stream may read every other one."""
        return all(self.allows(i, j) for i in present for j in present)

    def reaches(self, name: str, sources: Sequence[str]) -> bool:
        """Whether ``name`` depends on every one of ``sources`` when these are present, directly or through others."""
        return set(sources) <= self._reach(name, [name, *sources])

    def _reach(self, name: str, present: Sequence[str]) -> frozenset[str]:
        """Streams that ``name`` depends on, directly or through others, itself included."""
        reached, todo = {name}, [name]
        while todo:
            fresh = (self._table[todo.pop()] & set(present)) - reached
            reached |= fresh
            todo += sorted(fresh)
        return frozenset(reached)

    def depends(self, reader: str, source: str, present: Sequence[str]) -> bool:
        """True when ``reader`` depends on ``source``, directly or through other present streams."""
        return source in self._reach(reader, present)

    def blocks(self, present: Sequence[str]) -> list[list[str]]:
        """Group the present streams into blocks that read each other; every block comes after the blocks it reads."""
        reach = {name: self._reach(name, present) for name in present}
        groups: dict[frozenset[str], list[str]] = {}
        for name in present:
            groups.setdefault(reach[name], []).append(name)
        return [groups[key] for key in sorted(groups, key=len)]


def visible(block: Sequence[str], reads: StreamReads, hidden: Mapping[str, Tensor]) -> Tensor:
    """Mask (B, S, S) bool of one block of streams: True where the row's stream may read the column's.

    A hidden stream is read by itself alone.
    """
    device = hidden[block[0]].device
    allowed = torch.tensor([[reads.allows(i, j) for j in block] for i in block], device=device)
    same = torch.eye(len(block), dtype=torch.bool, device=device)
    shown = ~torch.stack([hidden[name] for name in block], dim=1)
    return (shown[:, None, :] & allowed) | same


def cut(cache: Cache, start: int, stop: int, hidden: Tensor) -> Cache:
    """Cut tokens ``start`` to ``stop`` out of a cache, padded in the rows (B,) in which they are hidden."""
    return Cache(
        keys=tuple(k[:, :, start:stop] for k in cache.keys),
        values=tuple(v[:, :, start:stop] for v in cache.values),
        pad=cache.pad[:, start:stop] | hidden[:, None],
        times=cache.times[:, start:stop],
        owner=None if cache.owner is None else cache.owner[:, start:stop],
    )


def run_joint(
    trunk: Trunk,
    reads: StreamReads,
    tokens: Mapping[str, Tensor],
    hidden: Mapping[str, Tensor],
    cache: Cache,
    times: Tensor | None,
) -> dict[str, Tensor]:
    """Evaluate the trunk once: tokens (B, L, width) per stream -> hidden tokens of the same shape per stream.

    Args:
        trunk: the network.
        reads: attention rules among the streams.
        tokens: tokens of the present streams.
        hidden: stream -> (B,) bool, True in rows where no other stream may read it.
        cache: cache that all streams read.
        times: (B,) block index of the new tokens, or None.
    """
    outputs: dict[str, Tensor] = {}
    caches: dict[str, Cache] = {}
    blocks = reads.blocks(list(tokens))
    for i, block in enumerate(blocks):
        lengths = [tokens[name].shape[1] for name in block]
        context = cache
        for name in caches:
            if reads.allows(block[0], name):  # the streams of a block read the same other streams
                context = context.append(caches[name])
        attend = None
        if len(block) > 1:
            owner = torch.arange(len(block)).repeat_interleave(torch.tensor(lengths)).to(cache.pad.device)
            attend = visible(block, reads, hidden)[:, owner][:, :, owner]
        clock = None if times is None else times[:, None].expand(-1, sum(lengths))
        joined = torch.cat([tokens[name] for name in block], dim=1)
        layout = list(zip(block, lengths, strict=True))
        out, fresh = trunk(joined, cache=context, attend=attend, times=clock, layout=layout)
        outputs.update(zip(block, out.split(lengths, dim=1), strict=True))
        start = 0
        for name, length in zip(block, lengths, strict=True):
            if i + 1 < len(blocks):
                caches[name] = cut(fresh, start, start + length, hidden[name])
            start += length
    return {name: outputs[name] for name in tokens}
