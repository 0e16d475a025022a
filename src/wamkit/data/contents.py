"""Content of a dataset's files, each read once, with every check of it.

The reader (:class:`wamkit.data.Dataset`) runs the checks and raises the first fault; ``wamkit data check`` runs the
same ones and collects all (:mod:`wamkit.data.faults`). What a check needs is a property that is read once: where it is
broken, the check raises the fault again, which counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wamkit.contract.specs import DERIVED, ActionSpec, CameraSpec, ObservationSpec
from wamkit.data import agreement, check, faults, layout, modality, seals, spans
from wamkit.data.catalog import EpisodeRow
from wamkit.data.check import Part
from wamkit.data.faults import once
from wamkit.data.frame_reader import FrameReader
from wamkit.data.info import PICTURES, check_extra, read_info
from wamkit.data.metadata import Metadata, metadata
from wamkit.data.stats import FeatureStats, acted_frames
from wamkit.errors import DataError, SpecError, did_you_mean

# Kinds of faults of the frames themselves, behind which other statistics or another digest are no further fault.
OF_FRAMES = ("table", "column", "value", "limits", "has_action", "changed")
OLD_NAMES = {"meta/episodes": layout.OLD_EPISODES, layout.TASKS: layout.OLD_TASKS}
STEMS = {layout.ACTION_KEY: "action", layout.STATE_KEY: "state"}  # of entries without names
Specs = tuple[ObservationSpec, ActionSpec]


class Contents:
    """Content of a dataset's files.

    Args:
        root: the dataset folder.
        extras: names of extras to read; None to check all that wamkit recorded, one after the other, and keep none.
        even: false to take frames that were not recorded at an even rate.

    Attributes:
        root: the dataset folder.
    """

    def __init__(self, root: Path, extras: Sequence[str] | None = (), even: bool = True) -> None:
        self.root = root
        self._extras, self._even = extras, even

    def check(self, decode: bool = False) -> list[str]:
        """Run all checks; returns those left out because what they need is broken.

        Args:
            decode: true to decode every picture as well.

        Raises:
            DataError: the first fault, outside :func:`wamkit.data.faults.collecting`.
        """
        stages: tuple[tuple[str, str, str | None, Callable[[], object]], ...] = (
            ("meta/info.json", "info", layout.INFO, lambda: self.info),
            ("specs", "specs", layout.INFO, lambda: self.stored_specs),
            ("episode table", "episodes", "meta/episodes", lambda: self.episodes),
            ("instructions", "tasks", layout.TASKS, lambda: self.tasks),
            ("statistics", "statistics", layout.STATS, lambda: self.stats),
            ("inferred specs", "specs", layout.INFO, self._infer),
            ("values of the frames", "table", None, self.check_values),
            ("frames against their statistics", "changed", None, self.check_agreement),
            ("extras", "table", None, self.check_extras),
            ("videos", "video", None, self.check_videos),
            *((("pictures", "picture", None, self.check_pictures),) if decode else ()),
        )
        left_out: list[str] = []
        for name, kind, file, run in stages:
            with faults.apart(kind, file=file and self.root / self._named(file)) as stage:
                run()
            left_out += [name] * stage.left_out
        return left_out

    def _named(self, file: str) -> str:
        """The file that has, in the dataset's version, the place of one of v3.0."""
        if file not in OLD_NAMES:
            return file
        try:
            return file if self.info["codebase_version"] == layout.VERSION else OLD_NAMES[file]
        except DataError:  # told by the first stage
            return file

    @once
    def info(self) -> dict[str, Any]:
        """Content of ``meta/info.json``."""
        return read_info(self.root)

    @property
    def features(self) -> Mapping[str, Any]:
        """Features by key."""
        features: Mapping[str, Any] = self.info["features"]
        return features

    @property
    def fps(self) -> float:
        """Frames per second, Hz."""
        return float(self.info["fps"])

    @once
    def vectors(self) -> list[str]:
        """Keys of action and state, as far as the dataset has them."""
        return [key for key in layout.VECTORS if key in self.features]

    @once
    def extra_keys(self) -> dict[str, str]:
        """Name of an extra -> its key."""
        return {name: self._extra_key(name) for name in self._extras or () if name not in DERIVED}

    @property
    def keys(self) -> list[str]:
        """Keys of the columns that are read, beside those of the indices."""
        declared = [layout.ACTED_KEY] if layout.ACTED_KEY in self.features else []
        wanted = dict.fromkeys([*self.vectors, *declared, *self.extra_keys.values(), self.instruction])
        return [key for key in wanted if key not in layout.INDEX_FEATURES]

    @once
    def stored_specs(self) -> Specs | None:
        """The specs that wamkit wrote, checked against the features; None for a dataset written elsewhere."""
        if layout.SPEC_KEY not in self.info:
            return None
        specs = layout.specs_from_json(self.info[layout.SPEC_KEY], str(self.root / layout.INFO))
        with faults.together():
            check.specs_match_features(*specs, self.info, self.root)
            check.extras_match_features(self.info, self.root)
        return specs

    @once
    def specs(self) -> Specs:
        """The stored specs, or those that the features imply."""
        if self.stored_specs is not None:
            return self.stored_specs
        if layout.ACTION_KEY not in self.stats:
            raise faults.UnusableError("without its statistics an action has no limits")
        limits = self.stats[layout.ACTION_KEY]
        low, high = limits.min.tolist(), limits.max.tolist()
        try:
            return layout.infer_specs(self.features, self.fps, low, high)
        except SpecError as error:
            raise DataError(
                f"{self.root / layout.INFO}, features: no spec can be made of them. {error} Correct the features, "
                f"or copy the dataset again."
            ) from error

    @once
    def _meta(self) -> Metadata:
        return metadata(self.root, self.info)

    @once
    def instruction(self) -> str:
        """Key of the column that holds the index of every frame's instruction."""
        return modality.instruction_key(self.root, self.info)

    @once
    def _table(self) -> tuple[tuple[EpisodeRow, ...], dict[str, dict[str, np.ndarray]]]:
        # What wamkit recorded is known by its digests; only what is not is compared episode by episode.
        ours = layout.SPEC_KEY in self.info
        return self._meta.episodes([] if ours else self.vectors)

    @property
    def episodes(self) -> tuple[EpisodeRow, ...]:
        """The episode table."""
        return self._table[0]

    @once
    def tasks(self) -> tuple[str, ...]:
        """Instructions by index."""
        tasks = self._meta.tasks()
        check.task_count(self.info, tasks, self.root)
        return tasks

    @once
    def _statistics(self) -> tuple[dict[str, FeatureStats], dict[str, Any]]:
        shapes: dict[str, tuple[int, ...]] = {key: tuple(self.features[key]["shape"]) for key in self.vectors}
        shapes |= dict.fromkeys(layout.camera_keys(self.features).values(), (3, 1, 1))
        return self._meta.stats(shapes, self._finite_column)

    @property
    def stats(self) -> Mapping[str, FeatureStats]:
        """Statistics of actions, states and cameras by feature."""
        return self._statistics[0]

    @once
    def parts(self) -> list[Part]:
        """Frames of the data files."""
        keys = [*self.keys, *layout.INDEX_FEATURES]
        return check.read_parts(self.episodes, self.features, keys, self.fps, self._even)

    def column(self, key: str) -> np.ndarray:
        """One column of all frames (N, ...); raises :class:`DataError` where a part of it could not be read."""
        return check.joined(self.parts, key, self.episodes)

    def _finite_column(self, key: str) -> np.ndarray:
        """The same of a column in which an action or a state that is not finite is a fault."""
        values = self.column(key)
        if key in layout.VECTORS and not np.isfinite(values).all():
            for part in self.parts:
                check.finite(part, key, layout.entry_names(self.features[key], STEMS[key]))
            raise faults.UnusableError(f"values of {key!r} are not finite")
        return values

    def check_values(self) -> None:
        """Check the values of the frames, file by file."""
        for part in self.parts:
            check.acted(part)
            for key in self.vectors:
                check.finite(part, key, layout.entry_names(self.features[key], STEMS[key]))
            with faults.apart("task"):
                for key in dict.fromkeys(("task_index", self.instruction)):
                    check.tasks_listed(part, self.tasks, key)
                check.tasks_known(part, self.tasks)
            with faults.apart("limits"):
                if self.stored_specs is not None:
                    check.limits(part, self.stored_specs[1])

    def check_agreement(self) -> None:
        """Compare frames, their statistics and the digests of both with each other."""
        listed, cameras = self._statistics[1], layout.camera_keys(self.features).values()
        arrays = {key: self.column(key) for key in self.keys if self._whole(key, self.parts)}
        complete = arrays.keys() == set(self.keys) and self.stats.keys() >= {*self.vectors, *cameras}
        if complete and seals.intact(self.root, self.info, arrays, listed):
            return
        per_episode = self._table[1]
        if not per_episode:
            _, per_episode = self._meta.episodes(self.vectors)
        for key in self.keys:
            self._compare(key, self.parts, per_episode.get(key, {}))
        digests = seals.stored(self.info, seals.STATS, str(self.root / layout.INFO))
        for key in digests:
            if not faults.known(key, ("statistics", *OF_FRAMES)):
                with faults.apart("statistics", file=self.root / layout.STATS, feature=key):
                    seals.check_stats(self.root, key, digests, listed)

    def check_extras(self) -> None:
        """Check that declared columns are there, and extras that are not read by name, one of them at a time."""
        stored = [key for key, feature in self.features.items() if feature["dtype"] != "video"]
        if self._extras is not None:  # what nobody reads may be missing
            stored = [key for key in layout.camera_keys(self.features).values() if key in stored]
        if stored:
            check.declared_columns(self.episodes, self.features, stored)
        keys = [key for key in self.features if key.startswith(layout.EXTRA_PREFIX)]
        for key in keys if self._extras is None else ():
            parts = check.read_parts(self.episodes, self.features, [key], self.fps)
            self._compare(key, parts, {})

    def _compare(self, key: str, parts: Sequence[Part], stated: Mapping[str, np.ndarray]) -> None:
        """Compare a feature's values with their statistics and with their digest."""
        digests = seals.stored(self.info, seals.FRAMES, str(self.root / layout.INFO))
        with faults.apart("changed", file=self.root / "data", feature=key):
            names = layout.entry_names(self.features[key], "entry") if stated else ()
            for part in parts if stated else ():
                agreement.episodes(part, key, names, stated)
            if self._whole(key, parts) and not faults.known(key, OF_FRAMES):
                values = check.joined(parts, key, self.episodes)
                self._compare_whole(key, values, self._statistics[1])
                if not faults.known(key, OF_FRAMES):
                    seals.check_frames(self.root, key, digests, values)

    @property
    def cameras(self) -> dict[str, CameraSpec]:
        """Camera name -> size, from the features."""
        keys = layout.camera_keys(self.features)
        return {name: CameraSpec(*layout.camera_size(self.features[key])) for name, key in keys.items()}

    def check_videos(self) -> None:
        """Check sizes, pixels and times of all videos, without decoding."""
        shared = self.info["codebase_version"] == layout.VERSION
        spans.check_videos(self.episodes, self.cameras, layout.camera_keys(self.features), self.fps, shared)

    def check_pictures(self) -> None:
        """Decode every picture of every camera."""
        digests = spans.recorded_digests(self.root, self.info)
        reader = self.frame_reader()
        for name in self.cameras:
            reader.check(name, digests)

    def frame_reader(self) -> FrameReader:
        """Reader of the frames of all cameras as they are recorded, without comparing digests."""
        keys = layout.camera_keys(self.features)
        return FrameReader(self.episodes, self.cameras, keys, self.fps, str(self.root))

    def _infer(self) -> None:
        if layout.SPEC_KEY not in self.info:
            self.specs  # noqa: B018 - reading it checks it

    def _whole(self, key: str, parts: Sequence[Part]) -> bool:
        """Whether a column could be read from all data files."""
        return sum(len(p.columns[key]) for p in parts if key in p.columns) == self.episodes[-1].stop

    def _compare_whole(self, key: str, values: np.ndarray, listed: Mapping[str, Any]) -> None:
        """Compare statistics of a feature, as far as they could be read, with its values (N, ...)."""
        if key not in self.vectors:
            return agreement.extra(self.root, key, values, listed)
        if key == layout.ACTION_KEY and layout.ACTED_KEY in self.features:
            if faults.known(layout.ACTED_KEY, OF_FRAMES):
                return None  # it is not known which frames the statistics are of
            values = acted_frames(values, self.column(layout.ACTED_KEY))
        if key in self.stats:
            with faults.apart("statistics", file=self.root / layout.STATS):
                names = layout.entry_names(self.features[key], "entry")
                agreement.whole(self.root, key, names, values, self.stats[key])
        return None

    def _extra_key(self, name: str) -> str:
        for key in (layout.EXTRA_PREFIX + name, name):
            if key in self.features and self.features[key]["dtype"] not in PICTURES:
                check_extra(key, self.features[key], str(self.root / layout.INFO))
                return key
        names = {
            key.removeprefix(layout.EXTRA_PREFIX)
            for key in self.features
            if key.startswith(layout.EXTRA_PREFIX)
        }
        raise DataError(f"{self.root}: no extra {name!r}. {did_you_mean(name, names)}")
