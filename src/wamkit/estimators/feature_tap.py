"""Feature tap: a hidden state of the network that generates a future replaces the future (`ps.feature-tap`, eq. 14).

    tap           tokens of the future, after a number of evaluations and a number of layers of the trunk
    encoder-only  tokens that read the context alone, after a number of layers; the future is generated from them in
                  training and left out when acting

The generator is any estimator that walks from noise to data by evaluations of a trunk, and it does not change: it
runs on a trunk that hands the tokens of a recorded call to that call's recorder. When only the action is wanted,
neither the layers nor the evaluations after the tap are executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Room, Size
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Exposure, Family, Layout, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators.checks import require_disjoint, require_trunk
from wamkit.estimators.denoiser import DenoiserConfig

PLACE = "estimator 'feature_tap'"
Output = tuple[Tensor, Cache]


@EstimatorConfig.register_subclass("feature_tap")
@dataclass(frozen=True)
class FeatureTapConfig(EstimatorConfig):
    """Hidden state of a denoiser as the future that the action reads (VPP, mimic-video, Fast-WAM; survey eq. 14).

    The estimator generates a future and a tap of it (``DesignConfig.taps``). The factor that reads the tap decides
    whether the action's loss trains the tapped network: ``read="prediction"`` sends no gradient into it.

    Attributes:
        generator: estimator of the future; its own ``trunk`` is not used.
        kind: ``tap``, or ``encoder-only`` (the hidden state does not depend on the future).
        layer: number of trunk layers before the tap.
        evaluation: evaluation of the generator at which the tap is read, counted from 1 (pure noise).
            ``Budget.exit`` of the tap's stream overrides it in a call.
    """

    generator: EstimatorConfig = field(default_factory=DenoiserConfig)
    kind: Exposure = "tap"
    layer: Room = 1
    evaluation: Size = 1

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> FeatureTap:
        """Build the estimator.

        Raises:
            ConfigError: the streams are not a future and a tap of it, the trunk does not have the layer, or the
                generator cannot be tapped.
            BudgetError: the evaluation lies outside the generator's evaluations.
        """
        trunk = require_trunk(trunk, PLACE)
        require_disjoint(outputs, given, PLACE)
        by_role = {spec.role: spec for spec in outputs}
        if set(by_role) != {"future", "state"} or len(outputs) != 2:
            raise ConfigError(
                f"{PLACE} generates one future and one tap of it, not {[s.name for s in outputs]}. "
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


class Recorder:
    """Recorder of one call: keeps the hidden state of one evaluation of the future.

    Args:
        evaluation: evaluation to keep, counted from 1.
        stop: True to skip the layers after the tap in that evaluation.
        gradient: True to let gradients flow through the tap, even where the generator runs without gradients.
    """

    def __init__(self, evaluation: int, *, stop: bool, gradient: bool) -> None:
        self.evaluation, self.stop, self.gradient = evaluation, stop, gradient
        self.passes = 0
        self._hidden: Tensor | None = None
        self._last: Callable[[], Output] | None = None

    def _keep(self, to_tap: Callable[[], Output]) -> Output:
        with torch.set_grad_enabled(self.gradient):
            self._hidden, cache = to_tap()
        return self._hidden.detach(), cache

    def run(self, whole: Callable[[], Output], to_tap: Callable[[], Output]) -> Output:
        """Run one evaluation of the future.

        Args:
            whole: all layers of the evaluation.
            to_tap: the layers up to the tap.
        """
        self.passes += 1
        self._last = to_tap
        if self.passes == self.evaluation:
            output = self._keep(to_tap)
            if self.stop:
                return output
        return whole()

    def hidden(self) -> Tensor:
        """Hidden state (B, tokens, width) at the tap; of the last evaluation when the generator settled earlier."""
        if self._hidden is None:
            assert self._last is not None
            self._keep(self._last)
        assert self._hidden is not None
        return self._hidden


@dataclass(frozen=True)
class RecordedCache(Cache):
    """Context of a recorded call. Whatever is appended to it, it carries the call's recorder."""

    recorder: Recorder = field(kw_only=True)

    @classmethod
    def of(cls, cache: Cache, recorder: Recorder) -> RecordedCache:
        """Attach a recorder to a cache."""
        return cls(cache.keys, cache.values, cache.pad, cache.times, cache.owner, recorder=recorder)

    @override
    def append(self, other: Cache) -> RecordedCache:
        return self.of(super().append(other), self.recorder)

    @override
    def repeat(self, copies: int) -> RecordedCache:
        return self.of(super().repeat(copies), self.recorder)

    @override
    def last(self, count: int) -> RecordedCache:
        return self.of(super().last(count), self.recorder)


