"""Replacement of a dataset as a whole: a reader sees the old one or the new one, whenever the writer is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wamkit.data import layout
from wamkit.errors import DataError
from wamkit.storage import claim

PARTS = {"meta", "data", "videos", "images"}  # folders of a dataset


class Replacement:
    """Folder of a dataset that is written beside its place and then put there.

    The steps of replacing are: ``<root>`` becomes ``<root>.replaced``, ``<root>.partial`` becomes ``<root>``, and
    ``<root>.replaced`` is removed. A process that is killed in between is caught up with by the next one.

    Args:
        root: place of the dataset; a link stands for what it points to.
        overwrite: true to replace a dataset that is there.

    Attributes:
        partial: folder to write to.

    Raises:
        DataError: ``root`` cannot be a folder.
    """

    def __init__(self, root: Path, overwrite: bool) -> None:
        self._name, self._overwrite = root, overwrite
        self._root = Path(os.path.realpath(root))
        if not self._root.name:
            raise DataError(f"{root} is the root of the file system. Choose a folder inside it.")
        above = next(parent for parent in self._root.parents if parent.exists())
        if not above.is_dir():
            raise DataError(f"{root}: {above} is a file, not a folder. Choose another folder.")
        self.partial = self._root.with_name(self._root.name + ".partial")
        self._replaced = self._root.with_name(self._root.name + ".replaced")

    def check(self) -> None:
        """Raise :class:`DataError` when something is at the root that may not be replaced."""
        if not self._root.exists():
            return
        if not self._overwrite:
            raise DataError(
                f"{self._name} exists. Choose another folder, or pass overwrite=True to replace it."
            )
        if not (self._root / layout.INFO).is_file():
            raise DataError(
                f"{self._name} exists and is not a dataset (no {layout.INFO}), so it is not overwritten. "
                f"Choose another folder."
            )

    @contextmanager
    def begin(self, resumes: Callable[[Path], bool] = lambda partial: False) -> Iterator[None]:
        """Hold the place, bring what a killed process left in order, and make :attr:`partial`.

        It is removed at the end of the context unless :meth:`finish` has put it in place.

        Args:
            resumes: true for an unfinished folder that the caller goes on with. Such a one is kept, at the beginning
                and at the end; without it, :attr:`partial` is empty.

        Raises:
            BusyError: another process holds the place.
            DataError: something is in the way.
        """
        with claim(self._root):
            self._recover(resumes)
            self.check()
            self.partial.mkdir(parents=True, exist_ok=True)
            try:
                yield
            finally:
                if self.partial.exists() and not resumes(self.partial):
                    shutil.rmtree(self.partial)

    def finish(self) -> None:
        """Put :attr:`partial` in place of what is at the root."""
        self.check()
        if self._root.exists():
            self._root.rename(self._replaced)
        try:
            self.partial.rename(self._root)
        except OSError:
            if self._replaced.exists():
                self._replaced.rename(self._root)
            raise
        if self._replaced.exists():
            _remove(self._replaced)

    def _recover(self, resumes: Callable[[Path], bool]) -> None:
        """Complete or undo a replacement that was killed half way, and remove an unfinished recording."""
        for left in (self.partial, self._replaced):
            if left.is_symlink() or (left.exists() and not _of_a_dataset(left)):
                raise DataError(
                    f"{left} is in the way: a recording to {self._name} needs this name, and it is no interrupted "
                    f"recording. Move it, or choose another folder."
                )
        if self._replaced.exists() and not self._root.exists():
            complete = (self.partial / layout.INFO).is_file()  # written last
            (self.partial if complete else self._replaced).rename(self._root)
        for left in (self._replaced, self.partial):
            if left.exists() and not (left == self.partial and resumes(left)):
                _remove(left)


def _of_a_dataset(folder: Path) -> bool:
    """Whether a folder is a dataset, or what is left of one that was being written or removed."""
    return folder.is_dir() and (
        (folder / layout.INFO).is_file() or {path.name for path in folder.iterdir()} <= PARTS
    )


def _remove(folder: Path) -> None:
    """Remove a dataset so that :func:`_of_a_dataset` knows the rest of it at any moment: its ``meta`` goes last."""
    for path in sorted(folder.iterdir(), key=lambda path: (path.name in PARTS, path.name == "meta")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    folder.rmdir()
