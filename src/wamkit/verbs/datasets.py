"""Datasets checked and shown: what ``wamkit data check`` and ``wamkit data show`` do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from wamkit.data import faults
from wamkit.data.contents import Contents
from wamkit.data.findings import Checked, check_contents
from wamkit.data.survey import survey, windows
from wamkit.errors import ConfigError, MissingExtraError, SpecError
from wamkit.evaluation.output.dataset import Reading, Shown, thumbnails
from wamkit.evaluation.output.pages import require_plots, write_dataset_page
from wamkit.storage.output import Result, output
from wamkit.verbs.load import load
from wamkit.verbs.report import is_page
from wamkit.zoo import recipe as recipe_named


def check_dataset(root: Path | str, decode: bool = False) -> Checked:
    """Find every fault of a dataset. Of faults of one kind in one episode and feature, the first frame is named.

    Args:
        root: the dataset folder.
        decode: true to decode every picture as well: damage inside a video shows only then.

    Raises:
        ConfigError: there is no such folder.
    """
    return check_contents(_contents(Path(root)), decode)


def show_dataset(
    root: Path | str, out: Path | None = None, recipe: str = "joint", overwrite: bool = False
) -> Shown:
    """Survey a dataset, and write one page about it. Only the pictures on the page are decoded.

    Args:
        root: the dataset folder.
        out: output file; None to write none.
        recipe: name of the recipe whose windows are counted.
        overwrite: true to replace a page at ``out``.

    Returns:
        the figures of the page; of a dataset with faults, those alone.

    Raises:
        ConfigError: no such folder or recipe, or ``out`` holds a page already or something else.
    """
    root = Path(root)
    recipe_named(recipe)  # a wrong name is told before any work
    _contents(root)
    if out is None:
        return _survey(root, recipe, pictures=False)
    require_plots()
    result = Result(out, "data show", whole_folder=False, ours=is_page)
    with output(result, {"dataset": str(root.resolve()), "recipe": recipe}, overwrite):
        shown = _survey(root, recipe, pictures=True)
        write_dataset_page(shown, out)
    return shown


def _contents(root: Path) -> Contents:
    if not root.is_dir():
        raise ConfigError(
            f"{root}: no such folder. Name the folder of a dataset, which holds meta/info.json."
        )
    return Contents(root, extras=None)


def _survey(root: Path, recipe: str, pictures: bool) -> Shown:
    contents = _contents(root)
    checked = check_contents(contents)
    if checked.faults:
        return Shown(checked)
    shown = Shown(checked, survey(contents), _reading(root, recipe, contents))
    if not pictures:
        return shown
    with faults.collecting(root) as found:
        shown = dataclasses.replace(shown, thumbnails=thumbnails(contents))
    checked = dataclasses.replace(checked, faults=tuple(found.faults))
    return dataclasses.replace(shown, checked=checked)


def _reading(root: Path, recipe: str, contents: Contents) -> Reading:
    """What a design of the recipe would read of the dataset, or why none can be built for it."""
    observation, action = contents.specs
    try:
        window = load(recipe, root).training_window
    except (ConfigError, SpecError, MissingExtraError) as error:
        return Reading(recipe, observation, action, None, None, str(error))
    counted = windows([len(episode) for episode in contents.episodes], window)
    return Reading(recipe, observation, action, window, counted)
