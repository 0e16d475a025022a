"""Store of solved tasks for warm starts (Agentic-VLA): a library class, not a part that a config names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wamkit.errors import ConfigError, DataError, did_you_mean, reason
from wamkit.storage import read_text, write_atomically

COPY_AGAIN = "Copy the store again."
CONTEXT, START = "context", "start."


@dataclass(frozen=True)
class Experience:
    """A solved task.

    Attributes:
        name: unique name in the store.
        context: (D,), descriptor of the task, such as the mean of a design's context tokens.
        start: name -> tensor, initial values for similar tasks, such as weights or an action chunk.
    """

    name: str
    context: Tensor
    start: Mapping[str, Tensor]


@final
class ExperienceStore:
    """Experiences by name, retrieved by the cosine similarity of their contexts; ties go to the oldest."""

    def __init__(self) -> None:
        self._experiences: dict[str, Experience] = {}

    def __len__(self) -> int:
        return len(self._experiences)

    @property
    def names(self) -> tuple[str, ...]:
        """Names, oldest first."""
        return tuple(self._experiences)

    def add(self, experience: Experience) -> None:
        """Store a copy of an experience.

        Raises:
            ConfigError: the name is taken, or the context has another shape, is not finite or is all zeros.
        """
        context = experience.context
        if experience.name in self._experiences:
            raise ConfigError(f"experience {experience.name!r} is stored already; `remove` it first.")
        self._check(context, f"experience {experience.name!r}")
        start = {name: value.detach().clone() for name, value in experience.start.items()}
        stored = Experience(experience.name, context.detach().float().clone(), start)
        self._experiences[experience.name] = stored

    def remove(self, name: str) -> None:
        """Delete an experience; raises :class:`ConfigError` when there is none of that name."""
        if name not in self._experiences:
            raise ConfigError(f"no experience {name!r}. {did_you_mean(name, self._experiences)}")
        del self._experiences[name]

    def nearest(self, context: Tensor, count: int = 1) -> list[tuple[Experience, float]]:
        """The ``count`` experiences most similar to ``context`` (D,), with their cosine similarities, best first.

        The list is empty while the store is empty.
        """
        if not self._experiences:
            return []
        self._check(context, "the context of a query")
        experiences = list(self._experiences.values())
        contexts = torch.stack([experience.context for experience in experiences])
        cosines = nn.functional.cosine_similarity(contexts, context.float()[None], dim=1)
        order = torch.sort(cosines, descending=True, stable=True).indices.tolist()
        return [(experiences[i], float(cosines[i])) for i in order[:count]]

    def warm_start(self, module: nn.Module, context: Tensor, least: float = 0.0) -> str | None:
        """Load the weights of the most similar experience into ``module``.

        Args:
            module: module whose state dict has the names and shapes of the experience's ``start``.
            context: (D,), descriptor of the new task.
            least: smallest cosine similarity at which an experience is used.

        Returns:
            the name of the experience, or None when none is similar enough; ``module`` is then unchanged.
        """
        for experience, cosine in self.nearest(context):
            if cosine >= least:
                try:
                    module.load_state_dict(dict(experience.start), strict=True)
                except RuntimeError as error:
                    found = str(error).splitlines()[-1].strip()
                    raise ConfigError(
                        f"experience {experience.name!r} does not fit the module: {found} "
                        f"Keep experiences of one architecture in a store."
                    ) from error
                return experience.name
        return None

    def save(self, folder: str | Path) -> None:
        """Write ``store.json`` and one ``<number>.safetensors`` per experience into a new or empty folder.

        Raises:
            DataError: the folder is not empty.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder}: not empty; a store is written to a folder of its own.")
        folder.mkdir(parents=True, exist_ok=True)
        for i, experience in enumerate(self._experiences.values()):
            tensors = {CONTEXT: experience.context}
            tensors |= {START + name: value.contiguous() for name, value in experience.start.items()}
            save_file(tensors, folder / f"{i:05d}.safetensors")
        # Last, so that a store whose saving was interrupted is not taken for a whole one.
        write_atomically(folder / "store.json", (json.dumps(list(self._experiences)) + "\n").encode())

    @staticmethod
    def load(folder: str | Path) -> ExperienceStore:
        """Read a store that :meth:`save` wrote; raises :class:`DataError` when it is unreadable or incomplete."""
        folder, store = Path(folder), ExperienceStore()
        index = folder / "store.json"
        try:
            names = json.loads(read_text(index, COPY_AGAIN))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{index}: not JSON ({error}). {COPY_AGAIN}") from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{index}: not a list of names. {COPY_AGAIN}")
        for i, name in enumerate(names):
            file = folder / f"{i:05d}.safetensors"
            if not file.is_file():
                raise DataError(
                    f"{file}: missing; experience {name!r} of {folder} cannot be read. {COPY_AGAIN}"
                )
            try:
                tensors = load_file(file)
            except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
                raise DataError(f"{file}: cannot be read ({reason(error)}). {COPY_AGAIN}") from error
            if CONTEXT not in tensors:
                raise DataError(f"{file}: holds no {CONTEXT!r}, so it is no experience. {COPY_AGAIN}")
            start = {key[len(START) :]: value for key, value in tensors.items() if key.startswith(START)}
            try:
                store.add(Experience(name, tensors[CONTEXT], start))
            except ConfigError as error:
                raise DataError(f"{file}: {error} {COPY_AGAIN}") from error
        return store

    def _check(self, context: Tensor, place: str) -> None:
        width = next((e.context.shape[0] for e in self._experiences.values()), None)
        if context.dim() != 1 or (width is not None and context.shape[0] != width):
            raise ConfigError(
                f"{place} has a context of shape {tuple(context.shape)}; it must be "
                f"({'D' if width is None else width},)."
            )
        if not bool(torch.isfinite(context).all()) or not bool(context.any()):
            raise ConfigError(
                f"{place}: the context must be finite and not all zeros, otherwise it has no direction."
            )
