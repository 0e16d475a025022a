"""Oracle of learning from video without actions."""

from __future__ import annotations

from dataclasses import replace

import torch
from cases import Case
from torch import Tensor

from gates import trained_together
from oracles.drawing import graded
from oracles.registry import oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Batch
from wamkit.design import Design


@oracle("pt.video-cotrain")
def video_cotrain(case: Case) -> None:
    """Clips without actions teach the future and what acts on it, teach the action nothing, and are not read for it."""
    design = case.untrained().train()
    whole = case.batch(design=design)
    clips = replace(whole, action_pad=torch.ones_like(whole.action_pad))
    futures = sorted(design.graph.of_role("future"))
    assert futures, "no future to learn from a clip"
    taught = graded(design, summed(design, clips, futures))
    assert taught, "a clip without actions teaches nothing"
    assert not graded(design, summed(design, clips, [ACTION])), "a clip without actions teaches the action"
    acts, foresees = (graded(design, summed(design, whole, names)) for names in ([ACTION], futures))
    heads = {n for n in acts - foresees if n.startswith(("estimators.", "trunks."))}
    assert heads, "the action has no weights of its own"
    assert not taught & heads, f"clips change the action's own weights: {sorted(taught & heads)[:3]}"
    loud = replace(clips, action=clips.action + 7.0)
    assert torch.equal(*(summed(design, batch, futures) for batch in (clips, loud))), (
        "a missing action is read"
    )
    predicted = design.graph.ancestors([ACTION]) & {*futures, *design.graph.tapped()}
    assert predicted or trained_together(design, whole), "what clips teach is no part of what acts"
    muted = design.loss(clips, dict.fromkeys(futures, 0.0)).total
    assert not muted.requires_grad or not graded(design, muted), "clips cannot be switched off"


def summed(design: Design, batch: Batch, names: list[str]) -> Tensor:
    """Sum of the losses of streams on a batch, with the same draws every time."""
    torch.manual_seed(0)
    terms = design.loss(batch).terms
    return torch.stack([terms[name] for name in names]).sum()
