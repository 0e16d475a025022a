"""Demonstrations in HDF5, in the layout of robomimic and of LIBERO, as the source of a conversion.

``data/demo_<k>`` holds ``actions`` (T, A), ``obs/<key>`` (T, ...) and further arrays (T, ...); attributes of ``data``
say which environment it was (``env_args``) and, in LIBERO, what was asked (``problem_info``). Source: robomimic 0.3,
"Dataset structure"; LIBERO (arXiv:2306.03310), ``scripts/create_dataset.py``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np
import pyarrow as pa
from typing_extensions import override

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.data import layout, tables, video
from wamkit.data.conversion.clips import Clip, Packets
from wamkit.data.conversion.source import Entry, Source
from wamkit.data.episode import Episode, check_episode, check_specs, frame_columns
from wamkit.data.stats import vector_stats
from wamkit.errors import DataError, MissingExtraError, SpecError, reason

LOG = logging.getLogger(__name__)
MAX_HZ = 10_000
PRIVILEGED = "object"  # robomimic's poses of all objects, which no robot measures
SKIPPED = ("next_obs",)  # obs, one step later
WAY_OUT = "Repair the file, or leave the demonstration out of it."


@dataclass(frozen=True)
class Reading:
    """How an HDF5 file is read, where it does not say so itself.

    Attributes:
        fps: frames per second, Hz; None to read ``control_freq`` of the environment.
        task: instruction of all demonstrations; None to read the file's.
        state: keys of ``obs`` that make up the state, in order; None for all vectors but ``object``.
    """

    fps: float | None = None
    task: str | None = None
    state: tuple[str, ...] | None = None


@final
class Hdf5Source(Source):
    """Demonstrations of an HDF5 file, in the order of their numbers.

    Pictures are encoded. Vectors of ``obs`` that are in the state, actions and pictures have features of their own;
    every other array is an extra under its name.

    Args:
        path: the file.
        reading: what the file does not say.

    Raises:
        DataError: it is no such file, or its demonstrations do not fit each other.
        MissingExtraError: ``h5py`` is not installed.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        self.root, self._h5 = path, _library()
        self.files, self.beside = (path,), {}
        self._left_out: set[str] = set()
        try:
            self._file = self._h5.File(path, "r")
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read as HDF5 ({reason(error)}). Copy the file again."
            ) from error
        demos = self._file.get("data")
        if not isinstance(demos, self._h5.Group) or not len(demos):
            raise DataError(
                f"{path}: has no group 'data' of demonstrations, so it is none of robomimic or LIBERO."
            )
        self._names = sorted(demos, key=_number)
        self._demos = [self._demo(demos, name, k) for k, name in enumerate(self._names)]
        self._attributes = {name: _document(demos.attrs, name, path) for name in ("env_args", "problem_info")}
        self._choose(reading)
        rate = self._rate(reading)
        self._tasks = [self._task(k, reading) for k in range(len(self._demos))]
        self.tasks = tuple(dict.fromkeys(self._tasks))
        self._specs(rate)
        self.entries = tuple(self._entry(k) for k in range(len(self._demos)))
        self._starts = np.cumsum([0, *(entry.length for entry in self.entries)]).tolist()

    def _demo(self, demos: Any, name: str, k: int) -> Any:
        """One demonstration; what a link leads to may be gone."""
        try:
            return demos[name]
        except (KeyError, OSError) as error:
            raise DataError(
                f"{self.root}, data/{name}, episode {k}: cannot be read ({reason(error)}). {WAY_OUT}"
            ) from error

    def _choose(self, reading: Reading) -> None:
        """Sort the arrays of the first demonstration into pictures, state and extras; the others must have the same."""
        self._forms = self._arrays(0)
        for k in range(1, len(self._demos)):
            other = self._arrays(k)
            if other != self._forms:
                name = next(n for n in {**self._forms, **other} if self._forms.get(n) != other.get(n))
                raise DataError(
                    f"{self._place(k)}, {name!r}: {_form(other.get(name))}, but {self._names[0]!r} has "
                    f"{_form(self._forms.get(name))}. {WAY_OUT}"
                )
        if len(self._forms["actions"][0]) != 1:
            raise DataError(
                f"{self._place(0)}, 'actions': must be (T, A), got rows of {self._forms['actions'][0]}."
            )
        observed = {name: form for name, form in self._forms.items() if name.startswith("obs/")}
        self._cameras = [n for n, (shape, kind) in observed.items() if _is_picture(shape, kind)]
        vectors = [n for n, (shape, _) in observed.items() if len(shape) == 1 and n not in self._cameras]
        if reading.state is not None:
            unknown = [key for key in reading.state if f"obs/{key}" not in vectors]
            if unknown:
                known = ", ".join(n.removeprefix("obs/") for n in vectors)
                raise DataError(f"{self.root}: state {unknown[0]!r} is no vector of 'obs'. Known: {known}.")
            twice = [key for i, key in enumerate(reading.state) if key in reading.state[:i]]
            if twice:
                raise DataError(f"{self.root}: state {twice[0]!r} is named twice. Name it once.")
            self._state = [f"obs/{key}" for key in reading.state]
        else:
            self._state = [name for name in vectors if name != f"obs/{PRIVILEGED}"]
        used = {"actions", *self._cameras, *self._state}
        self._extras: dict[str, str] = {}
        for name in sorted(set(self._forms) - used, key=lambda n: (n.startswith("obs/"), n)):
            short, full = name.removeprefix("obs/").replace("/", "."), name.replace("/", ".")
            chosen = full if short in self._extras else short  # `obs/x` and `x` are two arrays
            self._require_new(chosen, name, self._extras)
            self._extras[chosen] = name
        names: dict[str, str] = {}
        for name in self._cameras:
            self._require_new(_camera_key(name), name, names)
            names[_camera_key(name)] = name
        self._say_what_is_kept_otherwise()

    def _require_new(self, chosen: str, name: str, known: Mapping[str, str]) -> None:
        if chosen in known:
            raise DataError(
                f"{self._place(0)}: {known[chosen]!r} and {name!r} would both be called {chosen!r}. Rename one."
            )

    def _say_what_is_kept_otherwise(self) -> None:
        """Warn of arrays that may have been meant as cameras, and of those that are no numbers of every frame."""
        for extra, name in self._extras.items():
            shape, kind = self._forms[name]
            if len(shape) == 3 and name.startswith("obs/") and {shape[0], shape[2]} & {3, 4}:
                LOG.warning(
                    "%s: %r has the form of pictures, but rows of shape %s and type %s are no camera, which is uint8 "
                    "with 3 channels. It is kept as the extra %r.",
                    self.root,
                    name,
                    list(shape),
                    kind,
                    extra,
                )
        if self._left_out:
            names = ", ".join(sorted(self._left_out))
            LOG.warning("%s: left out, because they hold no numbers of every frame: %s.", self.root, names)

    def _arrays(self, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Array of a demonstration -> shape of one row and dtype."""
        demo, place, lengths = self._demos[k], self._place(k), {}
        forms: dict[str, tuple[tuple[int, ...], str]] = {}
        if not isinstance(demo, self._h5.Group) or not isinstance(demo.get("obs"), self._h5.Group):
            raise DataError(
                f"{place}: has no group 'obs'. Extract observations with the tools of the benchmark first."
            )
        if not isinstance(demo.get("actions"), self._h5.Dataset):
            raise DataError(f"{place}: has no array 'actions'. {WAY_OUT}")

        def visit(name: str, item: Any) -> None:
            if not isinstance(item, self._h5.Dataset) or name.split("/")[0] in SKIPPED:
                return
            if item.dtype.kind in "biuf" and item.shape:
                forms[name] = tuple(item.shape[1:]), str(item.dtype.newbyteorder("="))
                lengths[name] = item.shape[0]
            else:
                self._left_out.add(name)

        demo.visititems(visit)
        if "actions" not in forms:
            raise DataError(f"{place}, 'actions': holds no numbers but {demo['actions'].dtype}. {WAY_OUT}")
        if not lengths["actions"]:
            raise DataError(f"{place}, 'actions': has no rows, so there is no frame. {WAY_OUT}")
        for name, length in lengths.items():
            if length != lengths["actions"]:
                raise DataError(
                    f"{place}, {name!r}: has {length} rows, but 'actions' has {lengths['actions']}. {WAY_OUT}"
                )
        return dict(sorted(forms.items()))

    def _rate(self, reading: Reading) -> float:
        arguments = self._attributes["env_args"].get("env_kwargs")
        found = arguments.get("control_freq") if isinstance(arguments, dict) else None
        rate = reading.fps if reading.fps is not None else found
        if reading.fps is not None and not 0 < reading.fps < MAX_HZ:
            raise DataError(
                f"{self.root}: a rate of {reading.fps!r} Hz cannot be; pass one between 0 and {MAX_HZ} with --fps."
            )
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < MAX_HZ:
            raise DataError(
                f"{self.root}: attribute 'env_args' names no 'control_freq' ({found!r}). Pass the rate at which the "
                f"demonstrations were recorded, with --fps."
            )
        return float(rate)

    def _task(self, k: int, reading: Reading) -> str:
        """Instruction of a demonstration: what was asked for, else its own, else the file's."""
        own = _document(self._demos[k].attrs, "ep_meta", self._place(k)).get("lang")
        everywhere = self._attributes["problem_info"].get("language_instruction")
        task = next((t for t in (reading.task, own, everywhere) if t), None)
        if isinstance(task, list):  # some of LIBERO's files hold a list of words
            task = " ".join(map(str, task))
        if not isinstance(task, str):
            name = self._attributes["env_args"].get("env_name", "unknown")
            raise DataError(
                f"{self._place(k)}: the file holds no instruction (its environment is {name!r}). Pass one with --task."
            )
        task = task.strip()
        # LIBERO's files quote it; quotes inside belong to it.
        quoted = len(task) > 1 and task[0] == task[-1] == '"' and '"' not in task[1:-1]
        return task[1:-1].strip() if quoted else task

    def _specs(self, rate: float) -> None:
        """Specs and features, as a recording of wamkit has them."""
        widths = {name: self._forms[name][0][0] for name in self._state}
        state = [f"{n[4:]}_{i}" if width > 1 else n[4:] for n, width in widths.items() for i in range(width)]
        action = np.concatenate([self._single(self._array(k, "actions")) for k in range(len(self._demos))])
        names = tuple(f"action_{i}" for i in range(action.shape[1]))
        if not np.isfinite(action).all():
            ends = np.cumsum([len(demo["actions"]) for demo in self._demos])
            row, entry = (int(i) for i in np.argwhere(~np.isfinite(action))[0])
            k = int(np.searchsorted(ends, row, side="right"))
            frame = row - (int(ends[k - 1]) if k else 0)
            raise DataError(
                f"{self._place(k)}, 'actions': frame {frame}, entry {entry} is {action[row, entry]}. {WAY_OUT}"
            )
        try:
            self._declare(rate, state, action, names)
        except (SpecError, DataError) as error:
            raise DataError(f"{self.root}: no dataset can be made of it. {error}") from error

    def _declare(self, rate: float, state: list[str], action: np.ndarray, names: tuple[str, ...]) -> None:
        limits = vector_stats(action)
        cameras = {n[4:].replace("/", "."): CameraSpec(*self._size(n)) for n in self._cameras}
        self._observation = ObservationSpec(cameras=cameras, state=tuple(state), rate_hz=rate)
        low, high = tuple(limits.min.tolist()), tuple(limits.max.tolist())
        self._action = ActionSpec(
            names=names, low=low, high=high, rate_hz=rate, mode="absolute", frame="unknown"
        )
        forms = {extra: self._forms[name] for extra, name in self._extras.items()}
        check_specs(self._observation, self._action, forms, video.PIXEL_FORMAT)
        exact = video.frame_rate(rate)
        number = exact.numerator if exact.denominator == 1 else float(exact)
        stream = {
            "video.codec": "h264",
            "video.pix_fmt": video.PIXEL_FORMAT,
            "video.is_depth_map": False,
            "video.fps": number,
            "video.channels": 3,
            "has_audio": False,
        }
        self.info = {
            "fps": number,
            "robot_type": str(self._attributes["env_args"].get("env_name", "unknown")),
            "features": layout.features(self._observation, self._action, forms, stream),
            layout.SPEC_KEY: layout.specs_to_json(self._observation, self._action, forms),
        }

    def _entry(self, k: int) -> Entry:
        demo = self._demos[k]
        length = len(demo["actions"])
        raw = {_camera_key(n): demo[n].size // 50 for n in self._cameras}
        rows = sum(demo[name].nbytes for name in self._forms if name not in self._cameras)
        return Entry(length, (self._tasks[k],), rows, raw, {"success": self._success(k)}, self._place(k))

    def _success(self, k: int) -> bool:
        """Whether a demonstration reached its goal: it was rewarded, or done; true where the file says neither."""
        said = [bool(np.any(self._array(k, n) > 0)) for n in ("rewards", "dones") if n in self._forms]
        return any(said) or not said

    def _array(self, k: int, name: str) -> np.ndarray:
        try:
            values = np.asarray(self._demos[k][name][()])
            return values.astype(values.dtype.newbyteorder("="), copy=False)
        except OSError as error:
            raise DataError(
                f"{self._place(k)}, {name!r}: cannot be read ({reason(error)}). Copy the file again."
            ) from error

    def _single(self, values: np.ndarray) -> np.ndarray:
        """Values as float32; what is too large for it becomes infinite, and is refused as such."""
        with np.errstate(over="ignore"):
            return values.astype(np.float32)

    def _size(self, name: str) -> tuple[int, int]:
        """Rows and columns of a camera's pictures."""
        shape, _ = self._forms[name]
        return (shape[1], shape[2]) if _channels_first(shape) else (shape[0], shape[1])

    def _upright(self, images: np.ndarray) -> np.ndarray:
        """Pictures (T, H, W, 3), from those and from (T, 3, H, W)."""
        return images.transpose(0, 2, 3, 1) if _channels_first(images.shape[1:]) else images

    def _place(self, k: int) -> str:
        return f"{self.root}, data/{self._names[k]}, episode {k}"

    @override
    def table(self, episode: int) -> pa.Table:
        length = self.entries[episode].length
        parts = [self._single(self._array(episode, name)) for name in self._state]
        record = Episode(
            images={},
            state=np.concatenate(parts, axis=1) if parts else np.zeros((length, 0), np.float32),
            action=self._single(self._array(episode, "actions")),
            task=self._tasks[episode],
            success=self._success(episode),
            extras={extra: self._array(episode, name) for extra, name in self._extras.items()},
        )
        forms = {extra: self._forms[name] for extra, name in self._extras.items()}
        blind = ObservationSpec(cameras={}, state=self._observation.state, rate_hz=self._observation.rate_hz)
        check_episode(record, blind, self._action, forms, self._place(episode))
        task = self.tasks.index(self._tasks[episode])
        columns = frame_columns(record, episode, self._starts[episode], task, self._action)
        return pa.table({name: tables.column(values) for name, values in columns.items()})

    @override
    def clip(self, key: str, episode: int) -> Clip | None:
        return None

    @override
    def packets(self, path: Path, place: str) -> Packets:
        raise NotImplementedError(f"{place}, {path}: an HDF5 file holds no packets")

    @override
    def close(self) -> None:
        self._file.close()

    @override
    def pictures(self, key: str, episode: int, count: int | None = None) -> np.ndarray:
        name = next(n for n in self._cameras if _camera_key(n) == key)
        return self._upright(self._array(episode, name)[:count])


def _is_picture(shape: tuple[int, ...], kind: str) -> bool:
    return len(shape) == 3 and kind == "uint8" and (shape[2] == 3 or _channels_first(shape))


def _channels_first(shape: tuple[int, ...]) -> bool:
    return shape[0] == 3 and shape[2] != 3


def _camera_key(name: str) -> str:
    """Feature of a camera, from its array."""
    return layout.IMAGE_PREFIX + name.removeprefix("obs/").replace("/", ".")


def _library() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("Reading HDF5 needs h5py: pip install 'wamkit[hdf5]'.") from error
    return h5py


def _number(name: str) -> tuple[int, str]:
    """Order of demonstrations: by the number at the end of their names, `demo_2` before `demo_10`."""
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits or 0), name


def _document(attributes: Mapping[str, Any], name: str, place: Path | str) -> dict[str, Any]:
    """An attribute that holds JSON; empty where there is none."""
    if name not in attributes:
        return {}
    try:
        found = json.loads(attributes[name])
    except (ValueError, TypeError) as error:
        raise DataError(f"{place}, attribute {name!r}: not JSON ({reason(error)}). {WAY_OUT}") from error
    return found if isinstance(found, dict) else {}


def _form(form: tuple[tuple[int, ...], str] | None) -> str:
    return "no such array" if form is None else f"rows of shape {list(form[0])} and type {form[1]}"
