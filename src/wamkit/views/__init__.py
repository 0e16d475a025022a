"""Views: how a design sees the data of a robot, and how its actions become the robot's."""

from wamkit.views.config import Declared, RangeView, RotationView, ViewConfig
from wamkit.views.description import describe_view
from wamkit.views.view import View

__all__ = ["Declared", "RangeView", "RotationView", "View", "ViewConfig", "describe_view"]
