"""Pictures and instruction, jointly -> tokens of a pretrained vision-language model (`oe.text-vlm`, eqs. 9, 32)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from PIL import Image
from torch import Tensor, nn

from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.nn.pretrained import Host, Source, pin

PART = "encoder 'vision_language_model'"


@EncoderConfig.register_subclass("vision_language_model")
@dataclass(frozen=True)
class VisionLanguageModelConfig(EncoderConfig):
    """Views and instruction through one vision-language model of `transformers` (survey eqs. 9, 32).

    Attributes:
        model: a folder or a hub id.
        architecture: what the model is; filled in when it is empty.
        prompt: what the model reads; ``{images}`` becomes its token for a picture, once per view and step, and
            ``{task}`` the instruction. Write the model's chat template here where it has one.
        layer: name of the layer that is read, as in ``model.named_modules()``; empty for the last hidden state.
        pool: ``tokens`` keeps every token, ``mean`` averages them, ``last`` takes the last one.
        cameras: names of the views; empty means all.
        trainable: whether the model learns with the design.
    """

    model: str = ""
    architecture: str = ""
    prompt: str = "{images}{task}"
    layer: str = ""
    pool: Literal["tokens", "mean", "last"] = "tokens"
    cameras: tuple[str, ...] = ()
    trainable: bool = False

    def __post_init__(self) -> None:
        """Read what the model is."""
        pin(self, PART)

    def build(self, data: DataSpec, window: WindowSpec, width: int) -> VisionLanguageModelEncoder:
        """Build; raises :class:`ConfigError` when the model, its processor, its layer or a camera is not there."""
        known = data.observation.cameras
        if not known:
            raise ConfigError(f"{PART}: the dataset has no camera. Use 'language_model'.")
        for name in self.cameras:
            if name not in known:
                raise ConfigError(f"{PART}: no camera {name!r}. {did_you_mean(name, known)}")
        if "{images}" not in self.prompt or "{task}" not in self.prompt:
            raise ConfigError(f"{PART}: prompt {self.prompt!r} must hold both {{images}} and {{task}}")
        host = Host(Source(self.model, self.architecture, PART, self.layer, self.trainable), "joint")
        return VisionLanguageModelEncoder(self, host, tuple(sorted(self.cameras or known)), width)


@final
class VisionLanguageModelEncoder(Encoder):
    """N is as many tokens as the longest prompt of the batch has, what a row does not fill is padding; 1 if pooled."""

    def __init__(
        self, config: VisionLanguageModelConfig, host: Host, cameras: tuple[str, ...], width: int
    ) -> None:
        super().__init__()
        self.config, self.host, self.cameras = config, host, cameras
        size = int(host.settings.get_text_config().hidden_size)
        self.project = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width))
        self.kind = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """See :class:`wamkit.contract.Encoder`."""
        inputs = self.inputs(observation)
        hidden, keep = self.host(**inputs), inputs["attention_mask"] > 0
        if self.config.pool == "mean":
            weight = keep[..., None].to(hidden.dtype)
            hidden = (hidden * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
        elif self.config.pool == "last":
            places = torch.arange(keep.shape[1], device=keep.device)
            last = (keep * places).argmax(dim=1)  # whichever side is padded
            hidden = hidden[torch.arange(len(last), device=keep.device), last][:, None]
        tokens = self.project(hidden) + self.kind
        pad = ~keep if self.config.pool == "tokens" else torch.zeros_like(keep[:, :1])
        return tokens, pad

    def inputs(self, observation: Observation) -> dict[str, Any]:
        """What the model's own processor makes of the rows: steps in order, views by name within each."""
        views = []
        for camera in self.cameras:
            if camera not in observation.images:
                raise SpecError(f"no image of camera {camera!r}. {did_you_mean(camera, observation.images)}")
            views.append(observation.images[camera].movedim(2, -1).cpu().numpy())
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
        made = self.host.tool(text=prompts, images=pictures, return_tensors="pt", padding=True)
        return {k: v.to(self.kind.device) for k, v in made.items() if k != "labels"}
