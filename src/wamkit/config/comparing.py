"""Hash of a config, and what it says beyond the defaults."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from wamkit.config.decoding import encode
from wamkit.config.values import Config


def config_hash(config: Any) -> str:
    """SHA-256 of a resolved config (or of its plain values) as canonical JSON."""
    values = config if isinstance(config, Mapping) else encode(config)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def said(config: Any) -> Any:
    """Plain values of a config without the fields that have their default, so that a new field changes nothing."""
    if isinstance(config, Config) and dataclasses.is_dataclass(config):
        kept = {
            f.name: value
            for f in dataclasses.fields(config)
            if (value := getattr(config, f.name)) != default_of(f)
        }
        named = encode(config)
        return {name: named[name] for name in ("type",) if name in named} | {
            k: said(v) for k, v in kept.items()
        }
    if isinstance(config, Mapping):
        return {key: said(entry) for key, entry in config.items()}
    return [said(entry) for entry in config] if isinstance(config, tuple | list) else encode(config)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Default of a field; ``dataclasses.MISSING`` where it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
