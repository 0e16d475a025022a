"""Inverse dynamics p(a | s, c): action between the present and a predicted future (`ar.inverse-dynamics`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import NonNegative, Size
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, masked_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.tokens import StreamTokens
from wamkit.nn.named import Named


@EstimatorConfig.register_subclass("inverse_dynamics")
@dataclass(frozen=True)
class InverseDynamicsConfig(EstimatorConfig):
    """Action between the present and a given future, plain, masked or residual (UniPi; Vidar; survey eq. 20).

    Attributes:
        mask: true to learn which tokens of the given streams matter and cut off the others, whose content then has no
            effect (the masked model of Vidar). Context tokens are not masked.
        sparsity: cost of keeping all tokens, in units of the action's mean squared error.
        readout: readout of the given streams: ``tokens`` reads them unchanged; ``spatial_softmax`` reads
            ``keypoints`` expected positions per view and step (Finn et al. 2016).
        keypoints: number of positions of the spatial softmax.
        grid: rows and columns of the tokens of one view, for the spatial softmax.
        residual: true to add the network's output, which starts at zero, to a base action linear in the given values.
        pairs: true to read the actions between two neighbouring given steps off these two alone (UniPi); the actions
            before the first step are read off the context and this step. The action's steps are dealt evenly.
    """

    mask: bool = False
    sparsity: NonNegative = 0.1
    readout: Literal["tokens", "spatial_softmax"] = "tokens"
    keypoints: Size = 8
    grid: tuple[Size, Size] | None = None
    residual: bool = False
    pairs: bool = False

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> InverseDynamics:
        """Build the estimator.

        Raises:
            ConfigError: the output is not one continuous action, no future or goal is given, or the given streams do
                not fit ``residual``, ``grid`` or ``pairs``.
        """
        reader = "estimator 'inverse_dynamics'"
        if len(outputs) != 1 or outputs[0].role != "action":
            raise ConfigError(f"{reader} generates the action alone, not {[s.name for s in outputs]}")
        outputs[0].require(discrete=False, reader=reader)
        if not any(s.role in ("future", "goal") for s in given):
            raise ConfigError(
                f"{reader} reads the action off a future or a goal, but is given {[s.name for s in given]}. "
                f"Name one in its factor's `given`."
            )
        if self.pairs and (len({s.steps for s in given}) > 1 or outputs[0].steps % given[0].steps):
            raise ConfigError(
                f"{reader}: pairs of neighbouring steps need as many steps in every given stream, "
                f"{ {s.name: s.steps for s in given} }, and a multiple of them in the action, which has "
                f"{outputs[0].steps}. Change the offsets, or the action's ticks_per_token."
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
    """Hard mask that keeps or cuts a token by its content and position, with a straight-through gradient.

    Training samples the mask with the learned probability (binary concrete, Maddison et al. 2017), so that it also
    tries to do without tokens that it usually keeps; acting takes the more likely choice.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden, logit = nn.Linear(width, width), nn.Linear(width, 1)
        nn.init.constant_(logit.bias, 1.0)  # keep most tokens at first
        self.network = nn.Sequential(hidden, nn.GELU(), logit)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mask (..., 1) of tokens (..., D) and its probability, which sparsity penalises."""
        logit = self.network(tokens)
        kept = torch.sigmoid(logit)
        if not self.training:
            return (kept > 0.5).to(kept.dtype), kept
        noise = torch.rand_like(logit).clamp(1e-6, 1 - 1e-6)
        soft = torch.sigmoid(logit + noise.logit())
        return (soft > 0.5).to(soft.dtype) + (soft - soft.detach()), kept


class SpatialSoftmax(nn.Module):
    """Expected positions of keypoints on a grid of tokens, as one token per view."""

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
        """Read (B, T, N, D) as (B, T, views, D), from the position and the content of every keypoint."""
        views = tokens.unflatten(2, (-1, len(self.places)))
        weight = self.heat(views).softmax(dim=3).transpose(3, 4)  # (B, T, views, keypoints, tokens)
        keypoints = torch.cat((weight @ self.places, weight @ self.content(views)), dim=-1)
        return self.outward(keypoints.flatten(3))


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
        self.given = Named({s.name: StreamTokens(s, trunk.width) for s in given})
        self.masks = Named({s.name: TokenMask(trunk.width) for s in given if config.mask})
        grid = config.grid if config.readout == "spatial_softmax" else None
        self.readouts = Named(
            {s.name: SpatialSoftmax(trunk.width, grid, config.keypoints) for s in given if grid is not None}
        )
        size = sum(s.length * s.features for s in given)
        self.base = nn.Linear(size, output.length * output.features) if config.residual else None
        if config.residual:
            nn.init.zeros_(self.output.outward.weight)
            nn.init.zeros_(self.output.outward.bias)

    def masks_of(self, given: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Compute the mask and its probability, (B, T, N, 1) each, per stream. Empty without ``mask``."""
        masks = {}
        for name, mask in self.masks.items():
            stream = self.given[name]
            masks[name] = mask(stream.inward(given[name]) + stream.position)
        return masks

    def _predict(self, call: Call) -> tuple[Tensor, Tensor]:
        """Predict the action (B, T, N, D), and the mean probability that a token is kept, a scalar."""
        masks = self.masks_of(call.given)
        tokens, layout, flat = [], [], []
        for name in self.names:
            values, stream = call.given[name], self.given[name]
            kept = masks[name][0] if name in masks else torch.ones((), device=self.output.position.device)
            # The position is added after the mask: a token that is cut off keeps its place.
            content = stream.inward(values) * kept + stream.position
            if name in self.readouts:
                content = self.readouts[name](content)
            tokens.append(content.flatten(1, 2))
            layout.append((name, tokens[-1].shape[1]))
            if self.base is not None:
                flat.append((values * kept).flatten(1))
        queries = self.output.position.flatten(0, 1)[None].expand(call.rows, -1, -1)
        spec = self.output.spec
        asked = [(spec.name, spec.length)]
        if self.config.pairs:
            everything, near = torch.cat([*tokens, queries], dim=1), self._neighbours([n for _, n in layout])
            hidden, _ = self.trunk(everything, cache=call.context, attend=near, layout=[*layout, *asked])
            hidden = hidden[:, -spec.length :]
        else:
            _, cache = self.trunk(torch.cat(tokens, dim=1), cache=call.context, layout=layout)
            hidden, _ = self.trunk(queries, cache=call.context.append(cache), layout=asked)
        action = self.output.read(hidden)
        if self.base is not None:
            action = action + self.base(torch.cat(flat, dim=1)).view_as(action)
        shares = [share.mean() for _, share in masks.values()]
        return action, torch.stack(shares).mean() if shares else action.new_zeros(())

    def _neighbours(self, lengths: Sequence[int]) -> Tensor:
        """Mask (N, N) bool among the tokens of the given streams, ``lengths`` each, and the action's queries.

        A given token reads its own step; a query reads the steps on both sides of its place, and its own kind there.
        """
        steps, spec = self.given[self.names[0]].spec.steps, self.output.spec
        place = [torch.arange(steps).repeat_interleave(length // steps) for length in lengths]
        gap = torch.arange(steps).repeat_interleave(spec.length // steps)  # between step - 1 and step
        column, device = torch.cat([*place, gap]), self.output.position.device
        known = len(column) - spec.length
        near = column[:, None] == column[None, :]
        near[:known, known:] = False
        near[known:, :known] |= column[known:, None] == column[None, :known] + 1
        return near.to(device)

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Mean squared error of the action, plus the sparsity of the masks."""
        name = self.output.spec.name
        action, share = self._predict(call)
        error = F.mse_loss(action, targets[name].values, reduction="none")
        term = masked_mean(error, targets[name].pad, call.real.get(name)) + self.config.sparsity * share
        return FactorLoss({name: term}, {name: action})

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Predict the action in one function evaluation."""
        action, _ = self._predict(call)
        return Generated({self.output.spec.name: action}, {self.output.spec.name: 1})
