"""Random windows per second of lerobot's own loader (run in lerobot's environment).

    python lerobot_windows.py DATASET SIDE

Answers every line on its input, a number of windows, with the seconds that they took. A window is what the benchmark
of wamkit reads: two pictures per camera (now and 8 ticks later), the state and 16 actions; pictures are brought to
SIDE x SIDE by area.
"""

import sys
import time

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from torch.nn import functional as F


def main() -> None:
    root, side = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    plain = LeRobotDataset("wamkit/arm", root=root, video_backend="pyav")
    cameras, rate = plain.meta.camera_keys, plain.fps
    times = {camera: [0.0, 8 / rate] for camera in cameras} | {"action": [i / rate for i in range(16)]}
    dataset = LeRobotDataset("wamkit/arm", root=root, video_backend="pyav", delta_timestamps=times)
    rng = np.random.default_rng(0)
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for index in rng.integers(0, len(dataset), int(line)).tolist():
            item = dataset[index]
            for camera in cameras:
                F.interpolate(item[camera], (side, side), mode="area")
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
