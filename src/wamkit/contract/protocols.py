"""The contract on one page: abstract base classes of all kinds of parts.

A part implements one of these classes and is built by its frozen config (a draccus choice). Parts see streams and
tensors; they never depend on another part's class or on a design's name. Every class below is abstract, and every
class that implements one is final. Planners and their objectives stand beside it, in :mod:`.planning`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import draccus
from torch import Tensor, nn

from wamkit.config.values import Config
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.requests import VariableConfig
from wamkit.contract.scales import Scale
from wamkit.contract.streams import Camera, Past, PointMotion, Reading, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget, Carry, Observation, WindowSpec

Category = Literal["none", "pixel-grounded", "feature", "geometric", "affordance", "sensor", "latent state"]
Standing = Literal["world", "body", "score"]
# Categories whose name in the survey's tables is another one.
CATEGORY_NAMES: Mapping[Category, str] = {"pixel-grounded": "Pixel"}
Layout = Sequence[tuple[str, int]]
Family = Literal[
    "diffusion", "autoregressive", "joint-embedding", "proposal", "state-space", "geometric", "mixture"
]
Exposure = Literal["tap", "encoder-only"]


class Encoder(nn.Module, ABC):
    """Observation -> context tokens.

    Attributes:
        extras: names of the extras of an observation that it reads, in training and when acting.
        pixels: those of ``extras`` that hold coordinates of pixels -> camera in whose picture they lie.
        unsensed: those of them that no sensor delivers, so that they may be absent when acting.
        goal: true when it reads the goal observation (the design's aim in training, the caller's goal when acting).
        requests: name -> variable of the context that a caller may request a value of.
    """

    extras: tuple[str, ...] = ()
    pixels: Mapping[str, str] = MappingProxyType({})
    unsensed: tuple[str, ...] = ()
    goal: bool = False
    requests: Mapping[str, VariableConfig] = MappingProxyType({})

    @abstractmethod
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Encode into tokens (B, N, D) and their padding mask (B, N) bool, True where a token must not be read."""

    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the parts of the encoder that stay frozen, once, before the design is trained. Saved with the design."""


class Substrate(nn.Module, ABC):
    """Future observation <-> the values of a future stream s.

    Attributes:
        extras: names of the extras of an observation that the target is made of; needed in training, and when acting
            by a controller that compares the stream with what is seen.
        relative: true when a target is relative to "now" (motion), so that a single observation does not give it.
        rebases: true when :meth:`rebase` can express relative values as seen from a later moment.
        moving: true when its values change while the design trains, so that nothing can be fitted to them.
        category: substrate category of the survey.
        variant: variant within the category, such as ``latent``.
        decodable: true when :meth:`decode` returns images.
        standing: kind of thing that is predicted: the ``world`` as the action faces it, the robot's own ``body`` (its
            sensors), or a ``score`` (progress, value, reward). The survey's substrate cell names futures of the world,
            and those of the body where no other is faced.
        moves: body whose motion the values show (``object``, ``gripper``) -> extras of the present observation that
            :meth:`moving_points` reads.
    """

    extras: tuple[str, ...] = ()
    relative: bool = False
    rebases: bool = False
    moving: bool = False
    category: ClassVar[Category]
    variant: ClassVar[str]
    decodable: bool = False
    moves: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    standing: Standing = "world"

    def cell(self) -> tuple[tuple[str, str], ...]:
        """Entries of the substrate in the survey's tables, (category, variant) each, e.g. ``("Pixel", "latent")``.

        The survey names no variant of geometric and affordance futures.
        """
        unnamed = self.category in ("geometric", "affordance")
        return (
            (CATEGORY_NAMES.get(self.category, self.category.capitalize()), "" if unnamed else self.variant),
        )

    def label(self) -> str:
        """Name of the representation for people, more exact than its cell, e.g. ``Geometric (tracks)``."""
        return f"{CATEGORY_NAMES.get(self.category, self.category.capitalize())} ({self.variant})"

    @abstractmethod
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        """Spec of a stream of this substrate over ``steps`` time steps."""

    def grids(self) -> Scale:
        """Layout of a step's tokens: rows and columns of every picture, side by side; a single row by default."""
        return ((1, self.spec("future", "future", 1).tokens),)

    @abstractmethod
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """Encode (B, T) observations into values (B, T, N, D) or ids (B, T, N). No gradient flows into a target.

        Args:
            observation: observations at the T steps.
            now: (B, 1) observation at the moment of prediction. Always given when ``relative``.
        """

    def rebase(self, values: Tensor, observation: Observation, now: Observation) -> Tensor:
        """Values (B, T, N, D) predicted at ``now``, as a prediction made at the later ``observation``, both (B, 1)."""
        if not self.relative:
            return values
        raise NotImplementedError(f"{type(self).__name__} stays relative to its call; check `rebases` first")

    def decode(self, values: Tensor) -> dict[str, Tensor]:
        """Decode values into images, camera -> (B, T, 3, height, width) uint8. Only when ``decodable``."""
        raise NotImplementedError(f"{type(self).__name__} has no decoder; check `decodable` first")

    def readings(self, values: Tensor) -> dict[str, Reading]:
        """Interpret values in measurable units: name -> :class:`Reading`. Pictures are named after their camera."""
        if self.decodable:
            return {
                name: Reading("picture", picture.float() / 255, shows=Camera(name))
                for name, picture in self.decode(values).items()
            }
        if not values.is_floating_point():
            return {"tokens": Reading("token", values)}
        if self.category in ("feature", "latent state"):
            return {"features": Reading("feature", values)}
        return {"values": Reading("quantity", values)}

    def moving_points(self, values: Tensor, now: Observation, body: str) -> PointMotion:
        """Points of a body of ``moves``, now and at the T steps, that values (B, T, N, D) tell of."""
        raise NotImplementedError(f"{type(self).__name__} shows no moving points; check `moves` first")

    def fit(self, windows: Windows, seed: int) -> None:
        """Fit a codec or train a teacher once, before the design is trained. Frozen afterwards."""

    def bind(self, encoders: Mapping[str, Encoder], data: DataSpec) -> None:
        """Receive the design's encoders before :meth:`spec`; raises :class:`ConfigError` if one is missing."""

    def after_step(self, encoders: Mapping[str, Encoder]) -> None:
        """Update moving averages of the encoders after a step of the optimiser."""


