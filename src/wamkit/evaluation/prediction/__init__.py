"""Prediction quality: predicted futures against recordings, and their correlation with task success."""
