"""Training in imagination: a policy learns from what a world model says its own actions lead to (`pt.wm-rl`).

Each step imagines several rollouts per recorded start, turns their returns into advantages within the group of a start,
and regresses the policy on its own imagined actions, each in proportion to exp(advantage / temperature). That needs
nothing of the policy but its loss, so any action head can be trained (Peng et al. 2019; Hafner et al. 2023). The value
stream of the design's own world can be trained beside it on the returns (`pl.imagination-ac`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Fraction, Positive, Probability, Size, Word, Words
from wamkit.config.values import Config
from wamkit.contract.calls import Call
from wamkit.contract.planning import ObjectiveConfig
from wamkit.contract.rows import join_observations, take_rows
from wamkit.contract.streams import Target, masked_mean
from wamkit.contract.types import Batch, Losses, Observation, to_device
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.design.graph import Factor
from wamkit.design.sampling import context_of
from wamkit.errors import ConfigError, TrainingError
from wamkit.imagination.acting import Imagination, ImaginedStep, Start
from wamkit.imagination.returns import advantages, drawn_rows, improved_shares, lambda_returns
from wamkit.training.objective import Demonstrations, Objective
from wamkit.training.selection import Selection

PREFIX = "imagined."  # of the losses on imagined actions, beside those on the recordings


@dataclass(frozen=True)
class ImaginedConfig(Config):
    """Training on imagined rollouts, beside the recordings; start from a trained design (`pretrained`).

    Attributes:
        objective: reward of a step, a score of the first block that the world predicts; None for the value alone.
        value: future stream of the world with the value of the state at the end of a step; None for none.
        world: checkpoint folder or hub id of the world model; None for the design itself, which is then also trained as
            a world model by the share of recordings.
        critic: true to train ``value`` on the returns of the imagined rollouts too; the values that they end with are
            those of the run's moving average (`optim.ema`).
        steps: steps of a rollout, each up to the world's first offset.
        starts: recorded moments per training step at which rollouts start.
        group: rollouts per start.
        discount: factor on a return for every control tick.
        trace: weight of what is rewarded later against what the value says (lambda of the returns).
        temperature: advantage, in standard deviations, that makes an action e times as likely; smaller is greedier.
        share: weight of the loss on the recordings; the loss in imagination has the rest.
        hindsight: futures that the action is generated from, or together with, and that the world imagines too: the
            policy is regressed on what followed its action in place of what it had planned, so that a plan stays a
            prediction.
        fixed: sensors that keep their values from the start of a rollout.
    """

    objective: ObjectiveConfig | None = None
    value: Word | None = None
    world: Word | None = None
    critic: bool = False
    steps: Size = 1
    starts: Size = 8
    group: Size = 8
    discount: Fraction = 0.98
    trace: Probability = 0.95
    temperature: Positive = 0.5
    share: Probability = 0.5
    hindsight: Words = ()
    fixed: Words = ()


@dataclass(frozen=True)
class Rollouts:
    """Rollouts of one training step: K steps of R rows, those of one start side by side.

    Attributes:
        made: their steps.
        returns: (K, R), return from the start of each step.
        shares: (K, R), share of each row in what the policy is regressed on.
    """

    made: Sequence[ImaginedStep]
    returns: Tensor
    shares: Tensor


@final
class Imagined(Objective):
    """Loss on the recordings and on the policy's own imagined actions.

    Args:
        config: settings.
        design: design in training.
        world: world model, or None for the design itself.
        dataset: recordings with all that the world model's windows need.
        selection: parts that learn.
        average: moving average of the design, whose values the returns end with when the critic learns.

    Raises:
        ConfigError: the settings do not fit the design or the world.
    """

    def __init__(
        self,
        config: ImaginedConfig,
        design: Design,
        world: Design | None,
        dataset: Dataset,
        selection: Selection,
        average: Design | None = None,
    ) -> None:
        self.config, self.design, self.selection = config, design, selection
        self.average = None if average is None else average.eval()
        self.world = design if world is None else world.requires_grad_(False).eval()
        self.imagination = Imagination(design, self.world, config.objective, config.value, config.fixed)
        self.dataset = dataset.with_extras(sorted({*design.extras, *self.world.extras}))
        self.recordings = Demonstrations(selection)
        self.factors = improved_factors(design)
        self._check(world)

    def _check(self, world: Design | None) -> None:
        config = self.config
        if config.group < 2:
            raise ConfigError(f"imagined: group {config.group} compares a rollout with none; give at least 2")
        if config.critic and (world is not None or config.value is None or config.steps < 2):
            raise ConfigError(
                "imagined: `critic` trains `value` of the design's own world on returns of two steps or more. Name "
                "the stream, set `steps` to at least 2, and leave out `world`, whose weights stay as they are."
            )
        for name in config.hindsight:
            self._check_hindsight(name)
        for factor in self.factors:
            check_without_past(self.design, factor)

    def _check_hindsight(self, name: str) -> None:
        design, world = self.design, self.world
        planned = {generated for factor in self.factors for generated in factor.generates}
        if name not in planned or name not in self.imagination.futures:
            raise ConfigError(
                f"imagined: hindsight {name!r} must be a future that the action of {design.factorisation()} is "
                f"generated from, or together with, and that follows the action in {world.factorisation()}"
            )
        # Statistics are buffers that are no part of a state dict.
        parts = [side.substrate(name) for side in (design, world)]
        ours, theirs = ({**dict(p.named_parameters()), **dict(p.named_buffers())} for p in parts)
        alike = ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())
        if design.streams[name] != world.streams[name] or not alike:
            raise ConfigError(
                f"imagined: hindsight {name!r} has other values in the world model than in the design. Give both one "
                f"substrate, offsets and codec: fit them to the same data with the same seed, or start one from the "
                f"other."
            )

    @override
    def loss(self, design: Design, batch: Batch, weights: Mapping[str, float]) -> Losses:
        design.eval()
        rollouts, gap = self.imagine(batch)
        self.selection.train_mode(design)
        nothing = Losses(torch.zeros(()), {})
        recorded = self.recordings.loss(design, batch, weights) if self.config.share else nothing
        count = batch.action.shape[0]
        terms = self.policy_terms(design, rollouts, count)
        if self.config.critic:
            terms.update(self.critic_terms(design, rollouts, count))
        imagined = Losses.weighted(terms, weights)
        share = self.config.share
        total = share * recorded.total + (1 - share) * imagined.total
        facts = {"return": rollouts.returns[0].mean(), **gap}
        return Losses(total, {**recorded.terms, **{PREFIX + n: t for n, t in terms.items()}}, facts)

    @override
    def after_step(self, design: Design) -> None:
        self.recordings.after_step(design)

    def imagine(self, batch: Batch) -> tuple[Rollouts, dict[str, Tensor]]:
        """Rollouts from the first windows of a batch, and how far the world is from what was recorded there."""
        config = self.config
        assert batch.index is not None
        index = batch.index[: config.starts].cpu().numpy()
        first = self.dataset.windows(index, self.design.training_window)
        second = self.dataset.windows(index, self.world.training_window)
        start = self.imagination.start(first, second)
        gap = self.recorded_gap(second, start)
        rows = torch.arange(len(index)).repeat_interleave(config.group)
        seeds = torch.randint(2**62, (len(rows),)).tolist()
        valued_by = self.average if config.critic else None
        made = self.imagination.roll(start.rows(rows), config.steps, seeds=seeds, valued_by=valued_by)
        check_varied(made[0].action, config.group)
        discount = config.discount**self.imagination.ticks
        value = torch.stack([step.value for step in made])
        returns = lambda_returns(torch.stack([s.reward for s in made]), value, discount, config.trace)
        above = advantages(returns, None if config.value is None else value, config.group)
        return Rollouts(made, returns, improved_shares(above, config.group, config.temperature)), gap

    @torch.no_grad()
    def recorded_gap(self, batch: Batch, start: Start) -> dict[str, Tensor]:
        """Mean reward and value imagined for the recorded actions, minus what the recordings say of the same step."""
        world, imagination = self.world, self.imagination
        batch = to_device(batch, world.device)
        ahead = slice(batch.past, batch.past + world.config.horizon)
        action = batch.action[:, ahead]
        seeds = torch.randint(2**62, (action.shape[0],)).tolist()
        (step,) = imagination.roll(start, 1, seeds=seeds, act=lambda _: action)
        targets = world.targets(batch)
        recorded = {name: targets[name].values for name in imagination.futures}
        outside = batch.action_pad[:, ahead][:, : imagination.ticks].any(dim=1)
        for name in imagination.futures:
            outside = outside | targets[name].pad[:, 0]
        found = {}
        if imagination.objective is not None:
            real = imagination.score(recorded, action, start)
            found["gap.reward"] = masked_mean((step.reward - real)[:, None], outside[:, None])
        if imagination.value is not None:
            real = imagination.worth_of(world).worth(recorded[imagination.value])[:, 0]
            found["gap.value"] = masked_mean((step.value - real)[:, None], outside[:, None])
        return found

    def policy_terms(self, design: Design, rollouts: Rollouts, count: int) -> dict[str, Tensor]:
        """Losses of the policy on ``count`` of its own acts, drawn by their shares."""
        made = rollouts.made
        drawn = drawn_rows(rollouts.shares.flatten(), count)
        values = {name: torch.cat([s.values[name] for s in made])[drawn] for name in made[0].values}
        for name in self.config.hindsight:
            values[name] = torch.cat([s.future[name] for s in made])[drawn]
        seen = take_rows(join_observations([s.observation for s in made]), drawn)
        return factor_terms(design, self.factors, seen, values)

    def critic_terms(self, design: Design, rollouts: Rollouts, count: int) -> dict[str, Tensor]:
        """Losses of the value on the returns from the ends of all steps but the last, whose value is all there is."""
        name, made = self.config.value, rollouts.made[:-1]
        assert name is not None
        returns = rollouts.returns[1:].flatten()
        drawn = drawn_rows(torch.full_like(returns, 1 / len(returns)), count)
        known = [{**s.values, **s.future} for s in made]
        values = {key: torch.cat([k[key] for k in known])[drawn] for key in known[0]}
        seen = take_rows(join_observations([s.observation for s in made]), drawn)
        worth = self.imagination.worth_of(design).valued(returns[drawn][:, None])
        # Later steps of the stream are the recordings' to teach: no return from there has been imagined.
        values[name] = torch.cat((worth, values[name][:, 1:]), dim=1)
        pad = torch.ones(values[name].shape[:2], dtype=torch.bool, device=worth.device)
        pad[:, 0] = False
        factor = design.graph.factor_of(name)
        return {name: factor_terms(design, [factor], seen, values, {name: pad})[name]}


def improved_factors(design: Design) -> list[Factor]:
    """Factors that are the policy: those of its actions, and of the plans and subgoals that they are generated from."""
    graph = design.graph
    plans = {n for n in graph.ancestors(graph.acting()) if graph.roles[n] in ("future", "goal", "text")}
    policy = graph.acting() | plans
    return [factor for factor in graph.factors if policy & set(factor.generates)]


def check_without_past(design: Design, factor: Factor) -> None:
    """Raise :class:`ConfigError` when a factor of the policy learns from a real past."""
    if design.estimators[factor.estimator].past:
        raise ConfigError(
            f"imagined: {', '.join(factor.generates)} is learned from a real past by estimator {factor.estimator!r}, "
            f"and an imagined step has none. Give the policy an estimator without `history`."
        )


def check_varied(action: Tensor, group: int) -> None:
    """Raise :class:`TrainingError` when the actions (R, H, A) of every start are all the same."""
    grouped = action.unflatten(0, (-1, group))
    if bool((grouped == grouped[:, :1]).all()):
        raise TrainingError(
            "imagined: all rollouts of a start take the same actions, so that none is better than another. Let the "
            "policy draw: give its estimator a `temperature` above 0."
        )


def factor_terms(
    design: Design,
    factors: Sequence[Factor],
    seen: Observation,
    values: Mapping[str, Tensor],
    pads: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Losses of factors on imagined values: stream -> scalar.

    Args:
        design: design in training.
        factors: factors, none of which reads a real past.
        seen: (R, T) observations, real or imagined.
        values: stream -> (R, ...) of all that the factors generate or are given.
        pads: stream -> (R, T) bool, True for steps that teach nothing; none of them without an entry.
    """
    context, rows, real = design.encode_context(seen), seen.batch_size, design.real(seen)
    terms: dict[str, Tensor] = {}
    for factor in factors:
        estimator = design.estimators[factor.estimator]
        now = None if estimator.observes is None else seen.steps([-1])
        given = {name: values[name] for name in factor.given}
        call = Call(context_of(factor.estimator, design.graph, context), given, (), rows, now=now, real=real)
        targets = {}
        for name in factor.generates:
            if name in values and design.streams[name].role != "state":
                none = torch.zeros(values[name].shape[:2], dtype=torch.bool, device=values[name].device)
                targets[name] = Target(values[name], (pads or {}).get(name, none))
        terms.update(estimator.loss(factor.generates, call, targets, None).terms)
    return terms