class ActionRepresentation(nn.Module, ABC):
    """Action chunk in physical units <-> the values of an action stream a.

    Attributes:
        columns: indices of the entries of the action that it represents, ascending; None for all of them.
    """

    columns: tuple[int, ...] | None = None

    @abstractmethod
    def spec(self, name: str) -> StreamSpec:
        """Spec of the action stream."""

    @abstractmethod
    def encode(self, action: Tensor) -> Tensor:
        """Encode (B, H, A) in the units of the action spec into values (B, T, N, D) or ids (B, T, N)."""

    @abstractmethod
    def decode(self, values: Tensor) -> Tensor:
        """Invert :meth:`encode`, clipped to the limits of the action spec: (B, H, A), or its ``columns`` alone."""

    def fit(self, windows: Windows, seed: int) -> None:
        """Fit a tokenizer once, before the design is trained. Frozen afterwards, saved in buffers."""


class Trunk(nn.Module, ABC):
    """Tokens -> tokens, with a cache of keys and values computed before.

    Attributes:
        width: features per token.
        depth: number of layers.
        language: true when it is a language or vision-language model that was not made for robots (eq. 32).
        streams: streams that its config names; each must run on it.
    """

    width: int
    depth: int
    language: bool = False
    streams: tuple[str, ...] = ()

    @property
    def context_width(self) -> int:
        """Features per context token; they may differ from those of a stream's tokens."""
        return self.width

    @abstractmethod
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
        """Run the network over new tokens.

        Args:
            tokens: (B, N, D) new tokens. All of them attend to the cache.
            cache: keys and values of earlier tokens, never recomputed.
            attend: (N, N) or (B, N, N) bool among new tokens, True where row may attend to column; None for no mask.
            pad: (B, N) bool padding mask, True for new tokens that must not be read; None for no padding.
            times: (B, N) int64 block index of each new token, for the relative time bias; None for no bias.
            layout: runs of new tokens in order, (stream, length) each, for trunks with experts; empty for context.
            layers: number of layers to run, from the first one; None for all. The hidden state of an inner layer is
                not normalised, and the cache then holds the keys and values of these layers only.

        Returns:
            Hidden states (B, N, D) and the cache of the new tokens alone.
        """

    def check(self, streams: Sequence[str]) -> None:
        """Raise :class:`ConfigError` when this trunk cannot run tokens of one of ``streams``."""

    def shape(self, streams: Sequence[StreamSpec]) -> None:
        """Receive the specs of streams that run on it, for trunks that know a stream's steps; called when building."""

    @abstractmethod
    def empty(self, batch_size: int, length: int) -> Cache:
        """Make a cache of ``length`` padded tokens: the memory at the start of an episode."""


