"""World models of one kind that share their blocks: what one does and its neighbour does not, by experiment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import Case
from oracles.worlds import led, made, moved
from torch import Tensor
from zoo_recordings import case_of

from gates import sharpen
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Observation
from wamkit.encoders import MaskedEncoder
from wamkit.errors import BudgetError

pytestmark = pytest.mark.sim


def predicted(case: Case, change: Callable[[Observation], Observation]) -> bool:
    """True when a change of what is observed changes the futures."""
    design, names = sharpen(case.untrained()), case.futures()
    seen = case.cut(design.window)
    first, second = made(case, design, seen, names), made(case, design, change(seen), names)
    return any(not torch.equal(first[n], second[n]) for n in names)


def hides_in_training(case: Case) -> bool:
    """Some of what is observed is padding in training."""
    design = case.untrained()
    design.train()
    caches = design.encode_context(case.cut(design.window))
    return any(bool(cache.pad.any()) for cache in caches.values())


def counts_what_is_hidden_alone(case: Case) -> bool:
    """Another target at the visible tokens leaves the loss as it is."""
    design = case.untrained()
    design.train()
    batch = case.batch(range(10, 14), design)
    masked = next(e for e in design.encoders.values() if isinstance(e, MaskedEncoder))
    hidden = masked.draw(4, torch.device("cpu"))
    masked.draw = lambda *_: hidden  # type: ignore[method-assign]
    inner, losses = design.targets, []
    for shift in (0.0, 5.0):
        targets = dict(inner(batch))
        for name, target in targets.items():
            seen = ~hidden.flatten(1).repeat(1, target.values.shape[2] // hidden[0].numel())
            targets[name] = replace(target, values=target.values + shift * seen[:, None, :, None])
        design.targets = lambda _, found=targets: found  # type: ignore[method-assign, misc]
        torch.manual_seed(0)
        losses.append(design.loss(batch).total.item())
    return losses[0] == losses[1]


def reads_an_earlier_frame(case: Case) -> bool:
    """The frame before "now" changes the futures."""

    def earlier(seen: Observation) -> Observation:
        if seen.pad.shape[1] == 1:
            return seen
        images = {k: torch.cat((255 - v[:, :-1], v[:, -1:]), dim=1) for k, v in seen.images.items()}
        return replace(seen, images=images)

    return predicted(case, earlier)


def reads_the_picture(case: Case) -> bool:
    """The observed picture changes the futures."""
    return predicted(case, lambda seen: replace(seen, images={k: 255 - v for k, v in seen.images.items()}))


def reads_the_order_of_phrases(case: Case) -> bool:
    """The same phrases in another order are another instruction."""
    design, names = sharpen(case.untrained()), case.futures()
    seen = case.cut(design.window)
    first, second = (
        made(case, design, replace(seen, task=(text,)), names)
        for text in ("press the button, lift the arm", "lift the arm, press the button")
    )
    # The order of the tokens decides how sums are rounded.
    return any(not torch.allclose(first[n], second[n], atol=1e-3, rtol=1e-3) for n in names)


def hidden_frames(case: Case, layers: int | None, change: int) -> tuple[Tensor, Tensor]:
    """Hidden tokens (frames, tokens, width) of a clip before and after another last frame, up to a layer."""
    design = case.untrained()
    spec = design.streams["future"]
    trunk = design.trunks[case.config.estimators[design.graph.factor_of("future").estimator].trunk or ""]
    clip = torch.randn(1, spec.length, trunk.width, generator=torch.Generator().manual_seed(0))
    other = clip.clone()
    other[:, -spec.tokens :] = torch.randn(
        1, spec.tokens, trunk.width, generator=torch.Generator().manual_seed(change)
    )
    layout = [("future", spec.length)]
    first, second = (trunk(some, layout=layout, layers=layers)[0] for some in (clip, other))
    return first[0].unflatten(0, (spec.steps, -1)), second[0].unflatten(0, (spec.steps, -1))


def begins_within_frames(case: Case) -> bool:
    """In the first layer a frame does not read another one."""
    first, second = hidden_frames(case, 1, 1)
    return torch.equal(first[0], second[0])


def starts_as_single_frames(case: Case) -> bool:
    """Before training, no layer lets a frame read another one."""
    first, second = hidden_frames(case, None, 1)
    return torch.equal(first[0], second[0])


def trains_the_image_model(case: Case) -> bool:
    """The loss reaches the first layer of the trunk."""
    design = case.untrained()
    design.train()
    design.loss(case.batch(design=design)).total.backward()
    first = design.trunks["main"].blocks[0]
    return any(p.grad is not None and bool(p.grad.any()) for p in first.parameters())


def joins_shallow_and_deep_layers(case: Case) -> bool:
    """Weights that the loss trains carry the first layers' tokens past those between."""
    design = case.untrained()
    design.train()
    design.loss(case.batch(design=design)).total.backward()
    return any(
        ".skips." in n and p.grad is not None and bool(p.grad.any()) for n, p in design.named_parameters()
    )


