"""Progress: which stage of its work a verb is in and how long it will take, said by any room to one display."""

from wamkit.progress.display import shown
from wamkit.progress.stages import Display, Stage, open_stages, say, showing, stage, track

__all__ = ["Display", "Stage", "open_stages", "say", "showing", "shown", "stage", "track"]
