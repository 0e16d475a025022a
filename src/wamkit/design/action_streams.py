"""Action streams of a design: several representations of one action, and the executed action made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wamkit.contract.calls import ByColumn
from wamkit.contract.protocols import ActionRepresentation
from wamkit.contract.specs import ACTION, ActionSpec
from wamkit.contract.streams import cleared
from wamkit.contract.types import Batch
from wamkit.errors import ConfigError, SpecError


@dataclass(frozen=True)
class ActionStreams:
    """Representations of the action, each the values of a stream.

    Attributes:
        parts: stream -> its representation; ``action`` comes first.
        action: spec of the action.
    """

    parts: Mapping[str, ActionRepresentation]
    action: ActionSpec

    def owned(self, name: str) -> tuple[int, ...]:
        """Columns of the action that a stream represents."""
        columns = self.parts[name].columns
        return tuple(range(self.action.width)) if columns is None else columns

    def executed(self) -> tuple[str, ...]:
        """Streams that make up the executed action: ``action``, and those that own the columns it leaves out.

        Raises:
            ConfigError: a column has no owner, or two owners.
        """
        executed, covered = [ACTION], set(self.owned(ACTION))
        for name in self.parts:
            columns = set(self.owned(name))
            if columns <= covered:
                continue
            twice = [self.action.names[i] for i in sorted(columns & covered)]
            if twice:
                raise ConfigError(
                    f"actions: stream {name!r} and {executed} both own {twice}, and neither owns the whole action. "
                    f"Give every entry to one stream, or let {ACTION!r} own all of them."
                )
            executed.append(name)
            covered |= columns
        missing = [name for i, name in enumerate(self.action.names) if i not in covered]
        if missing:
            raise ConfigError(
                f"action: no stream owns the entries {missing}, so the action cannot be executed. Let {ACTION!r} own "
                f"them, or a further stream in `actions`."
            )
        return tuple(executed)

    def real(self, columns: Tensor | None) -> dict[str, Tensor]:
        """Real features of every stream (:attr:`wamkit.contract.calls.Call.real`), by ``columns`` (B, A) bool."""
        if columns is None:
            return {}
        found = {}
        for name, part in self.parts.items():
            spec = part.spec(name)
            everything = columns.new_ones(len(columns), 1, *spec.step)
            real = part.real(columns) if isinstance(part, ByColumn) else everything
            found[name] = real.expand(-1, spec.steps, *spec.step)
        return found

    def encode_one(self, name: str, action: Tensor, columns: Tensor | None) -> Tensor:
        """Values of a stream for actions (B, H, A), 0 where they only pad; ``columns`` as in :meth:`real`.

        What stands in a column that the robot does not have is not read.
        """
        if columns is None:
            return self.parts[name].encode(action)
        known = action.masked_fill(~columns[:, None], 0.0)
        return cleared(self.parts[name].encode(known), self.real(columns)[name])

    def encode(self, action: Tensor, columns: Tensor | None = None) -> dict[str, Tensor]:
        """Encode (B, H, A) in physical units: stream -> values. The arguments are those of :meth:`encode_one`."""
        return {name: self.encode_one(name, action, columns) for name in self.parts}

    def decode(self, values: Mapping[str, Tensor]) -> Tensor:
        """Decode stream -> values into the executed action (B, H', A), H' the ticks that all its streams have."""
        if self.parts[ACTION].columns is None:
            return self.parts[ACTION].decode(values[ACTION])
        decoded = {name: self.parts[name].decode(values[name]) for name in self.executed()}
        ticks = min(part.shape[1] for part in decoded.values())
        action = torch.cat([part[:, :ticks] for part in decoded.values()], dim=2)
        order = torch.tensor([i for name in decoded for i in self.owned(name)], device=action.device)
        return action[..., order.argsort()]


def known_ticks(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Actions from "now" on, (B, H, A), their padding mask (B, H), and the rows (B,) recorded without any.

    What stands under the padding is not read: the last real action is held there, and rows without actions are zero.

    Raises:
        SpecError: a row has actions before "now" and none after.
    """
    action, pad = batch.action[:, batch.past :], batch.action_pad[:, batch.past :]
    ticks = torch.arange(pad.shape[1], device=pad.device).expand_as(pad)
    last = ticks.masked_fill(pad, -1).cummax(dim=1).values.clamp(min=0)
    absent = pad.all(dim=1)
    half = absent & (~batch.action_pad[:, : batch.past]).any(dim=1)
    if half.any():
        raise SpecError(
            f"batch.action_pad marks all actions from now on in row {int(half.nonzero()[0])}, but not those before. "
            f"The action of now lies inside its episode; a clip without actions is padded throughout."
        )
    held = action.gather(1, last[..., None].expand_as(action))
    return held.masked_fill(absent[:, None, None], 0.0), pad, absent
