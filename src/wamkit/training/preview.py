"""Preview of a training: what it can learn from, and how large its values are, before the first step is taken.

Everything is computed from episode lengths, actions and states, which are in memory: no picture is decoded.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from wamkit.contract.specs import PADDING
from wamkit.contract.streams import StreamSpec
from wamkit.data.layout import ACTED_KEY, ACTION_KEY, STATE_KEY
from wamkit.data.mixture import Recordings
from wamkit.design import Design
from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError
from wamkit.nn.transforms import FLOOR, REACH, Normalizer, statistic
from wamkit.training.balance import weights_at
from wamkit.training.config import TrainConfig
from wamkit.training.watch import place_of

log = logging.getLogger(__name__)

LEAST_SHARE = 0.1  # of the targets of a stream, below which it is said
LARGEST = 1.25 * REACH  # magnitude of a normalised value above which it is said
STALE = 0.5  # share of the first step's weights in the final average above which it is said
BEYOND = 0.01  # share of frames with an action outside its limits above which it is said


def check_learnable(design: Design, dataset: Recordings, config: TrainConfig) -> None:
    """Look at a training before anything is decoded or fitted: is there something to learn?

    Raises:
        ConfigError: a stream has no target to learn from in any window, or every loss has the weight 0.
    """
    check_weights(design, config)
    check_actions(design, dataset)
    for name in design.graph.learned():
        check_targets(name, design.streams[name], design.config, dataset)


def preview(design: Design, dataset: Recordings, config: TrainConfig) -> None:
    """Look at the values of a training before its first step; what is odd is said."""
    entries = {
        ACTION_KEY: (dataset.action, dataset.action_spec.names),
        STATE_KEY: (dataset.state, dataset.observation_spec.state),
    }
    said: set[tuple[str, str]] = set()
    for feature, (values, names) in entries.items():
        say_constant(feature, values[dataset.acted] if feature == ACTION_KEY else values, names)
    for module in design.modules():
        if not isinstance(module, Normalizer) or module.feature not in entries:
            continue
        if (module.feature, module.mode) not in said:
            said.add((module.feature, module.mode))
            values, names = entries[module.feature]
            check_values(module, values, names, design, dataset)
    check_limits(dataset, design)
    check_schedule(config, dataset)


def say_constant(feature: str, values: np.ndarray, names: Sequence[str]) -> None:
    """Say which entries of a feature, (N, D), never move."""
    if not len(values):
        return
    moving = values.max(axis=0) != values.min(axis=0)
    still = [i for i, name in enumerate(names) if not moving[i] and not name.startswith(PADDING)]
    if not len(still):
        return
    listed = ", ".join(f"{names[i]} ({values[0, i]:g})" for i in still)
    if feature == ACTION_KEY and not moving.any():
        log.warning(
            "%s: no entry ever moves: %s. There is nothing to learn but to stand still; check the recording",
            feature, listed,
        )  # fmt: skip
    else:
        log.warning("%s: constant in every frame, so nothing is learned of them: %s", feature, listed)


def acted_episodes(dataset: Recordings) -> np.ndarray:
    """Mark the episodes that were recorded with actions, (E,) bool."""
    return np.array([bool(dataset.acted[episode.start]) for episode in dataset.episodes])


def check_actions(design: Design, dataset: Recordings) -> None:
    """Raise :class:`ConfigError` when the design learns or reads actions and no episode was recorded with any."""
    actions = [name for name, spec in design.streams.items() if spec.role == "action"]
    acted = acted_episodes(dataset)
    if actions and not acted.any():
        raise ConfigError(
            f"stream {actions[0]!r}: no episode of {dataset.root} was recorded with actions (feature "
            f"{ACTED_KEY!r}), so {design.factorisation()} cannot be learned from it. Add episodes with actions, or "
            f"train a design without an action stream, p(s|c)."
        )
    if actions and not acted.all():
        log.info(
            "%d of %d episodes of %s have no actions: they teach what does not read an action",
            int((~acted).sum()), len(acted), dataset.root,
        )  # fmt: skip


def check_schedule(config: TrainConfig, dataset: Recordings) -> None:
    """Say which settings of the run leave little to learn."""
    optim = config.optim
    if config.batch_size > dataset.num_frames:
        log.warning(
            "batch_size %d is more than the %d frames of %s: every batch holds some of them more than once",
            config.batch_size, dataset.num_frames, dataset.root,
        )  # fmt: skip
    if optim.warmup >= config.steps:
        log.warning(
            "optim.warmup %d is not shorter than the run of %d steps: the learning rate ends at %g",
            optim.warmup, config.steps, optim.rate(config.steps - 1, config.steps),
        )  # fmt: skip
    if optim.ema ** (config.steps - 1) > STALE and config.steps > 1:
        log.warning(
            "optim.ema %g: after %d steps the moving average, which is what is saved, still holds %.0f %% of the "
            "weights after the first one. Lower it, or set it to 0",
            optim.ema, config.steps, 100 * optim.ema ** (config.steps - 1),
        )  # fmt: skip


def check_weights(design: Design, config: TrainConfig) -> None:
    """Raise :class:`ConfigError` when every loss has the weight 0 during the whole training."""
    corners = {0, config.steps - 1, *(min(r.end, config.steps - 1) for r in config.ramps.values())}
    for step in corners:
        weights = weights_at(step, config.ramps, config.design.loss_weights)
        if any(weights.get(name, 1.0) > 0 for name in design.graph.learned()):
            return
    raise ConfigError(
        "every loss has the weight 0 from the first step to the last. Give a stream a weight above 0 in "
        "`design.loss_weights` or `ramps`."
    )


def ticks_needed(name: str, spec: StreamSpec, config: DesignConfig) -> np.ndarray:
    """Ticks after "now", (T,), that must still belong to the episode for a step of the stream to be learned from."""
    if spec.role == "action":
        return np.arange(1, spec.steps + 1) * spec.ticks_per_step - 1
    if spec.role == "future" and name in config.futures and config.futures[name].offsets:
        return np.asarray(config.futures[name].offsets)
    return np.zeros(spec.steps, dtype=np.int64)  # goals and milestones lie inside their episodes


def check_targets(name: str, spec: StreamSpec, config: DesignConfig, dataset: Recordings) -> None:
    """Say how few targets of a stream can be learned from; raises :class:`ConfigError` when there are none."""
    lengths = np.array([len(episode) for episode in dataset.episodes])
    if spec.role == "action":
        lengths = lengths[acted_episodes(dataset)]
    needed = ticks_needed(name, spec, config)
    shares = np.clip(lengths[None] - needed[:, None], 0, None).sum(axis=1) / lengths.sum()
    longest = int(lengths.max())
    of_data = f"the episodes of {dataset.root} have {lengths.min()} to {longest} ticks"
    if not shares.any():
        raise ConfigError(
            f"stream {name!r}: no window holds a target to learn from: {of_data}, but its nearest step needs "
            f"{needed.min() + 1}. {_way_out(name, spec, config, longest)}or record episodes of at least "
            f"{needed.min() + 1} ticks."
        )
    if not shares.all():
        log.warning(
            "stream %r: its step %d is never learned, because %s and it needs %d",
            name,
            int(np.flatnonzero(shares == 0)[0]),
            of_data,
            int(needed[shares == 0][0]) + 1,
        )
    elif shares.mean() < LEAST_SHARE:
        log.warning(
            "stream %r: only %.1f %% of its targets lie inside an episode (%s); the rest is padding, which teaches "
            "nothing",
            name,
            100 * shares.mean(),
            of_data,
        )


def _way_out(name: str, spec: StreamSpec, config: DesignConfig, longest: int) -> str:
    """Settings with which a stream has targets in episodes of ``longest`` ticks; empty where there are none."""
    if spec.role == "action":
        part, place = (
            (config.actions[name], f"actions.{name}") if name in config.actions else (config.action, "action")
        )
        tied = "ticks_per_token" in {field.name for field in dataclasses.fields(part)}
        divisors = [n for n in range(1, longest + 1) if config.horizon % n == 0]
        option, value = (
            (f"design.{place}.ticks_per_token", divisors[-1]) if tied else ("design.horizon", longest)
        )
        return f"Set `{option}` to {value}, "
    if longest < 2:
        return "Predict no future, "
    return f"Set `design.futures.{name}.offsets` to at most {longest - 1}, "


def check_values(
    module: Normalizer, values: np.ndarray, names: tuple[str, ...], design: Design, dataset: Recordings
) -> None:
    """Say which entries of a feature become very large by normalisation, and which are taken for constant."""
    shift, scale = module.shift.cpu().numpy(), module.scale.cpu().numpy()
    # Actions of frames without one are zeros that nothing learns from.
    known = dataset.acted if module.feature == ACTION_KEY else np.ones(len(values), bool)
    if not known.any():
        return
    spread = values[known].max(axis=0) - values[known].min(axis=0)
    stats, width = design.data.stats, values.shape[1]
    if len(scale) != width:
        return
    floor = statistic(stats, module.feature, FLOOR) if FLOOR in stats[module.feature] else np.zeros(width)
    for i in range(width):
        entry = f"{module.feature} entry {names[i]!r}"
        frame = int(np.where(known, np.abs(values[:, i] - shift[i]), -1.0).argmax())
        normal = abs(float(values[frame, i] - shift[i])) / float(scale[i])
        where = f"{place_of(dataset, frame)} has {values[frame, i]:g}"
        if normal > LARGEST:
            log.warning(
                "%s: normalised by %s, it reaches %.3g (%s). Check that value%s",
                entry, module.mode, normal, where,
                ", or choose `normalization: min_max`" if module.mode == "mean_std" else "",
            )  # fmt: skip
        elif module.mode == "quantile" and floor[i] > 0 and scale[i] == np.float32(floor[i]):
            log.warning(
                "%s: it rarely moves, so it is normalised by its whole range instead of its quantiles (%s)",
                entry, where,
            )  # fmt: skip
        elif scale[i] == 1.0 and 0 < spread[i] < 1e-5:
            log.warning(
                "%s: it varies by %.3g only and is taken for constant, so its movement is not learned. Record it in "
                "a smaller unit", entry, spread[i],
            )  # fmt: skip


def check_limits(dataset: Recordings, design: Design) -> None:
    """Say which actions lie outside the limits that a policy's actions are clipped to."""
    low, high = (np.asarray(limit, np.float32) for limit in (design.action_spec.low, design.action_spec.high))
    slack = 1e-3 * np.maximum(high - low, 1e-9)
    excess = np.maximum(low - slack - dataset.action, dataset.action - high - slack)
    excess[~dataset.acted] = 0.0
    for i, share in enumerate((excess > 0).sum(axis=0) / max(1, dataset.acted.sum())):
        if share > BEYOND:
            frame = int(excess[:, i].argmax())
            log.warning(
                "action entry %r: %.1f %% of the frames lie outside its limits %g to %g (%s has %g); the policy's "
                "actions are clipped to the limits",
                dataset.action_spec.names[i], 100 * share, low[i], high[i], place_of(dataset, frame),
                dataset.action[frame, i],
            )  # fmt: skip
