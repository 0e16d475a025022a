"""Datasets as other programs write them, made with pyarrow, PyAV and json alone: nothing here is wamkit's writer.

v3.0 after ``lerobot==0.4.4``, v2.1 and v2.0 after ``lerobot==0.3.3``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SCENE, WRIST, STILL = "observation.images.scene", "observation.images.wrist", "observation.images.still"
FPS = 30
SIZES = {SCENE: (32, 48), WRIST: (64, 32), STILL: (20, 24)}
INDEX = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
EXTRAS: dict[str, tuple[str, list[int]]] = {
    "next.done": ("bool", [1]),
    "counts": ("int32", [3]),
    "note": ("string", [1]),
    "pose": ("float64", [2]),
    "grid": ("float32", [2, 3]),
}


@dataclass(frozen=True)
class Take:
    """One recorded episode.

    Attributes:
        tasks: instruction of every frame.
        columns: feature -> values (T, ...), numbers or texts.
        pictures: feature -> (T, H, W, 3), uint8.
        further: further entries of the episode's line.
    """

    tasks: list[str]
    columns: dict[str, np.ndarray]
    pictures: dict[str, np.ndarray]
    further: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tasks)


def pictures(frames: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Smooth pictures (T, H, W, 3) that change from frame to frame."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    plane = (rows + columns)[None, :, :, None] + np.array([0, 20, 40])
    shade = (seed * 41 + 7 * np.arange(frames)) % 120
    return (plane + shade[:, None, None, None]).clip(0, 255).astype(np.uint8)


def take(
    frames: int, seed: int, cameras: Sequence[str] = (SCENE,), extras: Sequence[str] = (), task: str = ""
) -> Take:
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {
        "observation.state": rng.normal(size=(frames, 3)).astype(np.float32),
        "action": rng.normal(size=(frames, 2)).astype(np.float32),
    }
    for name in extras:
        dtype, shape = EXTRAS[name]
        if dtype == "string":
            columns[name] = np.array([f"wörd {seed} {t}" for t in range(frames)])
        else:
            values = rng.normal(0, 9, size=(frames, *shape)).round(3 if dtype[0] == "f" else 0)
            columns[name] = (values > 0 if dtype == "bool" else values).astype(dtype)
    return Take(
        [task or f"task {seed % 2}"] * frames,
        columns,
        {key: pictures(frames, SIZES[key], seed) for key in cameras},
    )


def features(one: Take, stored: Sequence[str] = (STILL,)) -> dict[str, Any]:
    """The entry ``features``; cameras in ``stored`` lie in the table."""
    named = {"observation.state": ["x", "y", "z"], "action": ["dx", "close"]}
    out: dict[str, Any] = {}
    for key, images in one.pictures.items():
        shape = list(images.shape[1:])
        out[key] = {
            "dtype": "image" if key in stored else "video",
            "shape": shape,
            "names": ["height", "width", "channels"],
        }
    for name, values in one.columns.items():
        kind = "string" if values.dtype.kind == "U" else str(values.dtype)
        out[name] = {"dtype": kind, "shape": list(values.shape[1:]) or [1], "names": named.get(name)}
    return out | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in INDEX.items()}


def encode(path: Path, images: np.ndarray, codec: str = "libx264", fps: int = FPS, **options: str) -> None:
    """One episode as LeRobot encodes it: yuv420p, a key frame every two pictures, B-frames where the codec has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    av.logging.set_level(av.logging.ERROR)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=fps, options={"g": "2", "crf": "30"} | options)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in images:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())


