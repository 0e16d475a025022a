"""Recipes of the field's systems, by family. Importing this package registers them."""

from wamkit.zoo.systems import (
    anchors,
    imagine_features,
    imagine_geometry,
    imagine_motion,
    imagine_plans,
    imagine_streams,
    render_experts,
    render_motion,
    render_plans,
    render_streams,
)

__all__ = [
    "anchors",
    "imagine_features",
    "imagine_geometry",
    "imagine_motion",
    "imagine_plans",
    "imagine_streams",
    "render_experts",
    "render_motion",
    "render_plans",
    "render_streams",
]
