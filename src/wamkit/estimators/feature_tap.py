"""A hidden state of the network that generates a future, handed on in place of the future (`ps.feature-tap`, eq. 14).

    tap           the tokens of the future, after so many evaluations and so many layers of the trunk
    encoder-only  tokens that read the context alone, after so many layers; the future is generated from them in
                  training and left out when acting

The generator is any estimator that goes from noise to data by evaluations of a trunk. It is not changed: the trunk
that it runs on is one that can be listened to and stopped. What comes after the tap is not executed when the action
alone is wanted, neither the later layers nor the later evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Exposure, Family, Layout, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators.checks import require_disjoint, require_trunk
from wamkit.estimators.denoiser import DenoiserConfig

PLACE = "estimator 'feature_tap'"


@EstimatorConfig.register_subclass("feature_tap")
@dataclass(frozen=True)
class FeatureTapConfig(EstimatorConfig):
    """Hidden state of a denoiser as the future that the action reads (VPP, mimic-video, Fast-WAM; survey eq. 14).

    It generates a future and a tap of it (``DesignConfig.taps``). Whether the action's loss trains the tapped
    network is decided by the factor that reads the tap: ``read="prediction"`` sends no gradient into it.

    Attributes:
        generator: what generates the future; its own ``trunk`` is not used.
        kind: ``tap``, or ``encoder-only`` (the future has no part in the hidden state).
        layer: after how many layers of the trunk it is read.
        evaluation: at which evaluation of the generator it is read, counted from 1, where noise is all there is.
            ``Budget.exit`` of the tap's stream changes it in a call.
    """

    generator: EstimatorConfig = field(default_factory=DenoiserConfig)
    kind: Exposure = "tap"
    layer: int = 1
    evaluation: int = 1

    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> FeatureTap:
        """Build; raises :class:`ConfigError` when the streams, the layer or the evaluation do not fit."""
        trunk = require_trunk(trunk, PLACE)
        require_disjoint(outputs, given, PLACE)
        by_role = {spec.role: spec for spec in outputs}
        if set(by_role) != {"future", "state"} or len(outputs) != 2:
            raise ConfigError(
                f"{PLACE} generates one future and one tap of it; it is asked for {[s.name for s in outputs]}. "
                f"Name both in one factor."
            )
        future, tap = by_role["future"], by_role["state"]
        if (tap.steps, tap.tokens, tap.features) != (future.steps, future.tokens, trunk.width):
            raise ConfigError(
                f"{PLACE}: stream {tap.name!r} is not a tap of {future.name!r}. Declare it in `taps`."
            )
        if not 1 <= self.layer <= trunk.depth:
            raise ConfigError(f"{PLACE}: layer {self.layer} of a trunk that has layers 1 to {trunk.depth}")
        listener = Listener(trunk, future, self.layer)
        generator = self.generator.build((future,), given, listener)
        if not generator.exits or generator.past:
            raise ConfigError(
                f"{PLACE}: the generator cannot be stopped at an evaluation, or keeps a past. Use a denoiser "
                f"without `history`."
            )
        model = FeatureTap(self, generator, listener, future, tap)
        model.check_budget([future.name, tap.name], Budget())
        return model


@final
class Listener(Trunk):
    """A trunk as another one, that hands out the hidden state of one layer at one evaluation of one stream.

    It remembers what it listens to from one :meth:`reset` to the next, so one call at a time.
    """

    def __init__(self, trunk: Trunk, future: StreamSpec, layer: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.width, self.depth = trunk.width, trunk.depth
        self.future = future
        self.layer = layer
        self.reset()

    def reset(self, evaluation: int = 0, stop: bool = False, gradient: bool = False) -> None:
        """Listen to the ``evaluation``-th pass over the future's tokens from now on; 0: to none.

        Args:
            evaluation: counted from 1.
            stop: do not run the layers after the tap in that pass.
            gradient: let gradients flow through the tap, also where none are wanted of the passes before.
        """
        self.evaluation, self.stop, self.gradient = evaluation, stop, gradient
        self.passes = 0
        self.heard: Tensor | None = None
        self.last: tuple[Tensor, dict[str, Any]] | None = None

    def _listen(self, tokens: Tensor, options: dict[str, Any]) -> tuple[Tensor, Cache]:
        with torch.set_grad_enabled(self.gradient):
            hidden, cache = self.trunk(tokens, layers=self.layer, **options)
        self.heard = hidden
        return hidden.detach(), cache

    def tap(self) -> Tensor:
        """The hidden state (B, T, N, width). A generator that settled early is heard where it settled."""
        if self.heard is None:
            assert self.last is not None
            self._listen(*self.last)
        assert self.heard is not None
        return self.heard.unflatten(1, (self.future.steps, self.future.tokens))

    def forward(
        self,
        tokens: Tensor,
        *,
        cache: Cache | None = None,
        attend: Tensor | None = None,
        pad: Tensor | None = None,
        times: Tensor | None = None,
        layout: Layout = (),
        layers: int | None = None,
    ) -> tuple[Tensor, Cache]:
        """See :meth:`wamkit.contract.Trunk.forward`."""
        options = {"cache": cache, "attend": attend, "pad": pad, "times": times, "layout": layout}
        if self.evaluation and [name for name, _ in layout] == [self.future.name]:
            self.passes += 1
            self.last = (tokens, options)
            if self.passes == self.evaluation:
                heard = self._listen(tokens, options)
                if self.stop:
                    return heard
        return self.trunk(tokens, layers=layers, **options)

    def check(self, streams: Sequence[str]) -> None:
        """See :meth:`wamkit.contract.Trunk.check`."""
        self.trunk.check(streams)

    def empty(self, batch_size: int, length: int) -> Cache:
        """See :meth:`wamkit.contract.Trunk.empty`."""
        return self.trunk.empty(batch_size, length)


@final
class FeatureTap(Estimator):
    """``p(future, tap | given, c)``: the generator's loss trains the future, the tap is inferred.

    A tap is read, in training too, from noise at the evaluation at which it will be read when acting, never from a
    true future. Gradients reach the trunk's layers up to the tap, not the evaluations before it.
    """

    family: ClassVar[Family] = "diffusion"
    exits = True

    def __init__(
        self,
        config: FeatureTapConfig,
        generator: Estimator,
        listener: Listener,
        future: StreamSpec,
        tap: StreamSpec,
    ) -> None:
        super().__init__()
        self.config = config
        self.generator = generator
        self.listener = listener
        self.future, self.tap = future.name, tap.name
        self.layout = [(future.name, future.length)]
        self.exposes = {tap.name: config.kind}
        if config.kind == "encoder-only":
            self.queries = nn.Parameter(torch.randn(future.length, listener.width) * 0.02)

    def _encoded(self, call: Call, layers: int | None = None) -> tuple[Tensor, Call]:
        """Hidden state (B, T, N, width) of the queries after ``layers``, and the call with them in its context."""
        tokens = self.queries.expand(call.rows, -1, -1)
        hidden, cache = self.listener(tokens, cache=call.context, layout=self.layout, layers=layers)
        shaped = hidden.unflatten(1, (self.listener.future.steps, self.listener.future.tokens))
        return shaped, call if layers is not None else replace(call, context=call.context.append(cache))

    def _at(self, budget: Budget) -> int:
        return budget.exit.get(self.tap, self.config.evaluation)

    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """The generator's loss of the future; the tap as it will be when acting."""
        if self.config.kind == "encoder-only":
            tap, _ = self._encoded(call, self.config.layer)
            found = self.generator.loss([self.future], self._encoded(call)[1], targets, past)
            return FactorLoss(found.terms, {**found.inferred, self.tap: tap})
        found = self.generator.loss([self.future], call, targets, past)
        noise = RowNoise(torch.randint(2**62, (call.rows,)).tolist(), call.context.pad.device)
        made = self._listened([self.tap], call, Budget(), noise)
        return FactorLoss(found.terms, {**found.inferred, **made.values})

    def _listened(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Run the generator, as far as the tap where no more is wanted."""
        at, alone = self._at(budget), self.future not in outputs
        leave = {self.future: at} if alone else {k: v for k, v in budget.exit.items() if k == self.future}
        self.listener.reset(at, stop=alone, gradient=torch.is_grad_enabled())
        try:
            with torch.no_grad():
                made = self.generator.generate([self.future], call, replace(budget, exit=leave), noise)
            values = {self.tap: self.listener.tap()}
        finally:
            self.listener.reset()
        if alone:
            return Generated(values, {self.tap: made.nfe[self.future]})
        return Generated({**made.values, **values}, {**made.nfe, self.tap: 1})

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """The tap, and the future where it is wanted; both together cost one more pass, as far as the tap."""
        if self.config.kind == "tap":
            if self.tap in outputs:
                return self._listened(outputs, call, budget, noise)
            return self.generator.generate(outputs, call, budget, noise)
        values, spent = {}, {}
        if self.tap in outputs:
            values[self.tap], spent[self.tap] = self._encoded(call, self.config.layer)[0], 1
        if self.future in outputs:
            made = self.generator.generate([self.future], self._encoded(call)[1], budget, noise)
            values.update(made.values)
            spent.update(made.nfe)
        return Generated(values, spent)

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """See :class:`wamkit.contract.Estimator`: the tap lies within the future's evaluations."""
        self.generator.check_budget([self.future], budget)
        if self.config.kind == "encoder-only":
            if self.tap in budget.exit:
                raise BudgetError(
                    f"exit for stream {self.tap!r}: no evaluation leads to it, it is an encoder's"
                )
            return
        if self.tap in budget.nfe:
            raise BudgetError(f"nfe for stream {self.tap!r}: say at which evaluation it is read, with `exit`")
        at = self._at(budget)
        try:
            self.generator.check_budget([self.future], replace(budget, exit={self.future: at}))
        except BudgetError as error:
            raise BudgetError(f"tap {self.tap!r} at evaluation {at} of {self.future!r}: {error}") from error
        if at > budget.exit.get(self.future, at):
            raise BudgetError(
                f"tap {self.tap!r} is read at evaluation {at}, after the exit of {self.future!r} at "
                f"{budget.exit[self.future]}. Lower the exit of {self.tap!r}."
            )

    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """Either can be had without the other."""
        return True
