"""Prediction beside control: how well futures are predicted, and whether that tells success."""