@dataclass(frozen=True)
class Meanings:
    """What the values of a design's streams mean, for parts that compute in the units of the world.

    Attributes:
        data: specs of the data.
        streams: stream name -> spec.
        action: representation of the action stream.
        substrates: future or goal stream -> its substrate.
        offsets: future stream -> control ticks of its steps after "now"; empty for milestones.
    """

    data: DataSpec
    streams: Mapping[str, StreamSpec]
    action: ActionRepresentation
    substrates: Mapping[str, Substrate]
    offsets: Mapping[str, tuple[int, ...]]


class Estimator(nn.Module, ABC):
    """Density of one or more factors: ``p(outputs | given, c)``.

    Attributes:
        family: function family.
        processes: number of generative processes with noise schedules of their own that share this estimator's trunk.
        past: blocks of real past that training needs and that inference carries.
        reads: stream -> streams generated in the same factor that it may read; without an entry, all of them.
        guidable: true when it honours :attr:`Call.guide`.
        exits: true when a stream can be passed on partly denoised (``Budget.exit``).
        exposes: state stream -> kind of hidden state of the network that generates the future (survey eq. 14):
            ``tap``, one on the way to the future, or ``encoder-only``, one that does not depend on the future.
        observes: names of the extras of the present observation that it reads besides the context
            (:attr:`Call.now`), or None when it reads the context alone.
    """

    family: ClassVar[Family]
    processes: int = 1
    past: int = 0
    reads: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    guidable: bool = False
    exits: bool = False
    exposes: Mapping[str, Exposure] = MappingProxyType({})
    observes: tuple[str, ...] | None = None

    def bind(self, meanings: Meanings) -> None:
        """Receive what the streams mean, once, when the design is built; raises :class:`ConfigError` on a misfit."""

    @abstractmethod
    def loss(
        self,
        outputs: Sequence[str],
        call: Call,
        targets: Mapping[str, Target],
        past: Past | None,
    ) -> FactorLoss:
        """Compute the training loss of ``p(outputs | call.given, c)``."""

    @abstractmethod
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Sample ``p(outputs | call.given, c)``. Streams that are neither in ``outputs`` nor given are left out."""

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """Raise :class:`BudgetError` when this estimator cannot honour ``budget``."""

    def sees(self, spec: StreamSpec, outputs: Sequence[str]) -> tuple[frozenset[str], ...]:
        """Streams among ``outputs`` that reach each step of the generated stream ``spec``, directly or through others.

        The default follows ``reads`` and holds for estimators whose steps all read the same.
        """
        todo, reached = [spec.name], set[str]()
        while todo:
            sources = set(self.reads.get(todo.pop(), outputs)) & set(outputs) - reached
            reached |= sources
            todo += sorted(sources)
        return (frozenset(reached),) * spec.steps

    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        """Return True when ``outputs`` are sampled given a value of ``stream``, which is generated with or after them.

        Streams that a factor is given do not count: every estimator reads those.
        """
        return False

    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """Return True when the other outputs can be generated without ``stream`` under this budget."""
        return False

    def initial_carry(self, batch_size: int) -> Carry:
        """Make the state carried between calls, at the start of an episode; an empty tuple when nothing is carried."""
        return ()

    def observe(self, carry: Carry, context: Cache, past: Past) -> Carry:
        """Add one real block (K = 1) to the carry, in place of what was imagined for it; returns the new carry."""
        return carry


@dataclass(frozen=True)
class EncoderConfig(Config, draccus.ChoiceRegistry):
    """Base of all encoder configs."""

    def build(self, data: DataSpec, window: WindowSpec, width: int) -> Encoder:
        """Build the encoder for ``width`` features per token."""
        raise NotImplementedError


@dataclass(frozen=True)
class SubstrateConfig(Config, draccus.ChoiceRegistry):
    """Base of all substrate configs."""

    def build(self, data: DataSpec) -> Substrate:
        """Build the substrate."""
        raise NotImplementedError


@dataclass(frozen=True)
class ActionConfig(Config, draccus.ChoiceRegistry):
    """Base of all action representation configs."""

    def build(self, data: DataSpec, horizon: int) -> ActionRepresentation:
        """Build the representation for chunks of ``horizon`` ticks."""
        raise NotImplementedError


@dataclass(frozen=True)
class TrunkConfig(Config, draccus.ChoiceRegistry):
    """Base of all trunk configs."""

    def build(self) -> Trunk:
        """Build the trunk."""
        raise NotImplementedError


@dataclass(frozen=True)
class EstimatorConfig(Config, draccus.ChoiceRegistry):
    """Base of all estimator configs.

    Attributes:
        trunk: name of the trunk that it runs on, or None for an estimator with its own network. Two estimators on
            one trunk make the hybrid family.
    """

    trunk: str | None = "main"

    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Estimator:
        """Build the estimator; raises :class:`ConfigError` when the streams do not fit it."""
        raise NotImplementedError