def reads_all_actions_in_a_frame(case: Case) -> bool:
    """In the first layer, the first frame reads the last action."""
    design = case.untrained()
    trunk, action, future = design.trunks["main"], design.streams[ACTION], design.streams["future"]
    source = torch.Generator().manual_seed(0)
    known = torch.randn(1, action.length, trunk.width, generator=source)
    clip = torch.randn(1, future.length, trunk.width, generator=source)
    other = known.clone()
    other[:, -1] = -known[:, -1]
    shown = []
    for some in (known, other):
        cache = trunk(some, layout=[(ACTION, action.length)], layers=1)[1]
        shown.append(trunk(clip, cache=cache, layout=[("future", future.length)], layers=1)[0])
    return not torch.equal(shown[0][:, : future.tokens], shown[1][:, : future.tokens])


def follows_an_action(case: Case) -> bool:
    """Another action, another future."""
    design = sharpen(case.untrained())
    if ACTION not in design.streams:
        return False
    futures = led(case, design)[ACTION]
    seen = case.cut(design.window)
    first, second = (made(case, design, seen, futures, {ACTION: moved(design, ACTION, k)}) for k in (1, 2))
    return any(not torch.equal(first[n], second[n]) for n in futures)


def shaped_by(source: str, name: str) -> Callable[[Case], bool]:
    """Whether another value of one future changes another one."""

    def holds(case: Case) -> bool:
        design = sharpen(case.untrained())
        seen = case.cut(design.window)
        if source not in design.streams:
            return False
        try:
            first, second = (
                made(case, design, seen, [name], {source: moved(design, source, k)})[name] for k in (1, 2)
            )
        except BudgetError:  # said before any work: the one is sampled without reading the other
            return False
        return not torch.equal(first, second)

    holds.__name__ = f"{name}_follows_{source}"
    return holds


def opens_to_maps(case: Case) -> bool:
    """Maps change nothing of the video at first, and do when the gates of their branch open."""
    design, seen, shaped = sharpen(case.untrained()), case.cut(case.design.window), []
    if "labels" not in design.streams:
        return False
    for opened_by in (0.0, 0.5):
        with torch.no_grad():
            for name, parameter in design.named_parameters():
                if name.endswith(".gate"):
                    parameter.fill_(opened_by)
        given = [{n: moved(design, n, k) for n in ("labels", "depth")} for k in (1, 2)]
        first, second = (made(case, design, seen, ["future"], some)["future"] for some in given)
        shaped.append(not torch.equal(first, second))
    return shaped == [False, True]


def judges_frames(case: Case) -> bool:
    """A value follows from the predicted frames."""
    return "value" in case.futures() and shaped_by("future", "value")(case)


