"""Inverse dynamics p(a | s, c): the action that joins the present to a predicted future (`ar.inverse-dynamics`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, masked_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.tokens import StreamTokens


@EstimatorConfig.register_subclass("inverse_dynamics")
@dataclass(frozen=True)
class InverseDynamicsConfig(EstimatorConfig):
    """Action between the present and a given future, plain, masked or residual (UniPi; Vidar; survey eq. 20).

    Attributes:
        mask: learn which tokens of the given streams matter; the others are cut off, so that whatever they show
            changes nothing (the masked model of Vidar). What the context shows is not masked.
        sparsity: cost of keeping all tokens, in units of the action's mean squared error.
        readout: ``tokens`` reads the given tokens as they are; ``spatial_softmax`` reads ``keypoints`` expected
            positions per view and step (Finn et al. 2016).
        keypoints: number of positions of the spatial softmax.
        grid: rows and columns of the tokens of one view, for the spatial softmax.
        residual: a base action, linear in the given values, plus the network's correction, which starts at zero.
    """

    mask: bool = False
    sparsity: float = 0.1
    readout: Literal["tokens", "spatial_softmax"] = "tokens"
    keypoints: int = 8
    grid: tuple[int, int] | None = None
    residual: bool = False

    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> InverseDynamics:
        """Build; raises :class:`ConfigError` unless it joins futures or goals by one continuous action."""
        reader = "estimator 'inverse_dynamics'"
        if len(outputs) != 1 or outputs[0].role != "action":
            raise ConfigError(f"{reader} generates the action alone, not {[s.name for s in outputs]}")
        outputs[0].require(discrete=False, reader=reader)
        if not any(s.role in ("future", "goal") for s in given):
            raise ConfigError(
                f"{reader} reads the action off a future or a goal, but is given {[s.name for s in given]}. "
                f"Name one in its factor's `given`."
            )
        if self.residual:
            for spec in given:
                spec.require(discrete=False, reader=f"the base action of {reader}")
        if self.readout == "spatial_softmax":
            for spec in given:
                if self.grid is None or spec.tokens % (self.grid[0] * self.grid[1]):
                    raise ConfigError(
                        f"{reader}: stream {spec.name!r} has {spec.tokens} tokens per step, which grid {self.grid} "
                        f"does not divide into views. Set `grid` to the rows and columns of one view."
                    )
        return InverseDynamics(self, outputs[0], given, require_trunk(trunk, reader))


class TokenMask(nn.Module):
    """Keep or cut every token by what it shows and where it is: hard, with a straight-through gradient.

    In training the choice is random with the learned probability (binary concrete, Maddison et al. 2017), so that
    a token that is kept by habit is tried without; acting takes the likelier choice.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        nn.init.constant_(self.network[-1].bias, 1.0)  # type: ignore[arg-type]  # begin with all of them

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) -> the mask (..., 1) of zeros and ones, and its probability, which the sparsity acts on."""
        logit = self.network(tokens)
        kept = torch.sigmoid(logit)
        if not self.training:
            return (kept > 0.5).to(kept.dtype), kept
        noise = torch.rand_like(logit).clamp(1e-6, 1 - 1e-6)
        soft = torch.sigmoid(logit + noise.logit())
        return (soft > 0.5).to(soft.dtype) + (soft - soft.detach()), kept


class SpatialSoftmax(nn.Module):
    """Tokens on a grid -> expected positions, as one token per view."""

    places: Tensor

    def __init__(self, width: int, grid: tuple[int, int], keypoints: int) -> None:
        super().__init__()
        rows, columns = (torch.linspace(-1, 1, n) for n in grid)
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
        self.register_buffer("places", places, persistent=False)
        self.heat = nn.Linear(width, keypoints)
        self.content = nn.Linear(width, 4)
        self.outward = nn.Linear(keypoints * 6, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, N, D) -> (B, T, views, D): per keypoint its position and a little of what is there."""
        views = tokens.unflatten(2, (-1, len(self.places)))
        weight = self.heat(views).softmax(dim=3).transpose(3, 4)  # (B, T, views, keypoints, tokens)
        found = torch.cat((weight @ self.places, weight @ self.content(views)), dim=-1)
        return self.outward(found.flatten(3))


@final
class InverseDynamics(Estimator):
    """Learned queries read the context and the (masked) given streams; mean squared error on the action."""

    family: ClassVar[Family] = "joint-embedding"

    def __init__(
        self, config: InverseDynamicsConfig, output: StreamSpec, given: Sequence[StreamSpec], trunk: Trunk
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.output = StreamTokens(output, trunk.width)
        self.names = [s.name for s in given]
        self.given = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in given})
        self.masks = nn.ModuleDict({s.name: TokenMask(trunk.width) for s in given if config.mask})
        grid = config.grid if config.readout == "spatial_softmax" else None
        self.readouts = nn.ModuleDict(
            {s.name: SpatialSoftmax(trunk.width, grid, config.keypoints) for s in given if grid is not None}
        )
        size = sum(s.length * s.features for s in given)
        self.base = nn.Linear(size, output.length * output.features) if config.residual else None
        if config.residual:
            nn.init.zeros_(self.output.outward.weight)
            nn.init.zeros_(self.output.outward.bias)

    def masks_of(self, given: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Stream -> mask and probability (B, T, N, 1) of each of its tokens. Empty without ``mask``."""
        found = {}
        for name, mask in self.masks.items():
            stream = self._stream(name)
            found[name] = mask(stream.inward(given[name]) + stream.position)
        return found

    def _stream(self, name: str) -> StreamTokens:
        stream = self.given[name]
        assert isinstance(stream, StreamTokens)
        return stream

    def _predict(self, call: Call) -> tuple[Tensor, Tensor]:
        """The action (B, T, N, D) and the share of tokens that was kept, a scalar."""
        masks = self.masks_of(call.given)
        tokens, layout, flat = [], [], []
        for name in self.names:
            values, stream = call.given[name], self._stream(name)
            kept = masks[name][0] if name in masks else torch.ones((), device=self.output.position.device)
            # The position is added behind the mask: a token that is cut off still says where nothing is.
            content = stream.inward(values) * kept + stream.position
            if name in self.readouts:
                content = self.readouts[name](content)
            tokens.append(content.flatten(1, 2))
            layout.append((name, tokens[-1].shape[1]))
            if self.base is not None:
                flat.append((values * kept).flatten(1))
        _, cache = self.trunk(torch.cat(tokens, dim=1), cache=call.context, layout=layout)
        queries = self.output.position.flatten(0, 1)[None].expand(call.rows, -1, -1)
        spec = self.output.spec
        hidden, _ = self.trunk(queries, cache=call.context.append(cache), layout=[(spec.name, spec.length)])
        action = self.output.read(hidden)
        if self.base is not None:
            action = action + self.base(torch.cat(flat, dim=1)).view_as(action)
        shares = [share.mean() for _, share in masks.values()]
        return action, torch.stack(shares).mean() if shares else action.new_zeros(())

    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """See :class:`wamkit.contract.Estimator`."""
        name = self.output.spec.name
        action, share = self._predict(call)
        error = F.mse_loss(action, targets[name].values, reduction="none")
        term = masked_mean(error, targets[name].pad) + self.config.sparsity * share
        return FactorLoss({name: term}, {name: action})

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """See :class:`wamkit.contract.Estimator`. One function evaluation."""
        action, _ = self._predict(call)
        return Generated({self.output.spec.name: action}, {self.output.spec.name: 1})
