"""Models of the `transformers` and `diffusers` libraries, given by a folder or a hub id.

A model's own config is read when the part's config is made and stays in it, so it is written beside every result. The
model's weights and the files of its tokenizer or processor are part of the design's state: loading a checkpoint needs
neither the folder nor the hub.
"""

from __future__ import annotations

import importlib
import io
import json
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.errors import ConfigError, MissingExtraError, did_you_mean, reason
from wamkit.storage import read_json

Kind = Literal["text", "vision", "joint"]

# Prefix of the weights of a pooling head. It belongs to the model's training task, which is not used here, so many
# published checkpoints lack it.
POOLER = "pooler."

# What the libraries raise on the files of a model that are broken, missing or out of reach.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)

LEAVE_EMPTY = "Leave it empty: it is filled in from `model`."

# Texts whose hidden states a frozen text model keeps.
MEMO_SIZE = 512


@dataclass(frozen=True)
class Source:
    """A pretrained model and the part that reads it.

    Attributes:
        name: folder or hub id of the model.
        architecture: config of the model as JSON, written by :func:`pin`.
        part: part that reads the model, for error messages.
        layer: name of the layer whose output is read; empty for the last hidden state.
        trainable: true to train the model with the design; otherwise it is frozen.
    """

    name: str
    architecture: str
    part: str
    layer: str = ""
    trainable: bool = False


@final
class Memo:
    """Cache of one tensor per text that drops the least recently used entry when it is full.

    Args:
        size: largest number of entries.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._entries: OrderedDict[str, Tensor] = OrderedDict()

    def read(self, text: str, compute: Callable[[str], Tensor]) -> Tensor:
        """Tensor of ``text``, computed on a cache miss."""
        if text not in self._entries:
            self._entries[text] = compute(text)
        self._entries.move_to_end(text)
        if len(self._entries) > self.size:
            self._entries.popitem(last=False)
        return self._entries[text]

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()


def import_extra(module: Literal["transformers", "diffusers"]) -> Any:
    """Import the library; raises :class:`MissingExtraError` when it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{module} is not installed: pip install 'wamkit[pretrained]'.") from error


def unreadable(part: str, model: str, error: Exception) -> ConfigError:
    """Error for a model that cannot be loaded."""
    return ConfigError(
        f"{part}: cannot load the model {model!r}: {reason(error)} Give a folder that its library's "
        f"`save_pretrained` wrote, or a hub id such as owner/name (which needs the network or a filled cache)."
    )


def pin(config: Any, part: str, library: Literal["transformers", "diffusers"] = "transformers") -> None:
    """Write the model's own config into ``config.architecture`` (JSON), unless it is there already.

    Called by ``__post_init__`` of a frozen config with the fields ``model`` and ``architecture`` (and ``subfolder``,
    for `diffusers`).

    Raises:
        ConfigError: the model cannot be found.
    """
    if not config.model:
        return
    place = {"model": config.model}
    if library == "diffusers":
        place["subfolder"] = config.subfolder
    pinned = described(config.architecture, part) if config.architecture else {}
    if all(pinned.get(key) == value for key, value in place.items()):
        return
    if library == "transformers":
        facts = read_transformers(config.model, part)
    else:
        facts = read_diffusers(config.model, config.subfolder, part)
    object.__setattr__(config, "architecture", json.dumps({**place, **facts}, sort_keys=True))


def facts_of(model: str, architecture: str, part: str) -> dict[str, Any]:
    """Values that :func:`pin` wrote; raises :class:`ConfigError` when no model was given."""
    if not model:
        raise ConfigError(f"{part}: name a `model`: a folder that `save_pretrained` wrote, or a hub id.")
    return described(architecture, part)


def described(architecture: str, part: str) -> dict[str, Any]:
    """Read the field ``architecture`` of a config; raises :class:`ConfigError` when it is no JSON object."""
    try:
        values = json.loads(architecture)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{part}: `architecture` is not JSON ({error}). {LEAVE_EMPTY}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{part}: `architecture` is {values!r}, not a JSON object. {LEAVE_EMPTY}")
    return values