def puts_motion_first(case: Case) -> bool:
    """Motion comes before the frames: it shapes them, and they do not shape it."""
    (motion,) = [n for n in case.futures() if n in ("flow", "points")]
    return shaped_by(motion, "future")(case) and not shaped_by("future", motion)(case)


def searches(case: Case) -> bool:
    """A call compares candidates."""
    design = case.untrained()
    seen = case.cut(design.window)
    forecast, _ = design.forecast(seen, design.initial_state(1), design.config.budget, [1])
    return forecast.costs is not None


def passes_before_features(case: Case) -> list[int | None]:
    """Layers that each pass over the clip runs before its features are read."""
    design = case.untrained()
    part = case.config.estimators[design.graph.factor_of("tap").estimator]
    trunk, runs = design.trunks[part.trunk or ""], []
    inner = trunk.forward

    def counted(tokens: Tensor, *, layout: Any = (), layers: int | None = None, **more: Any) -> Any:
        if layout:
            runs.append(layers)
        return inner(tokens, layout=layout, layers=layers, **more)

    trunk.forward = counted  # type: ignore[method-assign]
    found = design.sample(case.cut(design.window), ["depth"], seeds=[1])
    assert "future" not in found.nfe, "the whole clip was generated for its features"
    return runs


def test_video_models_are_opened_at_different_places(folder: Path) -> None:
    names = ("Stable Video Diffusion (SVD)", "Cosmos-Predict2.5")
    assert [passes_before_features(case_of(name, folder)) for name in names] == [[1], [None, 1]]


PAIRS = [
    ("I-JEPA", "JEPA", hides_in_training),
    ("V-JEPA", "I-JEPA", reads_an_earlier_frame),
    ("V-JEPA", "V-JEPA 2.1", counts_what_is_hidden_alone),
    ("V-JEPA 2", "V-JEPA", follows_an_action),
    ("Wan2.1-14B", "Wan", reads_the_picture),
    ("Cosmos-Predict2", "Wan2.1-14B", reads_an_earlier_frame),
    ("Latte", "Wan", begins_within_frames),
    ("AnimateDiff", "Latte", starts_as_single_frames),
    ("Stable Video Diffusion (SVD)", "Cosmos-Predict2.5", begins_within_frames),
    ("Latte", "AnimateDiff", trains_the_image_model),
    ("Vidu", "Wan", joins_shallow_and_deep_layers),
    ("Latte", "CogVideoX", begins_within_frames),
    ("AnimateDiff", "CogVideoX", starts_as_single_frames),
    ("Sora", "RoboDreamer", reads_the_order_of_phrases),
    ("Veo / Veo3", "Sora 2", shaped_by("sound", "future")),
    ("World Foundation Model (WFM)", "GE-Base", follows_an_action),
    ("World Foundation Model (WFM)", "IRASim", reads_all_actions_in_a_frame),
    ("DreamDojo", "AdaWorld", follows_an_action),
    ("Cosmos-Transfer1", "World Foundation Model (WFM)", opens_to_maps),
    ("1X World Model (1XWM)", "World Foundation Model (WFM)", judges_frames),
    ("FlowDreamer", "RoboScape", puts_motion_first),
    ("RoboScape", "PhysWorld", shaped_by("depth", "future")),
    ("PlaNet", "DreamerV3", searches),
]


@pytest.mark.parametrize(
    ("name", "other", "holds"), PAIRS, ids=[f"{a}-{b}-{holds.__name__}" for a, b, holds in PAIRS]
)
def test_neighbours_differ(name: str, other: str, holds: Callable[[Case], bool], folder: Path) -> None:
    assert holds(case_of(name, folder))
    assert not holds(case_of(other, folder))


def test_latents_of_a_frame_are_as_many_as_the_compression_leaves(folder: Path) -> None:
    names = ("Wan2.1-14B", "Wan2.2-5B", "LTX-Video-2B")
    tokens = [case_of(name, folder).untrained().streams["future"].tokens for name in names]
    assert tokens == [32, 8, 2]  # of two views
