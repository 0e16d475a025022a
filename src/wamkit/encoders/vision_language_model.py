"""Pictures and instruction -> joint tokens of a pretrained vision-language model (`oe.text-vlm`, eqs. 9, 32)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Words
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError
from wamkit.nn.pretrained import Host, Source, pin

PART = "encoder 'vision_language_model'"


@EncoderConfig.register_subclass("vision_language_model")
@dataclass(frozen=True)
class VisionLanguageModelConfig(EncoderConfig):
    """Camera images and instruction through a vision-language model of `transformers` (survey eqs. 9, 32).

    Attributes:
        model: folder or hub id of the model.
        architecture: config of the model as JSON, filled in when empty.
        prompt: template of the model's input. ``{images}`` is replaced by the model's image token, once per camera and
            step, and ``{task}`` by the instruction. Include the chat template where the model has one.
        layer: name of the layer to read, as in ``model.named_modules()``; empty for the last hidden state.
        pool: pooling of the model's tokens: ``tokens`` keeps all, ``mean`` averages them, ``last`` takes the last.
        cameras: names of the cameras; empty for all.
        trainable: true to train the model with the design; otherwise it is frozen.
    """

    packages: ClassVar[tuple[str, ...]] = ("pretrained",)
    model: str = ""
    architecture: str = ""
    prompt: str = "{images}{task}"
    layer: str = ""
    pool: Literal["tokens", "mean", "last"] = "tokens"
    cameras: Words = ()
    trainable: bool = False

    def __post_init__(self) -> None:
        """Pin the config of the model into ``architecture``."""
        pin(self, PART)

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> VisionLanguageModelEncoder:
        """Build; raises :class:`ConfigError` when the model, its processor, its layer or a camera is missing."""
        cameras = data.observation.cameras
        if not cameras:
            raise ConfigError(f"{PART}: the dataset has no camera. Use 'language_model'.")
        for name in self.cameras:
            data.camera(name, PART)
        if "{images}" not in self.prompt or "{task}" not in self.prompt:
            raise ConfigError(f"{PART}: prompt {self.prompt!r} must hold both {{images}} and {{task}}")
        host = Host(Source(self.model, self.architecture, PART, self.layer, self.trainable), "joint")
        return VisionLanguageModelEncoder(self, host, tuple(sorted(self.cameras or cameras)), width)


@final
class VisionLanguageModelEncoder(Encoder):
    """Prompt tokens, N = length of the longest prompt of the batch, with padding; N = 1 where pooled."""

    def __init__(
        self, config: VisionLanguageModelConfig, host: Host, cameras: tuple[str, ...], width: int
    ) -> None:
        super().__init__()
        self.config, self.host, self.cameras = config, host, cameras
        size = int(host.settings.get_text_config().hidden_size)
        self.project = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width))
        self.kind = nn.Parameter(torch.randn(width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        inputs = self.inputs(observation)
        hidden, keep = self.host(**inputs), inputs["attention_mask"] > 0
        if self.config.pool == "mean":
            weight = keep[..., None].to(hidden.dtype)
            hidden = (hidden * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
        elif self.config.pool == "last":
            positions = torch.arange(keep.shape[1], device=keep.device)
            # Valid for padding on the left and on the right.
            last = (keep * positions).argmax(dim=1)
            hidden = hidden[torch.arange(len(last), device=keep.device), last][:, None]
        tokens = self.project(hidden) + self.kind
        pad = ~keep if self.config.pool == "tokens" else torch.zeros_like(keep[:, :1])
        return tokens, pad

    def inputs(self, observation: Observation) -> dict[str, Any]:
        """Inputs from the model's own processor; pictures in the order of steps, then of camera names."""
        views = [observation.shown(camera)[0].movedim(2, -1).cpu().numpy() for camera in self.cameras]
        rows, steps = observation.pad.shape
        pictures = [
            [Image.fromarray(view[row, step]) for step in range(steps) for view in views]
            for row in range(rows)
        ]
        token = str(self.host.tool.image_token)
        prompts = [
            self.config.prompt.replace("{images}", token * len(pictures[0])).replace("{task}", task)
            for task in observation.task
        ]
        inputs = self.host.tool(text=prompts, images=pictures, return_tensors="pt", padding=True)
        return {k: v.to(self.kind.device) for k, v in inputs.items() if k != "labels"}
