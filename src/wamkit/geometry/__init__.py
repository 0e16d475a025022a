"""Geometry: rotations and pinhole cameras, shared by all parts."""
