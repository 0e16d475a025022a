"""Checks that a dataset passes before a window is cut. Errors name file, episode and field."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.data import faults, layout, pictures, tables
from wamkit.data.catalog import EpisodeRow
from wamkit.data.episode import not_finite
from wamkit.data.tables import COPY_AGAIN
from wamkit.errors import DataError

TIME = "timestamp"
SLACK = 0.1  # ticks by which a frame may be recorded beside its time
OFF = 0.25  # share by which the median step of a recording with lost frames may differ from one tick
UNEVEN = (
    "Copy the dataset again. If frames were lost or late while it was recorded, read it at an even rate, each tick the "
    "nearest frame in time: set `view.rate_hz`."
)


def specs_match_features(
    observation: ObservationSpec, action: ActionSpec, info: Mapping[str, Any], root: Path
) -> None:
    """Report everything in which specs and ``features`` of ``info.json`` do not describe the same arrays."""
    features, place = info["features"], root / layout.INFO
    way_out = f"Correct the specs under the key {layout.SPEC_KEY!r}, or remove it to have them inferred."

    def say(text: str, key: str | None = None) -> None:
        faults.report("specs", f"{place}{text}. {way_out}", feature=key)

    declared = {layout.ACTION_KEY: action.names, layout.STATE_KEY: observation.state}
    for key, names in declared.items():
        feature = features.get(key, {"shape": [0]})  # a robot without proprioception has no state feature
        listed = [str(name) for name in layout.listed_names(feature)]
        if [len(names)] != list(feature["shape"]):
            say(
                f", field {key!r}: shape {list(feature['shape'])}, but the spec names {len(names)} entries",
                key,
            )
        elif len(listed) == len(names) and listed != list(names):
            say(f", field {key!r}: names {listed}, but the spec has {list(names)}", key)
    keys = layout.camera_keys(features)
    if set(keys) != set(observation.cameras):
        say(f": the features have cameras {sorted(keys)}, but the spec has {sorted(observation.cameras)}")
    for name in keys.keys() & observation.cameras.keys():
        camera, size = observation.cameras[name], layout.camera_size(features[keys[name]])
        if (*size, 3, 0, 255) != dataclasses.astuple(camera):
            say(f", field {keys[name]!r}: size {size}, but the spec declares {camera}", keys[name])
    for rate in {observation.rate_hz, action.rate_hz}:
        if abs(rate - info["fps"]) > 1e-6 * rate:
            say(f": fps is {info['fps']}, but a spec declares {rate} Hz")


def extras_match_features(info: Mapping[str, Any], root: Path) -> None:
    """Report every extra that wamkit recorded and that is no feature of the same shape and dtype."""
    extras = info[layout.SPEC_KEY].get("extras", {})
    place = f"{root / layout.INFO}, key {layout.SPEC_KEY!r}"
    way_out = f"{COPY_AGAIN} Or remove the key {layout.SPEC_KEY!r} to have all specs inferred."
    if not isinstance(extras, dict):
        raise DataError(f"{place}: 'extras' must be an object, got {extras!r}. {way_out}")
    for name, extra in extras.items():
        feature = info["features"].get(layout.EXTRA_PREFIX + name, {})
        found = {"shape": feature.get("shape"), "dtype": feature.get("dtype")}
        if not isinstance(extra, dict) or found != {**extra, "shape": extra.get("shape") or [1]}:
            faults.report(
                "specs",
                f"{place}: the extra {name!r} is {extra!r}, but the feature {layout.EXTRA_PREFIX + name!r} has "
                f"{found}. {way_out}",
                feature=layout.EXTRA_PREFIX + name,
            )


@dataclass(frozen=True)
class Part:
    """Frames of the episodes in one data file.

    Attributes:
        path: the file.
        episodes: its episodes, which follow each other.
        columns: column -> values (T, ...) of their frames, without those that a fault was reported of.
    """

    path: Path
    episodes: Sequence[EpisodeRow]
    columns: Mapping[str, np.ndarray]

    def each(self, key: str) -> Iterator[tuple[EpisodeRow, np.ndarray]]:
        """Episodes with their values (t, ...) of one column; none where the column could not be read."""
        first = self.episodes[0].start
        for episode in self.episodes if key in self.columns else ():
            yield episode, self.columns[key][episode.start - first : episode.stop - first]


def read_parts(
    episodes: Sequence[EpisodeRow],
    features: Mapping[str, Any],
    keys: Sequence[str],
    fps: float,
    even: bool = True,
) -> list[Part]:
    """Read the columns ``keys`` of all data files that can be read, in episode order, and check the indices among them.

    Vectors are (T, D) even where D is 1; other columns with shape [1] are (T,). With ``even`` every frame must have
    been recorded at its time to a tenth of a tick; without it, time must run on.

    Raises:
        DataError: a file cannot be read, or disagrees with ``info.json`` or the episode table.
    """
    parts = []
    for path, run in itertools.groupby(episodes, key=lambda episode: episode.data):
        group, columns = list(run), {}
        with faults.apart("table", **_place(group, path)):
            table = tables.read(path, partial(_those_of, keys))
            _check_rows(table, group, path)
            for name in keys:
                with faults.apart("column", feature=name):
                    columns[name] = _column(table, name, features[name], group, path)
            part = Part(path, group, columns)
            _check_index(part, fps, even)
            parts.append(part)
    return parts


def declared_columns(
    episodes: Sequence[EpisodeRow], features: Mapping[str, Any], keys: Sequence[str]
) -> None:
    """Report every data file without one of the columns ``keys``, or with a camera's that holds no pictures."""
    for path, run in itertools.groupby(episodes, key=lambda episode: episode.data):
        with faults.apart("table", **_place(list(run), path)):
            schema = tables.schema(path)
            for key in keys:
                fault: str | None = "is missing"
                if key in schema.names:
                    camera = features[key]["dtype"] == "image"
                    fault = pictures.column_fault(schema.field(key).type) if camera else None
                if fault:
                    message = f"{path}: the column {key!r}, which info.json declares, {fault}. {COPY_AGAIN}"
                    faults.report("column", message, feature=key)


