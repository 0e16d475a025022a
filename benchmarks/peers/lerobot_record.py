"""Recording of an arm with six joints and two cameras, written by lerobot itself (run in lerobot's environment).

    python lerobot_record.py OUT EPISODES [COPIES]

EPISODES different episodes of 300 frames at 30 Hz, two cameras of 480 x 640, AV1, are recorded and then repeated COPIES
times with lerobot's own tool, so that a large dataset takes no hour to encode.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.aggregate import aggregate_datasets
from lerobot.datasets.lerobot_dataset import LeRobotDataset

TICKS, RATE, HEIGHT, WIDTH = 300, 30, 480, 640
JOINTS = [
    f"{j}.pos" for j in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
]
CAMERAS = ("front", "wrist")


def features() -> dict:
    vector = {"dtype": "float32", "shape": (6,), "names": JOINTS}
    picture = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    cameras = {f"observation.images.{camera}": picture for camera in CAMERAS}
    return {"observation.state": vector, "action": vector, **cameras}


def add_episode(dataset: LeRobotDataset, seed: int) -> None:
    """Joints that move towards a goal; a square moves with them over a textured ground."""
    rng = np.random.default_rng(seed)
    goal, joints = rng.uniform(-60, 60, 6), rng.uniform(-30, 30, 6)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] / HEIGHT
    waves = 40 * np.sin(columns * 7 + seed)[..., None] + 30 * np.cos(rows * 9)[..., None]
    texture = np.kron(rng.integers(0, 25, (HEIGHT // 8, WIDTH // 8, 3)), np.ones((8, 8, 1)))
    ground = (rng.uniform(30, 120, 3) + waves + texture).clip(0, 255)
    for _ in range(TICKS):
        action, place = joints + (goal - joints).clip(-2, 2), (joints + 90) / 180
        frame = {"observation.state": joints, "action": action}
        frame = {key: value.astype(np.float32) for key, value in frame.items()}
        for i, camera in enumerate(CAMERAS):
            image, y, x = ground.copy(), int(HEIGHT * place[i]), int(WIDTH * place[i + 2])
            image[max(0, y - 30) : y + 30, max(0, x - 30) : x + 30] = (250, 40, 40)
            frame[f"observation.images.{camera}"] = image.astype(np.uint8)
        dataset.add_frame({**frame, "task": "put the block into the box"})
        joints = joints + (action - joints) * 0.5 + rng.normal(0, 0.05, 6)
    dataset.save_episode()


def main() -> None:
    out, episodes = Path(sys.argv[1]), int(sys.argv[2])
    copies = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    first = out if copies == 1 else out.with_name(out.name + ".once")
    shutil.rmtree(first, ignore_errors=True)
    dataset = LeRobotDataset.create(
        "wamkit/arm", RATE, features(), root=first, use_videos=True, image_writer_threads=2
    )
    for seed in range(episodes):
        add_episode(dataset, seed)
    dataset.finalize()
    if copies > 1:
        shutil.rmtree(out, ignore_errors=True)
        aggregate_datasets(["wamkit/arm"] * copies, "wamkit/arms", [first] * copies, out)


if __name__ == "__main__":
    main()
