"""Verb ``board``: all trainings of a folder on one page."""

from __future__ import annotations

from pathlib import Path

from wamkit.errors import ConfigError
from wamkit.evaluation.output.board import find_runs
from wamkit.evaluation.output.pages import require_plots, write_board_page
from wamkit.progress import shown, stage
from wamkit.storage.output import ELSEWHERE, require_place

BOARD_FILE = "board.html"
MARK = b"<!-- wamkit board -->"


def board(runs: Path, out: Path | None = None, progress: bool = True) -> Path:
    """Write one page of all trainings below the folder ``runs``; returns the page.

    A page of an earlier call is replaced: it holds nothing that is not in the runs.

    Args:
        runs: folder that holds the folders of trainings, at any depth.
        out: file of the page; ``board.html`` in ``runs`` by default.
        progress: true to show progress.

    Raises:
        ConfigError: ``out`` is something else, or cannot be written.
        DataError: ``runs`` is no folder.
    """
    require_plots()
    page = runs / BOARD_FILE if out is None else out
    require_place(page, folder=False)
    if page.exists() and MARK not in page.read_bytes():
        raise ConfigError(f"{page} is no page of `wamkit board`, so it is not replaced. {ELSEWHERE}.")
    with shown("board", progress):
        with stage("read runs"):
            found, notes = find_runs(runs)
        with stage("draw"):
            write_board_page(found, notes, str(runs), page)
    return page
