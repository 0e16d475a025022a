"""Oracles of objectives: imitation, teachers and their alignment."""

from __future__ import annotations

import torch
from cases import Case
from torch import Tensor

from gates import moved_steps, sharpen
from oracles.language import language_trunk
from oracles.registry import oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Batch
from wamkit.design import Design
from wamkit.substrates import TeacherFeatureConfig
from wamkit.training import OptimConfig

STEPS = 25


def fitted(case: Case, design: Design, batch: Batch, steps: int = STEPS) -> list[dict[str, float]]:
    """Losses per stream while a design is trained on one batch, with the same noise at every step."""
    optimizer = OptimConfig(lr=2e-3).build(design)
    design.train()
    losses = []
    for _ in range(steps):
        torch.manual_seed(0)
        made = design.loss(batch)
        losses.append({name: term.item() for name, term in made.terms.items()})
        optimizer.zero_grad()
        made.total.backward()
        optimizer.step()
        design.after_step()
    return losses


@oracle("pt.imitation")
def imitation(case: Case) -> None:
    """The loss falls towards the expert's chunks, and then another chunk is less likely than the expert's."""
    design = case.untrained()
    batch = case.batch(range(0, 24, 6), design)
    losses = [step[ACTION] for step in fitted(case, design, batch)]
    assert losses[-1] < 0.8 * losses[0], losses
    torch.manual_seed(0)
    expert = design.loss(batch).terms[ACTION].item()
    other = Batch(**{**vars(batch), "action": -batch.action.flip(0)})
    torch.manual_seed(0)
    assert design.loss(other).terms[ACTION].item() > expert, "another chunk is as likely as the expert's"
    spec = design.streams[ACTION]
    action = design.action.encode(batch.action[:, -case.config.horizon :])
    assert bool(spec.vocabulary) != action.is_floating_point()


def taught(case: Case) -> list[str]:
    """Futures and goals in the features of a teacher."""
    design = case.design
    names = [
        n
        for n in (*case.futures(), *case.config.goals)
        if design.substrate(n).category == "feature" and design.substrate(n).variant != "VLM token"
    ]
    assert names, "no future in the features of a teacher"
    return names


def frozen(part: torch.nn.Module) -> dict[str, Tensor]:
    """Copies of all weights of a part."""
    return {name: value.clone() for name, value in part.state_dict().items()}


@oracle("ps.teacher-feature")
def teacher_feature(case: Case) -> None:
    """The teacher's weights are bit-identical before and after training, no gradient reaches it, and its view moves."""
    names = taught(case)
    design = case.untrained()
    for name in names:
        part = design.substrate(name)
        before = frozen(part)
        design.train()
        design.loss(case.batch(design=design)).total.backward()
        assert all(p.grad is None for p in part.parameters()), "a gradient reaches the teacher"
        assert not any(p.requires_grad for p in part.parameters())
        assert all(torch.equal(before[k], v) for k, v in part.state_dict().items())
        design.eval()
        if not part.moving:
            after = case.design.substrate(name).state_dict()
            assert all(torch.equal(before[k], v) for k, v in after.items()), "training moved the teacher"
    batch = case.batch(range(0, 28, 4), design)
    targets = design.targets(batch)
    for name in names:
        values = targets[name].values
        assert torch.equal(values, design.targets(batch)[name].values)
        same = name in case.config.goals  # the frames of an episode share its goal
        assert same or float(values.std(dim=0).mean()) > 1e-3, "the teacher sees the same everywhere"
        assert not design.substrate(name).decodable


@oracle("pt.teacher-align")
def teacher_align(case: Case) -> None:
    """The alignment improves in training and the action's loss does not suffer; the action reads the aligned tokens."""
    names = [n for n in taught(case) if n in case.futures()]
    design = case.untrained()
    losses = fitted(case, design, case.batch(range(0, 24, 6), design))
    for name in names:
        assert losses[-1][name] < losses[0][name], (name, losses[0][name], losses[-1][name])
    assert losses[-1][ACTION] < losses[0][ACTION]
    tried = sharpen(case.untrained())
    assert any(moved_steps(tried, case.cut(tried.window))), "the aligned tokens do not reach the action"
    for name in names:
        config = case.config.substrates[case.config.substrate_of(name)]
        if isinstance(config, TeacherFeatureConfig) and len(config.teachers) > 1:
            own_projections(case, name, len(config.teachers))


def own_projections(case: Case, name: str, teachers: int) -> None:
    """Features of one teacher do not change with another teacher's weights."""
    design = case.untrained()
    part, batch = design.substrate(name), case.batch(design=design)
    before = design.targets(batch)[name].values
    with torch.no_grad():
        for parameter in part.teacher.parameters():
            parameter.add_(0.5)
    after = design.targets(batch)[name].values
    side = part.config.grid**2
    groups = [
        (before - after).abs().unflatten(2, (-1, teachers, side))[:, :, :, i].sum() for i in range(teachers)
    ]
    assert float(groups[0]) > 0
    assert all(float(g) == 0 for g in groups[1:]), "the teachers share a projection"


@oracle("pt.staged-hybrid")
def staged_hybrid(case: Case) -> None:
    """Action tokens train the language model; the continuous expert learns and leaves no gradient in it."""
    design = case.untrained()
    tokens = [n for n in design.graph.of_role("action") if n != ACTION and design.streams[n].vocabulary]
    assert tokens, "no second action stream of tokens"
    assert design.streams[ACTION].vocabulary is None, "no continuous expert"
    trunk = language_trunk(case, design)
    reached = {stream: reach(case, design, trunk.model, stream) for stream in (*tokens, ACTION)}
    assert reached[ACTION] == 0, "the expert's gradient reaches the model"
    assert all(reached[name] > 0 for name in tokens), "the tokens do not train the model"
    assert reach(case, design, trunk.layers, ACTION) > 0, "the expert does not learn"
    made = design.sample(case.cut(design.window), [ACTION], seeds=[1])
    assert not set(tokens) & set(made.nfe), "the tokens are written when acting"


def reach(case: Case, design: Design, part: torch.nn.Module, stream: str) -> float:
    """Sum of the gradients that the loss of one stream leaves in a part."""
    design.zero_grad()
    design.train()
    torch.manual_seed(0)
    design.loss(case.batch(design=design)).terms[stream].backward()
    found = sum(p.grad.abs().sum().item() for p in part.parameters() if p.grad is not None)
    design.eval()
    return found