def read_transformers(model: str, part: str) -> dict[str, Any]:
    """Config of a `transformers` model and its normalisation of pictures, as plain values."""
    transformers = import_extra("transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(model).to_dict()
    except UNREADABLE as error:
        raise unreadable(part, model, error) from error
    pictures: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"):
        path = transformers.utils.cached_file(
            model,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        values = read_json(Path(path), f"Download {model!r} again.") if path else {}
        values = values.get("image_processor", values)
        pictures = pictures or {key: values[key] for key in ("image_mean", "image_std") if key in values}
    return {"config": json.loads(json.dumps(config, default=str)), "pictures": pictures}


def read_diffusers(model: str, subfolder: str, part: str) -> dict[str, Any]:
    """Config of a `diffusers` model, as plain values."""
    diffusers = import_extra("diffusers")
    try:
        config = diffusers.AutoModel.load_config(model, subfolder=subfolder or None)
    except UNREADABLE as error:
        raise unreadable(part, model, error) from error
    return {"config": json.loads(json.dumps(dict(config), default=str))}


def packed(tool: Any) -> Tensor:
    """Files of a tokenizer or processor as one row of bytes, equal every time."""
    buffer = io.BytesIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        tool.save_pretrained(folder)
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            # A ZipInfo has a fixed date, unlike an entry made from the file itself.
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8).clone()


def unpacked(archive: Tensor, auto: Any) -> Any:
    """Tokenizer or processor from the bytes that :func:`packed` made, loaded by the `transformers` class ``auto``."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(io.BytesIO(archive.cpu().numpy().tobytes())) as files:
            files.extractall(folder)
        return auto.from_pretrained(folder)


def load_transformers(name: str, config: Any, kind: Kind, part: str) -> tuple[nn.Module, str]:
    """Load a model with its weights, or with random ones and the reason why its own are out of reach."""
    transformers = import_extra("transformers")
    preferred = (transformers.AutoModelForTextEncoding,) if kind == "text" else ()
    loaders = [auto for auto in (*preferred, transformers.AutoModel) if type(config) in auto._model_mapping]
    if not loaders:
        raise ConfigError(
            f"{part}: {type(config).__name__} of {name!r} is not a {kind} model of `transformers`"
        )
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    # Silences warnings about the missing keys of the unused tower of a two-tower model.
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        model, info = loaders[0].from_pretrained(
            name, config=config, dtype=torch.float32, output_loading_info=True
        )
    except OSError as error:
        # The files are gone or out of reach. A checkpoint may still bring the weights.
        return loaders[0].from_config(config), str(unreadable(part, name, error))
    except (ValueError, RuntimeError) as error:
        raise unreadable(part, name, error) from error
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(POOLER))
    if missing:
        raise ConfigError(f"{part}: {name!r} has no weights for {len(missing)} tensors, first {missing[0]!r}")
    return model, ""


@final
class Host(nn.Module):
    """A model of `transformers`, frozen or trainable, read at its last hidden state or at a given layer.

    Attributes:
        source: model and part that reads it.
        kind: modality of the model.
        settings: config of the model.
        absent: reason why the model's weights are missing; empty when they are there.
        memo: hidden states of the texts that a frozen text model read last.
    """

    archive: Tensor

    def __init__(self, source: Source, kind: Kind) -> None:
        super().__init__()
        name, part = source.name, source.part
        facts = facts_of(name, source.architecture, part)
        transformers = import_extra("transformers")
        config = transformers.AutoConfig.for_model(**facts["config"])
        if kind != "joint":
            config = getattr(config, f"{kind}_config", None) or config
        self.source, self.kind = source, kind
        self.model, self.absent = load_transformers(name, config, kind, part)
        self.settings = config
        layers = dict(self.model.named_modules())
        if source.layer and source.layer not in layers:
            raise ConfigError(
                f"{part}: {name!r} has no layer {source.layer!r}. {did_you_mean(source.layer, layers)}"
            )
        self.model.requires_grad_(source.trainable)
        self._auto = {"text": "AutoTokenizer", "joint": "AutoProcessor"}.get(kind, "")
        self._tool: Any = None
        self.memo = Memo(MEMO_SIZE)
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
        self.register_load_state_dict_post_hook(_after_loading)
        self.train(False)

    @property
    def tool(self) -> Any:
        """Tokenizer or processor, made from the files that travel with the weights."""
        self.check()
        if self._tool is None:
            self._tool = unpacked(self.archive, getattr(import_extra("transformers"), self._auto))
        return self._tool

    def check(self) -> None:
        """Raise :class:`ConfigError` while the weights come neither from the model itself nor from a checkpoint."""
        if self.absent:
            raise ConfigError(self.absent)

    def forward(self, **inputs: Any) -> Tensor:
        """Run the model on its own inputs and read it: (B, N, D), or a feature map (B, D, h, w)."""
        self.check()
        outputs: list[Any] = []
        handle = None
        if self.source.layer:
            layer = self.model.get_submodule(self.source.layer)
            handle = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
        try:
            with torch.set_grad_enabled(self.source.trainable and torch.is_grad_enabled()):
                output = self.model(**inputs)
        finally:
            if handle is not None:
                handle.remove()
        hidden = outputs[-1] if outputs else output.last_hidden_state
        return hidden[0] if isinstance(hidden, tuple) else hidden

    @override
    def train(self, mode: bool = True) -> Self:
        """Set training mode; a frozen model stays in evaluation mode."""
        return super().train(mode and self.source.trainable)


def _after_loading(host: Host, keys: object) -> None:
    """Drop what belongs to the weights before a checkpoint was loaded: the reason of absence, tokenizer and memo."""
    host.absent, host._tool = "", None
    host.memo.clear()
