"""Where a training starts: fresh weights, a checkpoint's, or its own newest checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from wamkit.contract.protocols import DataSpec
from wamkit.contract.specs import require_same
from wamkit.design import Design
from wamkit.design.checkpoint import find_checkpoint, from_pretrained, read_data, read_facts, resize_buffers
from wamkit.errors import ConfigError
from wamkit.training.selection import select


def inherit(data: DataSpec, name: str) -> DataSpec:
    """A dataset as a design sees it that starts from the checkpoint ``name``: with that checkpoint's statistics.

    Its weights know values as they were normalised for them, whatever the new dataset's statistics are.

    Raises:
        SpecError: the conventions of the two differ.
    """
    theirs = read_data(read_facts(find_checkpoint(name)), f"checkpoint {name}")
    require_same(theirs.observation, data.observation, f"checkpoint {name}", "the dataset")
    require_same(theirs.action, data.action, f"checkpoint {name}", "the dataset")
    return dataclasses.replace(data, stats={**data.stats, **theirs.stats})


def initialise(design: Design, name: str, fresh: Sequence[str] = ()) -> None:
    """Take over the weights (codecs included) of a checkpoint.

    Args:
        design: built for :func:`inherit`'s data.
        name: checkpoint folder or hub id.
        fresh: patterns of :func:`wamkit.training.selection.select`: exactly the tensors that the checkpoint lacks.
            They stay as they were built.

    Raises:
        ConfigError: the checkpoint lacks something else, has something more, or a shape differs.
    """
    source, ours = from_pretrained(name).state_dict(), design.state_dict()
    declared = select(ours, fresh, "fresh")
    for wrong, problem in (
        (source.keys() - ours.keys(), "is in the checkpoint and not in `design`"),
        (declared & source.keys(), "is in the checkpoint, so it cannot be `fresh`"),
        (ours.keys() - source.keys() - declared, "is in `design` and not in the checkpoint"),
    ):
        if wrong:
            raise ConfigError(
                f"pretrained {name}: its parts differ from `design`: {min(wrong)!r} {problem} ({len(wrong)} tensors "
                f"in all). Name in `fresh` what the checkpoint lacks and nothing else, or start without `pretrained`."
            )
    parameters = dict(design.named_parameters(remove_duplicate=False))
    for key, value in source.items():
        if key in parameters and value.shape != ours[key].shape:
            raise ConfigError(
                f"pretrained {name}: {key!r} has the shape {tuple(value.shape)} there and {tuple(ours[key].shape)} in "
                f"`design`. Give the part the sizes that it was trained with."
            )
    resize_buffers(design, source)
    design.load_state_dict(source, strict=False)