def join(parts: Sequence[Path], path: Path) -> None:
    """Concatenate videos of one coding with the demuxer that LeRobot uses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listing = path.with_suffix(".txt")
    listing.write_text("ffconcat version 1.0\n" + "".join(f"file '{p}'\n" for p in parts))
    with (
        av.open(str(listing), format="concat", options={"safe": "0"}) as source,
        av.open(str(path), "w") as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.time_base = source.streams.video[0].time_base
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    listing.unlink()


def rows(takes: Sequence[Take], tasks: Sequence[str], fps: int = FPS) -> list[pa.Table]:
    """The table of every episode."""
    out, start = [], 0
    for number, one in enumerate(takes):
        count = len(one)
        ticks = np.arange(count)
        columns: dict[str, Any] = {key: cells(one.pictures[key]) for key in one.pictures if key == STILL}
        columns |= {name: column(values) for name, values in one.columns.items()}
        columns["timestamp"] = pa.array((ticks / fps).astype(np.float32))
        columns["frame_index"] = pa.array(ticks)
        columns["episode_index"] = pa.array(np.full(count, number))
        columns["index"] = pa.array(ticks + start)
        columns["task_index"] = pa.array([tasks.index(task) for task in one.tasks])
        out.append(pa.table(columns))
        start += count
    return out


def column(values: np.ndarray) -> pa.Array:
    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string())
    if values.shape[1:] == (1,):
        return pa.array(values[:, 0])
    kind = pa.from_numpy_dtype(values.dtype)
    for axis, length in enumerate(reversed(values.shape[1:])):
        kind = pa.list_(kind, length) if axis == 0 and values.ndim == 2 else pa.list_(kind)
    return pa.array(values.tolist(), kind)


def cells(images: np.ndarray) -> pa.Array:
    """Pictures as PNG files in the table."""

    def png(image: np.ndarray) -> bytes:
        sink = io.BytesIO()
        Image.fromarray(image).save(sink, "PNG")
        return sink.getvalue()

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    found = [{"bytes": png(image), "path": f"frame-{t:06d}.png"} for t, image in enumerate(images)]
    return pa.array(found, kind)


def stats_of(values: np.ndarray) -> dict[str, Any]:
    """Statistics as v2.1 has them."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    names = {"min": flat.min(0), "max": flat.max(0), "mean": flat.mean(0), "std": flat.std(0)}
    return {name: value.tolist() for name, value in names.items()} | {"count": [len(values)]}


def listed_tasks(takes: Sequence[Take]) -> list[str]:
    return list(dict.fromkeys(task for one in takes for task in one.tasks))


def write_lines(path: Path, content: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content), encoding="utf-8")


