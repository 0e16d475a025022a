"""Library class, not a part: solved tasks retrieved by visual similarity as warm starts (Agentic-VLA)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wamkit.errors import ConfigError, DataError, did_you_mean

CONTEXT, START = "context", "start."


@dataclass(frozen=True)
class Experience:
    """Solved task.

    Attributes:
        name: unique name in the store.
        context: (D,), appearance of the task, e.g. the mean of a design's context tokens.
        start: name -> tensor, starting values for a similar task: weights, an action chunk.
    """

    name: str
    context: Tensor
    start: Mapping[str, Tensor]


@final
class ExperienceStore:
    """Experiences by name, retrieved by the cosine of their contexts. Order of insertion breaks ties."""

    def __init__(self) -> None:
        self._held: dict[str, Experience] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def names(self) -> tuple[str, ...]:
        """Names, oldest first."""
        return tuple(self._held)

    def add(self, experience: Experience) -> None:
        """Store.

        Raises:
            ConfigError: the name is taken, or the context has another shape, is not finite or is all zeros.
        """
        context = experience.context
        if experience.name in self._held:
            raise ConfigError(f"experience {experience.name!r} is stored already; `remove` it first.")
        self._check(context, f"experience {experience.name!r}")
        copy = {name: value.detach().clone() for name, value in experience.start.items()}
        self._held[experience.name] = Experience(experience.name, context.detach().float().clone(), copy)

    def remove(self, name: str) -> None:
        """Delete an experience: no later retrieval can return it or any part of it."""
        if name not in self._held:
            raise ConfigError(f"no experience {name!r}. {did_you_mean(name, self._held)}")
        del self._held[name]

    def nearest(self, context: Tensor, count: int = 1) -> list[tuple[Experience, float]]:
        """Retrieve the ``count`` stored tasks most similar to ``context`` (D,), with their cosines, best first.

        An empty store returns an empty list: a cold start.
        """
        if not self._held:
            return []
        self._check(context, "the context of a query")
        held = list(self._held.values())
        stored = torch.stack([experience.context for experience in held])
        cosines = nn.functional.cosine_similarity(stored, context.float()[None], dim=1)
        order = torch.sort(cosines, descending=True, stable=True).indices.tolist()
        return [(held[i], float(cosines[i])) for i in order[:count]]

    def warm_start(self, module: nn.Module, context: Tensor, least: float = 0.0) -> str | None:
        """Load the weights of the nearest task into ``module``.

        Args:
            module: its state dict must have the names and shapes of the experience's ``start``.
            context: (D,), what the new task looks like.
            least: a task whose cosine is below this is too far away.

        Returns:
            the name of the experience, or None when nothing is near enough; ``module`` is then left as it is.
        """
        for experience, cosine in self.nearest(context):
            if cosine >= least:
                module.load_state_dict(dict(experience.start), strict=True)
                return experience.name
        return None

    def save(self, folder: str | Path) -> None:
        """Write ``store.json`` and one ``<number>.safetensors`` per experience into a new or empty folder."""
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder}: not empty; a store is written to a folder of its own.")
        folder.mkdir(parents=True, exist_ok=True)
        for i, experience in enumerate(self._held.values()):
            tensors = {CONTEXT: experience.context}
            tensors |= {START + name: value.contiguous() for name, value in experience.start.items()}
            save_file(tensors, folder / f"{i:05d}.safetensors")
        (folder / "store.json").write_text(json.dumps(list(self._held)) + "\n")

    @staticmethod
    def load(folder: str | Path) -> ExperienceStore:
        """Read what :meth:`save` wrote; raises :class:`DataError` where it is not readable."""
        folder, store = Path(folder), ExperienceStore()
        try:
            names = json.loads((folder / "store.json").read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise DataError(f"{folder}: not a readable experience store ({error}).") from error
        for i, name in enumerate(names):
            file = folder / f"{i:05d}.safetensors"
            if not file.is_file():
                raise DataError(f"{file}: missing; experience {name!r} of {folder} cannot be read.")
            tensors = load_file(file)
            start = {key[len(START) :]: value for key, value in tensors.items() if key.startswith(START)}
            store.add(Experience(name, tensors[CONTEXT], start))
        return store

    def _check(self, context: Tensor, place: str) -> None:
        width = next((e.context.shape[0] for e in self._held.values()), None)
        if context.dim() != 1 or (width is not None and context.shape[0] != width):
            raise ConfigError(
                f"{place} has a context of shape {tuple(context.shape)}; needs ({'D' if width is None else width},)."
            )
        if not bool(torch.isfinite(context).all()) or not bool(context.any()):
            raise ConfigError(f"{place}: the context must be finite and not all zeros; it has no direction.")
