"""Server of a policy that `lerobot_train.py` trained (run in lerobot's environment, by `lerobot_policy.py`).

    python lerobot_serve.py CHECKPOINT [--set KEY=VALUE ...]

Speaks the messages of `wire.py` through its standard input and output. It says first what the policy is; then every
request holds ``seeds`` (B) and the arrays ``task`` (B) int64, ``state`` (B, T, S) float32 and one per camera
(B, T, 3, height, width) uint8, and is answered with ``action`` (B, H, A) float32 in the units of the data. ``--set``
changes fields of the config that matter when acting, such as ``num_inference_steps``.
"""

from __future__ import annotations

import torchvision_cpu  # isort: skip  # noqa: F401  before everything that imports torchvision

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import lerobot
import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.utils.constants import OBS_ENV_STATE, OBS_IMAGES, OBS_STATE
from lerobot_train import settings
from torch import Tensor
from wire import Answer, Message, serve

ACTING = ("n_action_steps", "num_inference_steps", "noise_scheduler_type", "clip_sample", "clip_sample_range")


class Server:
    """A trained policy with its processors.

    Attributes:
        hello: what the policy is, for the other side.
    """

    def __init__(self, folder: Path, pairs: list[str]) -> None:
        record = json.loads((folder / "peer.json").read_text())
        config = PreTrainedConfig.from_pretrained(folder)
        changes = settings(pairs, type(config))
        wrong = sorted(set(changes) - set(ACTING))
        if wrong:
            raise SystemExit(
                f"--set {', '.join(wrong)}: only {', '.join(ACTING)} can change after the training"
            )
        for name, value in changes.items():
            setattr(config, name, value)
        if getattr(config, "temporal_ensemble_coeff", None) is not None:  # a field of ACT alone
            raise SystemExit(
                "temporal_ensemble_coeff: the ensemble of past chunks is not served; train without it"
            )
        self.policy = get_policy_class(record["policy"]).from_pretrained(folder, config=config).eval()
        self.prepare, self.finish = make_pre_post_processors(config, pretrained_path=str(folder))
        self.diffuses, self.tasks = record["policy"] == "diffusion", len(record["tasks"])
        cameras = [key.removeprefix(f"{OBS_IMAGES}.") for key in config.image_features]
        self.hello: dict[str, Any] = {
            **record,
            "library": f"lerobot {lerobot.__version__}",
            "cameras": cameras,
            "observation": config.observation_delta_indices or [0],
            "horizon": config.n_action_steps if self.diffuses else config.chunk_size,
            "execute": config.n_action_steps,
            "state": config.robot_state_feature.shape[0],
            "action": config.action_feature.shape[0],
            "nfe": self.policy.diffusion.num_inference_steps if self.diffuses else 1,
            "acting": changes,
        }

    @torch.no_grad()
    def answer(self, fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> Message:
        """Actions of all rows, and the milliseconds of both stages."""
        begin = time.perf_counter()
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(arrays["task"]), self.tasks).float()
        state = torch.from_numpy(arrays["state"])
        batch = {OBS_STATE: state, OBS_ENV_STATE: one_hot[:, None].expand(-1, state.shape[1], -1)}
        for camera in self.hello["cameras"]:
            batch[f"{OBS_IMAGES}.{camera}"] = torch.from_numpy(arrays[camera]).float() / 255
        if not self.diffuses:  # a policy of one step has no axis of time
            batch = {key: value[:, -1] for key, value in batch.items()}
        batch = self.prepare(batch)
        middle = time.perf_counter()
        chunk = (
            self._diffuse(batch, fields["seeds"])
            if self.diffuses
            else self.policy.predict_action_chunk(batch)
        )
        action = self.finish(chunk).float().numpy()
        ms = {"preprocess": 1000 * (middle - begin), "action": 1000 * (time.perf_counter() - middle)}
        return {"stage_ms": ms}, {"action": action}

    def _diffuse(self, batch: dict[str, Tensor], seeds: list[int]) -> Tensor:
        """The body of DiffusionModel.generate_actions with one generator per row.

        diffusers draws from a list of generators row by row; a sample then depends on its own seed alone.
        """
        model, config = self.policy.diffusion, self.policy.config
        keys = list(config.image_features)
        # (B, T, cameras, 3, height, width)
        batch[OBS_IMAGES] = torch.stack([batch[key] for key in keys], dim=-4)
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = (config.horizon, config.action_feature.shape[0])
        noise = torch.stack([torch.randn(shape, generator=draw) for draw in draws])
        context = model._prepare_global_conditioning(batch)
        whole = model.conditional_sample(len(seeds), context, generator=draws, noise=noise)
        now = config.n_obs_steps - 1
        return whole[:, now : now + config.n_action_steps]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)

    def build() -> tuple[dict[str, Any], Answer]:
        server = Server(chosen.checkpoint, chosen.set)
        return server.hello, server.answer

    serve(build)


if __name__ == "__main__":
    main()
