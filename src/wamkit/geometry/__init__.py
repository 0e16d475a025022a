"""Geometry: rotations, pinhole cameras and inverse kinematics, shared by every part that needs them."""
