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
    """Layout of one block: the executed action chunk, then the observation after it, all at noise level 0.

    Args:
        streams: streams that are remembered, generated or given ones; those that no block has (goals, states, texts)
            are left out.
        blocks: number of blocks that are kept.
        ticks: control ticks of one block; None for the whole action chunk.

    Raises:
        ConfigError: no stream has a past, or the steps of the action do not divide a block.
    """

    def __init__(self, streams: Sequence[StreamSpec], blocks: int, ticks: int | None = None) -> None:
        self.blocks = blocks
        self.futures = [s for s in streams if s.role == "future"]
        # Of several action streams, what was executed is remembered as the values of `action`.
        actions = [s for s in streams if s.role == "action"]
        self.action = min(actions, key=lambda spec: spec.name != ACTION, default=None)
        if self.action is None and not self.futures:
            raise ConfigError(
                "a denoiser with `history` keeps blocks of executed actions and observed futures, so it must generate, "
                f"be given or remember one; it has {[s.name for s in streams]}"
            )
        self.action_steps = 0 if self.action is None else self.action.steps
        if self.action is not None and ticks is not None:
            self.action_steps, rest = divmod(ticks, self.action.ticks_per_step)
            if rest or self.action_steps > self.action.steps:
                raise ConfigError(
                    f"a denoiser with `history`: a block of {ticks} ticks is not a whole number of up to "
                    f"{self.action.steps} steps of stream {self.action.name!r}, {self.action.ticks_per_step} ticks "
                    f"each. Choose the design's `stride` and `horizon` or the representation of actions accordingly."
                )

    @property
    def action_tokens(self) -> int:
        """Number of tokens of the action of one block."""
        return 0 if self.action is None else self.action_steps * self.action.tokens

    @property
    def tokens_per_block(self) -> int:
        """Number of tokens of one block."""
        return self.action_tokens + sum(s.tokens for s in self.futures)

    def tokens(
        self, past: Past, embed: Callable[[str, Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embed K blocks in order: tokens (B, K * n, D), their padding and their block indices, both (B, K * n)."""
        b, k = past.pad.shape
        clean = torch.zeros(b * k, device=past.pad.device)
        parts, pads = [], []
        if self.action is not None:
            parts.append(embed(self.action.name, past.action.flatten(0, 1), clean))
            pads.append(past.action_pad[:, :, None].expand(-1, -1, self.action_tokens))
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
        block = [(s.name, s.tokens) for s in self.futures]
        if self.action is not None:
            block.insert(0, (self.action.name, self.action_tokens))
        return block * blocks

    @staticmethod
    def block_causal(clock: Tensor) -> Tensor:
        """Mask (N, N) bool: a block reads itself and the blocks before it."""
        return clock[:, None] >= clock[None, :]
