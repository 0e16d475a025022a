"""Imagination: world models rolled forward on their own predictions, and policies acting in them."""