def _place(group: Sequence[EpisodeRow], path: Path) -> dict[str, Any]:
    """Where a fault of a data file is: of an episode as well, where it holds no other."""
    return {"file": path, "episode": group[0].index} if len(group) == 1 else {"file": path}


def _those_of(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """Those of the columns ``wanted`` that a file has; one that it lacks is a fault of that column alone."""
    return [name for name in wanted if name in known]


def _column(
    table: pa.Table, name: str, feature: Mapping[str, Any], group: Sequence[EpisodeRow], path: Path
) -> np.ndarray:
    """Values (T, ...) of one column; faulty rows are reported episode by episode."""
    try:
        return tables.frames(table, name, feature, path)
    except tables.RowsError as error:
        fault = error
    if len(np.unique(fault.rows)) == table.num_rows:
        raise fault
    with faults.together():
        frames = group[0].start + fault.rows
        owners = np.searchsorted([e.start for e in group], frames, side="right") - 1
        for owner in np.unique(owners).tolist():
            own = frames[owners == owner]
            message = fault.named(int(own[0]) - group[0].start)
            at = int(own[0]) - group[owner].start
            faults.report("column", message, episode=group[owner].index, frame=at)
    raise fault


def joined(parts: Sequence[Part], name: str, episodes: Sequence[EpisodeRow]) -> np.ndarray:
    """One column of all frames (N, ...); raises :class:`DataError` where a part of it could not be read."""
    found = [part.columns[name] for part in parts if name in part.columns]
    if sum(map(len, found)) != episodes[-1].stop:
        raise faults.UnusableError(f"the column {name!r} is not there in all data files")
    return np.ascontiguousarray(np.concatenate(found))


def _check_rows(table: pa.Table, group: Sequence[EpisodeRow], path: Path) -> None:
    expected = group[-1].stop - group[0].start
    if table.num_rows != expected:
        raise DataError(
            f"{path}: holds {table.num_rows} frames, but the episode table declares {expected} "
            f"(episodes {group[0].index} to {group[-1].index}). {COPY_AGAIN}"
        )


def _check_index(part: Part, fps: float, even: bool) -> None:
    """Report index columns that do not match the episode table, and time that does not run at ``fps``."""
    left_out = ("task_index",) if even else ("task_index", TIME)
    if not even:
        _check_time(part, fps)
    for name in layout.INDEX_FEATURES:
        for episode, values in part.each(name) if name not in left_out else ():
            steps = np.arange(len(episode))
            expected: Mapping[str, np.ndarray] = {
                "index": episode.start + steps,
                "episode_index": np.full(len(episode), episode.index),
                "frame_index": steps,
                TIME: steps / fps,
            }
            slack = SLACK / fps if name == TIME else 0.0
            bad = np.flatnonzero(~(np.abs(values - expected[name]) <= slack))
            if len(bad):
                frame = int(bad[0])
                implied = f"the episode table implies {expected[name][frame]:g}"
                way_out = UNEVEN if name == TIME else COPY_AGAIN
                has = f"frame {frame} has {values[frame]}, but {implied}. {way_out}"
                _report_frame("index", part, episode, name, frame, has)


def _check_time(part: Part, fps: float) -> None:
    """Report episodes whose time does not run on, and a file whose usual step is far from one tick."""
    apart = []
    for episode, values in part.each(TIME):
        steps = np.diff(values.astype(np.float64))
        apart.append(steps)
        bad = np.flatnonzero(~(steps > 0))
        if len(bad):
            frame = int(bad[0])
            has = (
                f"time does not run on from frame {frame} ({values[frame]:g} s) to the next one. {COPY_AGAIN}"
            )
            _report_frame("index", part, episode, TIME, frame, has)
    usual = float(np.median(np.concatenate([*apart, [1 / fps]])))
    if abs(usual * fps - 1) > OFF:
        faults.report(
            "index",
            f"{part.path}, field {TIME!r}: frames are {usual:g} s apart, but info.json declares {fps:g} per second. "
            f"Write the rate at which the dataset was recorded.",
            file=part.path,
            feature=TIME,
        )


def read_feature(episodes: Sequence[EpisodeRow], key: str, feature: Mapping[str, Any]) -> np.ndarray:
    """Read one column of all data files, (N, ...), in episode order, without the checks of :func:`read_parts`."""
    paths = dict.fromkeys(episode.data for episode in episodes)
    return np.concatenate([tables.frames(tables.read(path, [key]), key, feature, path) for path in paths])


def finite(part: Part, key: str, names: tuple[str, ...]) -> None:
    """Report every episode in which a value of a vector (T, D) is not finite, with frame and entry of the first."""
    for episode, values in part.each(key):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            place = f"{part.path}, episode {episode.index}"
            faults.report(
                "value",
                not_finite(values, bad, names, key, place),
                file=part.path,
                episode=episode.index,
                frame=int(bad[0][0]),
                feature=key,
            )


def acted(part: Part) -> None:
    """Report every episode that has actions in some of its frames only, or some although it says that it has none.

    Reads the columns ``has_action`` (T,), bool, and ``action`` (T, A).
    """
    actions = {episode.index: values for episode, values in part.each(layout.ACTION_KEY)}
    for episode, said in part.each(layout.ACTED_KEY):
        stray = np.argwhere(actions.get(episode.index, np.zeros((0, 1))) != 0)
        place = f"{part.path}, episode {episode.index}, field {layout.ACTED_KEY!r}"
        if said.all():
            continue
        if said.any():
            frame = int(np.flatnonzero(said != said[0])[0])
            message = (
                f"{place}: frame {frame} says {bool(said[frame])}, the frames before it {bool(said[0])}, but an "
                f"episode has actions or none. Record the parts as episodes of their own."
            )
        elif len(stray):
            frame = int(stray[0][0])
            message = (
                f"{place}: the episode says that it has no actions, but the action of frame {frame} is not "
                f"zero. Set {layout.ACTED_KEY!r} to true, or the actions to zero."
            )
        else:
            continue
        faults.report(
            "has_action",
            message,
            file=part.path,
            episode=episode.index,
            frame=frame,
            feature=layout.ACTED_KEY,
        )


def limits(part: Part, spec: ActionSpec) -> None:
    """Report every episode in which an action lies outside the limits of the spec that was recorded with it.

    Frames without an action, and values that are not finite, are left out.
    """
    low, high = np.array(spec.low, dtype=np.float64), np.array(spec.high, dtype=np.float64)
    slack = 1e-5 * (
        1.0 + np.maximum(np.abs(low), np.abs(high))
    )  # as when recording: float32 rounding of a limit
    acted = {episode.index: flags for episode, flags in part.each(layout.ACTED_KEY)}
    for episode, action in part.each(layout.ACTION_KEY):
        outside = ((action < low - slack) | (action > high + slack)) & np.isfinite(action)
        if episode.index in acted:
            outside &= acted[episode.index][:, None]
        if outside.any():
            frame, entry = (int(i) for i in np.argwhere(outside)[0])
            faults.report(
                "limits",
                f"{part.path}, episode {episode.index}, field 'action': frame {frame}, entry {spec.names[entry]!r} is "
                f"{action[frame, entry]:g}, outside the limits [{low[entry]:g}, {high[entry]:g}] of the action spec in "
                f"{layout.INFO}. {COPY_AGAIN}",
                file=part.path,
                episode=episode.index,
                frame=frame,
                feature=layout.ACTION_KEY,
            )


def task_count(info: Mapping[str, Any], tasks: Sequence[str], root: Path) -> None:
    """Report it unless ``total_tasks``, where ``info.json`` has it, is the number of tasks."""
    if "total_tasks" in info and info["total_tasks"] != len(tasks):
        faults.report(
            "totals",
            f"{root / layout.INFO}, entry 'total_tasks': {info['total_tasks']!r}, but the list of tasks in meta/ has "
            f"{len(tasks)}. {COPY_AGAIN}",
            file=root / layout.INFO,
        )


def tasks_listed(part: Part, tasks: Sequence[str], key: str) -> None:
    """Report every episode with an entry of the column ``key`` that is not the index of a task."""
    for episode, index in part.each(key):
        bad = np.flatnonzero((index < 0) | (index >= len(tasks)))
        if len(bad):
            frame = int(bad[0])
            has = f"frame {frame} has {index[frame]}, but the list of tasks in meta/ has {len(tasks)}."
            _report_frame("task", part, episode, key, frame, f"{has} {COPY_AGAIN}")


def tasks_known(part: Part, tasks: Sequence[str]) -> None:
    """Report every episode with a listed task that is not one of its own."""
    for episode, index in part.each("task_index"):
        listed = (index >= 0) & (index < len(tasks))
        stray = listed & ~np.isin(index, [i for i, task in enumerate(tasks) if task in episode.tasks])
        # An episode without a task in its table, or with a task that is not listed, was reported for that.
        if episode.tasks and listed.all() and stray.any():
            frame = int(np.argmax(stray))
            has = f"frame {frame} has the task {tasks[index[frame]]!r}, but the episode table lists"
            says = f"{has} {list(episode.tasks)}. {COPY_AGAIN}"
            _report_frame("task", part, episode, "task_index", frame, says)


def _report_frame(kind: str, part: Part, episode: EpisodeRow, key: str, frame: int, has: str) -> None:
    """Report what a frame of an episode has in the column ``key``."""
    faults.report(
        kind,
        f"{part.path}, episode {episode.index}, field {key!r}: {has}",
        file=part.path,
        episode=episode.index,
        frame=frame,
        feature=key,
    )
