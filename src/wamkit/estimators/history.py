"""Real past blocks as tokens, kept in the cache of a chunk-causal model (`mm.kv-reground`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wamkit.contract.protocols import Layout
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import Past, StreamSpec
from wamkit.errors import ConfigError


class BlockMemory:
    """Layout of one block: the executed action chunk, then the observation after it, all at noise level 0."""

    def __init__(self, outputs: Sequence[StreamSpec], blocks: int) -> None:
        self.blocks = blocks
        # Of several action streams, what was executed is remembered as the values of `action`.
        actions = [s for s in outputs if s.role == "action"]
        action = min(actions, key=lambda spec: spec.name != ACTION, default=None)
        self.futures = [s for s in outputs if s.role == "future"]
        if action is None or not self.futures:
            raise ConfigError(
                "a denoiser with `history` keeps blocks of executed actions and observed futures, so it must "
                f"generate both; it generates {[s.name for s in outputs]}"
            )
        for spec in self.futures:
            if spec.steps != 1:
                raise ConfigError(
                    f"a denoiser with `history` predicts one step per block, but stream {spec.name!r} has "
                    f"{spec.steps}. Give it a single offset, equal to the design's stride."
                )
        self.action = action

    @property
    def tokens_per_block(self) -> int:
        """Number of tokens of one block."""
        return self.action.length + sum(s.tokens for s in self.futures)

    def tokens(
        self, past: Past, embed: Callable[[str, Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embed K blocks in order: tokens (B, K * n, D), their padding and their block indices, both (B, K * n)."""
        b, k = past.pad.shape
        clean = torch.zeros(b * k, device=past.pad.device)
        parts = [embed(self.action.name, past.action.flatten(0, 1), clean)]
        pads = [past.action_pad[:, :, None].expand(-1, -1, self.action.length)]
        for spec in self.futures:
            values = past.values[spec.name].flatten(0, 1)[:, None]  # (B * K, 1, N, D)
            parts.append(embed(spec.name, values, clean))
            pads.append(past.pad[:, :, None].expand(-1, -1, spec.tokens))
        tokens = torch.cat(parts, dim=1).unflatten(0, (b, k)).flatten(1, 2)
        pad = torch.cat(pads, dim=2).flatten(1, 2)
        clock = torch.arange(k, device=pad.device).repeat_interleave(self.tokens_per_block)
        return tokens, pad, clock[None].expand(b, -1)

    def layout(self, blocks: int) -> Layout:
        """List the runs of tokens of ``blocks`` blocks, (stream, length) each."""
        block = [(self.action.name, self.action.length), *((s.name, s.tokens) for s in self.futures)]
        return block * blocks

    @staticmethod
    def block_causal(clock: Tensor) -> Tensor:
        """Mask (N, N) bool: a block reads itself and the blocks before it."""
        return clock[:, None] >= clock[None, :]
