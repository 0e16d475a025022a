"""Episodes on disk (LeRobotDataset) and windows of them as batches, and conversion between layouts."""

from wamkit.data.dataset import Dataset
from wamkit.data.episode import Episode
from wamkit.data.files import Storage
from wamkit.data.loader import Batches
from wamkit.data.rebuild import rebuild_stats
from wamkit.data.spec import data_spec
from wamkit.data.stats import FeatureStats
from wamkit.data.writer import DatasetWriter

__all__ = [
    "Batches",
    "Dataset",
    "DatasetWriter",
    "Episode",
    "FeatureStats",
    "Storage",
    "data_spec",
    "rebuild_stats",
]
