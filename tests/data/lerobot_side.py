"""Runs inside the interpreter that has lerobot==0.4.4; reads or writes one dataset with LeRobot's own code.

python lerobot_side.py read ROOT OUT.npz
python lerobot_side.py write ROOT IN.npz
python lerobot_side.py edit ROOT OUT    # episodes deleted, split, merged, features removed
python lerobot_side.py upgrade ROOT OUT # LeRobot's own conversion from v2.1 to v3.0, in small files
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

DELTAS = (-3, -1, 0, 2)


def read(root: Path, out: Path) -> None:
    data = LeRobotDataset("local/set", root=root)
    items = [data[i] for i in range(len(data))]
    arrays = {f"item/{k}": np.stack([np.asarray(i[k]) for i in items]) for k in items[0] if k != "task"}
    arrays["task"] = np.array([i["task"] for i in items])
    for feature, stats in data.meta.stats.items():
        arrays |= {f"stats/{feature}/{name}": value for name, value in stats.items()}
    windows = LeRobotDataset(
        "local/set", root=root, delta_timestamps={"action": [d / data.fps for d in DELTAS]}
    )
    samples = [windows[i] for i in range(len(windows))]
    arrays["window/action"] = np.stack([s["action"] for s in samples])
    arrays["window/pad"] = np.stack([s["action_is_pad"] for s in samples])
    arrays["total"] = np.array([data.num_episodes, data.num_frames])
    arrays["tasks"] = np.array(list(data.meta.tasks.index))
    arrays["features"] = np.array(json.dumps(sorted(data.meta.features)))
    np.savez(out, **arrays)


def write(root: Path, source: Path) -> None:
    arrays = dict(np.load(source))
    size = list(arrays["video"].shape[1:])
    names = ["height", "width", "channels"]
    features = {
        "observation.images.front": {"dtype": "video", "shape": size, "names": names},
        "observation.images.side": {"dtype": "video", "shape": size, "names": names},
        "observation.images.still": {"dtype": "image", "shape": size, "names": names},
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["dx", "close"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    data = LeRobotDataset.create("local/set", fps=30, features=features, root=root, robot_type="arm")
    for episode in range(int(arrays["episode"].max()) + 1):
        for t in np.flatnonzero(arrays["episode"] == episode):
            data.add_frame(
                {
                    "observation.images.front": arrays["video"][t],
                    "observation.images.side": arrays["video"][t][::-1].copy(),
                    "observation.images.still": arrays["video"][t],
                    "observation.state": arrays["state"][t],
                    "action": arrays["action"][t],
                    "next.reward": arrays["reward"][t : t + 1],
                    "task": str(arrays["task"][t]),
                }
            )
        data.save_episode()
    data.finalize()


def edit(root: Path, out: Path) -> None:
    from lerobot.datasets import dataset_tools

    data = LeRobotDataset("local/set", root=root)
    dataset_tools.delete_episodes(data, [1], output_dir=out / "deleted", repo_id="local/deleted")
    dataset_tools.split_dataset(data, {"first": [0], "rest": [1, 2]}, output_dir=out)
    again = LeRobotDataset("local/other", root=root)
    dataset_tools.merge_datasets([data, again], "local/merged", out / "merged")
    dataset_tools.remove_feature(data, "next.reward", output_dir=out / "less", repo_id="local/less")


def upgrade(root: Path, out: Path) -> None:
    from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset

    shutil.copytree(root, out / "set")
    convert_dataset(
        "set", root=out, push_to_hub=False, data_file_size_in_mb=0.002, video_file_size_in_mb=0.01
    )


if __name__ == "__main__":
    {"read": read, "write": write, "edit": edit, "upgrade": upgrade}[sys.argv[1]](
        Path(sys.argv[2]), Path(sys.argv[3])
    )
