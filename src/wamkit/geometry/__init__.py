"""Geometry: rotations, cameras, rigid fits, paths of poses and inverse kinematics, shared by every part."""
