"""Oracles of world models: what follows from an action, step by step; inferred states; inputs in the middle."""

from __future__ import annotations
