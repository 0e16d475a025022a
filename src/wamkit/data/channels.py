"""Which pictures of a dataset are cameras: 8-bit RGB, and not depth, grey or masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def other_pictures(features: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Features of dtype ``video`` or ``image`` that are declared as something else than RGB -> what they are.

    They are no cameras: as RGB of 8 bits, a depth of 4 m would be as white as one of 1 m.
    """
    others = {}
    for key, feature in features.items():
        if feature["dtype"] not in ("video", "image"):
            continue
        facts = feature.get("info") or feature.get("video_info") or {}
        count = channels(feature)
        if facts.get("video.is_depth_map") is True or facts.get("is_depth_map") is True:
            others[key] = "a depth map"
        elif count != 3:
            others[key] = f"a picture of {count} channel{'s' * (count != 1)}"
    return others


def channels(feature: Mapping[str, Any]) -> int:
    """Number of channels of a picture, for channels first or last; 1 where the shape has two axes."""
    shape, names = list(feature["shape"]), feature.get("names")
    if len(shape) != 3:
        return 1
    axes = [str(n).lower().rstrip("s") for n in names] if isinstance(names, list) else []
    if len(axes) == 3 and any(axis in ("channel", "rgb", "c") for axis in axes):
        return int(shape[0] if axes[0] in ("channel", "rgb", "c") else shape[-1])
    return int(shape[0] if shape[0] in (1, 3) else shape[-1])
