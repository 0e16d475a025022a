"""Imagination: world models rolled forward on what they predicted, and policies acting in them."""
