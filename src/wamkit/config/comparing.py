"""Hash of a config."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from wamkit.config.decoding import encode


def config_hash(config: Any) -> str:
    """SHA-256 of a resolved config (or of its plain values) as canonical JSON."""
    values = config if isinstance(config, Mapping) else encode(config)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