@final
class Listener(Trunk):
    """Trunk whose evaluations of one stream can be recorded; it keeps nothing between or during calls."""

    def __init__(self, trunk: Trunk, future: StreamSpec, layer: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.width, self.depth = trunk.width, trunk.depth
        self.future = future
        self.layer = layer

    @override
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
    ) -> Output:
        def run(depth: int | None) -> Output:
            return self.trunk(
                tokens, cache=cache, attend=attend, pad=pad, times=times, layout=layout, layers=depth
            )

        if isinstance(cache, RecordedCache) and [name for name, _ in layout] == [self.future.name]:
            return cache.recorder.run(lambda: run(layers), lambda: run(self.layer))
        return run(layers)

    @override
    def check(self, streams: Sequence[str]) -> None:
        self.trunk.check(streams)

    @override
    def empty(self, batch_size: int, length: int) -> Cache:
        return self.trunk.empty(batch_size, length)


@final
class FeatureTap(Estimator):
    """``p(future, tap | given, c)``: the generator's loss trains the future, and the tap is inferred.

    In training as when acting, the tap is read from noise at the configured evaluation, never from a true future.
    Gradients reach the trunk's layers up to the tap, but not the evaluations before it.
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
        self.guidable = generator.guidable
        if config.kind == "encoder-only":
            self.queries = nn.Parameter(torch.randn(future.length, listener.width) * 0.02)

    def _encoded(self, call: Call, layers: int | None = None) -> tuple[Tensor, Call]:
        """Hidden state (B, T, N, width) of the queries; with all layers, also the call with them in its context."""
        tokens = self.queries.expand(call.rows, -1, -1)
        hidden, cache = self.listener(tokens, cache=call.context, layout=self.layout, layers=layers)
        return self._shaped(hidden), call if layers is not None else replace(
            call, context=call.context.append(cache)
        )

    def _shaped(self, hidden: Tensor) -> Tensor:
        """Reshape (B, tokens, width) to (B, T, N, width)."""
        return hidden.unflatten(1, (self.listener.future.steps, self.listener.future.tokens))

    def _at(self, budget: Budget) -> int:
        """Evaluation at which the tap is read."""
        return budget.exit.get(self.tap, self.config.evaluation)

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Loss of the generator; the tap is inferred as it is when acting."""
        if self.config.kind == "encoder-only":
            tap, _ = self._encoded(call, self.config.layer)
            loss = self.generator.loss([self.future], self._encoded(call)[1], targets, past)
            return FactorLoss(loss.terms, {**loss.inferred, self.tap: tap})
        loss = self.generator.loss([self.future], call, targets, past)
        noise = RowNoise(torch.randint(2**62, (call.rows,)).tolist(), call.context.pad.device)
        sample = self._recorded([self.tap], call, Budget(), noise)
        return FactorLoss(loss.terms, {**loss.inferred, **sample.values})

    def _recorded(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Run the generator and record the tap; without the future in ``outputs``, stop at the tap."""
        at, alone = self._at(budget), self.future not in outputs
        leave = {self.future: at} if alone else {k: v for k, v in budget.exit.items() if k == self.future}
        recorder = Recorder(at, stop=alone, gradient=torch.is_grad_enabled())
        call = replace(call, context=RecordedCache.of(call.context, recorder))
        with torch.no_grad():
            sample = self.generator.generate([self.future], call, replace(budget, exit=leave), noise)
        values = {self.tap: self._shaped(recorder.hidden())}
        if alone:
            return Generated(values, {self.tap: sample.nfe[self.future]})
        return Generated({**sample.values, **values}, {**sample.nfe, self.tap: 1})

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        """True for an encoder-only state, which the context determines."""
        return self.config.kind == "encoder-only" and list(outputs) == [self.tap]

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Sample the wanted streams; tap and future together cost one further pass, up to the tap."""
        if self.config.kind == "tap":
            if self.tap in outputs:
                return self._recorded(outputs, call, budget, noise)
            return self.generator.generate(outputs, call, budget, noise)
        values, spent = {}, {}
        if self.tap in outputs:
            values[self.tap], spent[self.tap] = self._encoded(call, self.config.layer)[0], 1
        if self.future in outputs:
            sample = self.generator.generate([self.future], self._encoded(call)[1], budget, noise)
            values.update(sample.values)
            spent.update(sample.nfe)
        return Generated(values, spent)

    @override
    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """Require that the tap lies within the future's evaluations."""
        self.generator.check_budget([self.future], budget)
        if self.config.kind == "encoder-only":
            if self.tap in budget.exit:
                raise BudgetError(
                    f"exit for stream {self.tap!r}: no evaluation leads to it, because kind is encoder-only"
                )
            return
        if self.tap in budget.nfe:
            raise BudgetError(
                f"nfe for stream {self.tap!r}: set the evaluation at which it is read with `exit`"
            )
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

    @override
    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """True: future and tap can each be generated without the other."""
        return True