def write_old(
    root: Path,
    takes: Sequence[Take],
    version: str = "v2.1",
    codec: str = "libx264",
    chunks_size: int = 1000,
    fps: int = FPS,
    **info: Any,
) -> Path:
    """A dataset of v2.1 or v2.0."""
    tasks, kinds = listed_tasks(takes), features(takes[0])
    data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    videos = [key for key, feature in kinds.items() if feature["dtype"] == "video"]
    for number, (one, table) in enumerate(zip(takes, rows(takes, tasks, fps), strict=True)):
        place = {"episode_chunk": number // chunks_size, "episode_index": number}
        path = root / data.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        for key in videos:
            encode(root / video.format(video_key=key, **place), one.pictures[key], codec, fps)
    write_lines(root / "meta/tasks.jsonl", [{"task_index": i, "task": task} for i, task in enumerate(tasks)])
    lines = [
        {"episode_index": i, "tasks": listed_tasks([one]), "length": len(one), **one.further}
        for i, one in enumerate(takes)
    ]
    write_lines(root / "meta/episodes.jsonl", lines)
    numbers = [name for name, values in takes[0].columns.items() if values.dtype.kind != "U"]
    if version == "v2.1":
        stats = [{n: stats_of(one.columns[n]) for n in numbers} for one in takes]
        write_lines(
            root / "meta/episodes_stats.jsonl",
            [{"episode_index": i, "stats": stats[i]} for i in range(len(takes))],
        )
    else:
        whole = {n: stats_of(np.concatenate([one.columns[n] for one in takes])) for n in numbers}
        (root / "meta/stats.json").write_text(json.dumps({n: {**v, "count": None} for n, v in whole.items()}))
    content = {
        "codebase_version": version,
        "robot_type": "arm",
        "total_episodes": len(takes),
        "total_frames": sum(map(len, takes)),
        "total_tasks": len(tasks),
        "total_videos": len(takes) * len(videos),
        "total_chunks": -(-len(takes) // chunks_size),
        "chunks_size": chunks_size,
        "fps": fps,
        "splits": {"train": f"0:{len(takes)}"},
        "data_path": data,
        "video_path": video if videos else None,
        "features": kinds,
    }
    (root / "meta/info.json").write_text(json.dumps(content | info, indent=4))
    return root


def write_new(
    root: Path, takes: Sequence[Take], per_file: int = 2, chunks_size: int = 2, codec: str = "libx264"
) -> Path:
    """A dataset of v3.0 with several files and folders of each kind."""
    tasks, kinds = listed_tasks(takes), features(takes[0])
    data = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    videos = [key for key, feature in kinds.items() if feature["dtype"] == "video"]
    parts, episodes, start = rows(takes, tasks), list[dict[str, Any]](), 0
    for begin in range(0, len(takes), per_file):
        group = range(begin, min(begin + per_file, len(takes)))
        number = begin // per_file
        place = {"chunk_index": number // chunks_size, "file_index": number % chunks_size}
        path = root / data.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables([parts[e] for e in group]), path)
        at = 0.0
        for e in group:
            count = len(takes[e])
            row = {"episode_index": e, "tasks": listed_tasks([takes[e]]), "length": count}
            row |= {f"data/{name}": value for name, value in place.items()}
            row |= {"dataset_from_index": start, "dataset_to_index": start + count}
            for key in videos:
                row |= {f"videos/{key}/{name}": value for name, value in place.items()}
                row |= {f"videos/{key}/from_timestamp": at, f"videos/{key}/to_timestamp": at + count / FPS}
            row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0, **takes[e].further}
            episodes.append(row)
            at, start = at + count / FPS, start + count
        for key in videos:
            films = [root / f"tmp-{e}.mp4" for e in group]
            for film, e in zip(films, group, strict=True):
                encode(film, takes[e].pictures[key], codec)
            join(films, root / video.format(video_key=key, **place))
            for film in films:
                film.unlink()
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    table = pa.table({"task_index": pa.array(range(len(tasks))), "__index_level_0__": pa.array(tasks)})
    pq.write_table(table, root / "meta/tasks.parquet")
    write_stats(root, takes)
    content = {
        "codebase_version": "v3.0",
        "robot_type": "arm",
        "total_episodes": len(takes),
        "total_frames": start,
        "total_tasks": len(tasks),
        "chunks_size": chunks_size,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {"train": f"0:{len(takes)}"},
        "data_path": data,
        "video_path": video if videos else None,
        "features": kinds,
    }
    (root / "meta/info.json").write_text(json.dumps(content, indent=4))
    return root


def write_stats(root: Path, takes: Sequence[Take]) -> None:
    """``meta/stats.json`` with the quantiles of LeRobot 0.4.4."""
    quantiles = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
    stats: dict[str, Any] = {}
    for name, first in takes[0].columns.items():
        if first.dtype.kind != "U" and first.ndim <= 2:
            values = np.concatenate([one.columns[name] for one in takes]).astype(np.float64)
            stats[name] = stats_of(values)
            stats[name] |= {q: np.quantile(values, at, axis=0).tolist() for q, at in quantiles.items()}
    for key in takes[0].pictures:
        flat = np.concatenate([one.pictures[key] for one in takes]).reshape(-1, 3) / 255
        shaped = {n: np.reshape(v, (3, 1, 1)).tolist() for n, v in stats_of(flat).items() if n != "count"}
        shaped |= {q: np.quantile(flat, at, axis=0).reshape(3, 1, 1).tolist() for q, at in quantiles.items()}
        stats[key] = shaped | {"count": [sum(map(len, takes))]}
    (root / "meta/stats.json").write_text(json.dumps(stats))
