"""Models of the `transformers` and `diffusers` libraries, named by a folder or a hub id.

What a model is (its own config) is read when the part's config is made and stays in it, so it is written beside
every result. Its weights, and the files of its tokenizer or processor, lie in the design's state: a checkpoint needs
neither the folder nor the hub again.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.errors import ConfigError, MissingExtraError, did_you_mean

Kind = Literal["text", "vision", "joint"]


def import_extra(module: Literal["transformers", "diffusers"]) -> Any:
    """The library; raises :class:`MissingExtraError` when it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{module} is not installed: pip install 'wamkit[pretrained]'.") from error


def unreadable(part: str, model: str, error: Exception) -> ConfigError:
    """The error for a name that cannot be loaded."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ConfigError(
        f"{part}: cannot load the model {model!r}: {reason} Give a folder that its library's `save_pretrained` wrote, "
        f"or a hub id such as owner/name (which needs the network or a filled cache)."
    )


def pin(config: Any, part: str, library: Literal["transformers", "diffusers"] = "transformers") -> None:
    """Write what the model is into ``config.architecture`` (JSON), unless it stands there already.

    To be called by ``__post_init__`` of a frozen config with the fields ``model`` and ``architecture``
    (and ``subfolder``, for `diffusers`).

    Raises:
        ConfigError: the model cannot be found.
    """
    if not config.model:
        return
    place = {"model": config.model}
    if library == "diffusers":
        place["subfolder"] = config.subfolder
    known = json.loads(config.architecture) if config.architecture else {}
    if all(known.get(key) == value for key, value in place.items()):
        return
    if library == "transformers":
        found = read_transformers(config.model, part)
    else:
        found = read_diffusers(config.model, config.subfolder, part)
    object.__setattr__(config, "architecture", json.dumps({**place, **found}, sort_keys=True))


def facts_of(model: str, architecture: str, part: str) -> dict[str, Any]:
    """What :func:`pin` wrote; raises :class:`ConfigError` when no model was named."""
    if not model:
        raise ConfigError(f"{part}: name a `model`: a folder that `save_pretrained` wrote, or a hub id.")
    return dict(json.loads(architecture))


def read_transformers(model: str, part: str) -> dict[str, Any]:
    """The model's config and how it wants pictures to be normalised, as plain values."""
    transformers = import_extra("transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(model).to_dict()
    except (OSError, ValueError) as error:
        raise unreadable(part, model, error) from error
    pictures: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"):
        path = transformers.utils.cached_file(
            model,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        found = json.loads(Path(path).read_text()) if path else {}
        found = found.get("image_processor", found)
        pictures = pictures or {key: found[key] for key in ("image_mean", "image_std") if key in found}
    return {"config": json.loads(json.dumps(config, default=str)), "pictures": pictures}


def read_diffusers(model: str, subfolder: str, part: str) -> dict[str, Any]:
    """The config of a model, as plain values."""
    diffusers = import_extra("diffusers")
    try:
        config = diffusers.AutoModel.load_config(model, subfolder=subfolder or None)
    except (OSError, ValueError) as error:
        raise unreadable(part, model, error) from error
    return {"config": json.loads(json.dumps(dict(config), default=str))}


def packed(tool: Any) -> Tensor:
    """The files of a tokenizer or processor as one row of bytes."""
    buffer = io.BytesIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        tool.save_pretrained(folder)
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(
                path.relative_to(folder).as_posix()
            )  # without a date: equal bytes every time
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8).clone()


def unpacked(archive: Tensor, auto: Any) -> Any:
    """Inverse of :func:`packed`."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(io.BytesIO(archive.cpu().numpy().tobytes())) as files:
            files.extractall(folder)
        return auto.from_pretrained(folder)


def load_transformers(name: str, config: Any, kind: Kind, part: str) -> tuple[nn.Module, str]:
    """The model with its weights, or with random ones and the reason why its own could not be had."""
    transformers = import_extra("transformers")
    wanted = (transformers.AutoModelForTextEncoding,) if kind == "text" else ()
    known = [auto for auto in (*wanted, transformers.AutoModel) if type(config) in auto._model_mapping]
    if not known:
        raise ConfigError(f"{part}: {type(config).__name__} of {name!r} is no {kind} model of `transformers`")
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()  # the other half of a two-tower model is not missed
    log.disable_progress_bar()
    try:
        model, info = known[0].from_pretrained(
            name, config=config, dtype=torch.float32, output_loading_info=True
        )
    except OSError as error:  # gone or out of reach; a checkpoint may bring the weights
        return known[0].from_config(config), str(unreadable(part, name, error))
    except (ValueError, RuntimeError) as error:
        raise unreadable(part, name, error) from error
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
    # Poolers are trained with a task that we do not use, so that many published weights lack them.
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ConfigError(f"{part}: {name!r} has no weights for {len(missing)} tensors, first {missing[0]!r}")
    return model, ""


@final
class Host(nn.Module):
    """A model of `transformers`, frozen or not, read at its last hidden state or at a named layer.

    Attributes:
        width: features of what is read.
    """

    archive: Tensor

    def __init__(
        self, name: str, architecture: str, kind: Kind, part: str, layer: str = "", trainable: bool = False
    ) -> None:
        super().__init__()
        facts = facts_of(name, architecture, part)
        transformers = import_extra("transformers")
        config = transformers.AutoConfig.for_model(**facts["config"])
        if kind != "joint":
            config = getattr(config, f"{kind}_config", None) or config
        self.name, self.kind, self.part, self.layer, self.trainable = name, kind, part, layer, trainable
        self.model, self.absent = load_transformers(name, config, kind, part)
        self.settings = config
        layers = dict(self.model.named_modules())
        if layer and layer not in layers:
            raise ConfigError(f"{part}: {name!r} has no layer {layer!r}. {did_you_mean(layer, layers)}")
        self.model.requires_grad_(trainable)
        self._auto = {"text": "AutoTokenizer", "joint": "AutoProcessor"}.get(kind, "")
        self._tool: Any = None
        self.memo: dict[str, Tensor] = {}
        archive = torch.zeros(0, dtype=torch.uint8)
        if self._auto and not self.absent:
            try:
                tool = getattr(transformers, self._auto).from_pretrained(name)
            except (OSError, ValueError, ImportError) as error:
                raise unreadable(f"{part} ({self._auto})", name, error) from error
            if kind == "joint" and getattr(tool, "image_token", None) is None:
                raise ConfigError(
                    f"{part}: {type(tool).__name__} of {name!r} does not read text and pictures together"
                )
            archive = packed(tool)
        self.register_buffer("archive", archive)
        self.register_load_state_dict_post_hook(_arrived)
        self.train(False)

    @property
    def tool(self) -> Any:
        """The tokenizer or processor, made of the files that travel with the weights."""
        self.check()
        if self._tool is None:
            self._tool = unpacked(self.archive, getattr(import_extra("transformers"), self._auto))
        return self._tool

    def check(self) -> None:
        """Raise :class:`ConfigError` while there are no weights: neither the model's own nor a checkpoint's."""
        if self.absent:
            raise ConfigError(self.absent)

    def forward(self, **inputs: Any) -> Tensor:
        """Inputs of the model -> what is read: (B, N, D), or a feature map (B, D, h, w)."""
        self.check()
        found: list[Any] = []
        handle = None
        if self.layer:
            place = self.model.get_submodule(self.layer)
            handle = place.register_forward_hook(lambda module, args, output: found.append(output))
        try:
            with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
                output = self.model(**inputs)
        finally:
            if handle is not None:
                handle.remove()
        hidden = found[-1] if found else output.last_hidden_state
        return hidden[0] if isinstance(hidden, tuple) else hidden

    def train(self, mode: bool = True) -> Self:
        """A frozen model is never in training mode."""
        return super().train(mode and self.trainable)


def _arrived(host: nn.Module, keys: Any) -> None:
    """After weights were read from a checkpoint: they are there, and nothing of before holds."""
    assert isinstance(host, Host)
    host.absent, host._tool, host.memo = "", None, {}


@final
class PictureModel(nn.Module):
    """Pictures (M, 3, h, w) uint8 -> tokens (M, N, D) of any vision model of `transformers`.

    Pictures are resized to the model's own size. ``grid`` averages the patches to grid x grid tokens; 0 keeps every
    token of the model, class and register tokens too. A model of clips sees one picture as a still clip.

    Attributes:
        tokens, width: N and D.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        name: str,
        architecture: str,
        part: str,
        *,
        layer: str = "",
        trainable: bool = False,
        grid: int = 0,
        size: int = 0,
        mean: tuple[float, ...] = (),
        deviation: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        pictures = facts_of(name, architecture, part).get("pictures", {})
        mean = mean or tuple(pictures.get("image_mean", ()))
        deviation = deviation or tuple(pictures.get("image_std", ()))
        if len(mean) != 3 or len(deviation) != 3:
            raise ConfigError(
                f"{part}: {name!r} does not say how pictures are normalised (no preprocessor_config.json beside it). "
                f"Set `mean` and `deviation`, three values each, for pictures in [0, 1]."
            )
        self.host = Host(name, architecture, "vision", part, layer, trainable)
        settings = self.host.settings
        own = getattr(settings, "image_size", None) or getattr(settings, "crop_size", None) or 224
        self.size = size or (own if isinstance(own, int) else int(own[0]))
        self.grid, self.part = grid, part
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(3, 1, 1), persistent=False)
        with torch.no_grad():
            absent, self.host.absent = self.host.absent, ""  # shapes do not depend on weights
            shape = self(torch.zeros(1, 3, self.size, self.size, dtype=torch.uint8)).shape
            self.host.absent = absent
        self.tokens, self.width = int(shape[1]), int(shape[2])

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        x = images.float() / 255
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True).clamp(0, 1)
        x = (x - self.mean) / self.deviation
        key = str(self.host.model.main_input_name)
        # A predictor of masked patches (V-JEPA 2) is no part of the features.
        clip = {"skip_predictor": True} if "videos" in key else {}
        hidden = self.host(**{key: x[:, None] if "videos" in key else x}, **clip)
        if hidden.dim() == 3 and not self.grid:
            return hidden
        cells = hidden if hidden.dim() == 4 else self._patches(hidden)
        if self.grid:
            cells = F.adaptive_avg_pool2d(cells, self.grid)
        return cells.flatten(2).transpose(1, 2)

    def _patches(self, hidden: Tensor) -> Tensor:
        """Tokens (M, N, D) -> the map of the patches (M, D, side, side); other tokens stand before them."""
        patch = getattr(self.host.settings, "patch_size", 0)
        patch = patch if isinstance(patch, int) else int(patch[0])
        side = self.size // patch if patch else math.isqrt(hidden.shape[1])
        if side**2 > hidden.shape[1]:
            raise ConfigError(
                f"{self.part}: {hidden.shape[1]} tokens of {self.host.name!r} are no map of {side} x {side} patches, "
                f"so they have no grid. Set grid = 0."
            )
        return hidden[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
