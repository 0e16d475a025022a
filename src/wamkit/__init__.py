"""wamkit: world action models as one library."""

__version__ = "0.1.0"
