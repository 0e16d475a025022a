"""Server of a policy that needs no lerobot: it speaks the messages of the peers, and its actions have a closed form.

The action of row i and step h is ``task + state + mean picture / 100 + h`` in every entry, plus a draw from its seed.
With ``--dies`` it ends at the first request, with ``--mute`` before it has said anything.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/peers"))
from wire import Answer, Message, serve

HORIZON, EXECUTE, WIDTH = 4, 2, 4
HELLO = {
    "policy": "stand-in",
    "library": "none",
    "cameras": ["scene"],
    "observation": [-1, 0],
    "horizon": HORIZON,
    "execute": EXECUTE,
    "state": 1,
    "action": WIDTH,
    "tasks": ["left", "right"],
    "instructions": {"go to the right": 0, "move rightwards": 1},
    "parameters": 7,
    "nfe": 3,
}


def draw(seed: int) -> float:
    """The noise of a row, between 0 and 1."""
    return float(np.random.default_rng(seed).random())


def answer(fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> Message:
    if "--dies" in sys.argv:
        sys.exit("the motor is hot")
    print("a library prints something")
    sys.stdout.flush()
    rows = arrays["task"] + arrays["state"][:, -1, 0] + arrays["scene"][:, -1].mean((1, 2, 3)) / 100
    rows = rows + np.array([draw(seed) for seed in fields["seeds"]])
    action = (rows[:, None] + np.arange(HORIZON)).astype(np.float32)  # (B, H)
    return {"stage_ms": {"action": 1.5}}, {"action": np.repeat(action[..., None], WIDTH, axis=-1)}


def build() -> tuple[dict[str, Any], Answer]:
    print("Loading weights ...")
    return HELLO, answer


if __name__ == "__main__":
    if "--mute" in sys.argv:
        sys.exit("no such checkpoint")
    serve(build)
