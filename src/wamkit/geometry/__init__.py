"""Geometry: rotations and pinhole cameras, shared by every part that needs them."""
