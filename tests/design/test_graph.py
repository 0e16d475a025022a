"""What follows from a factorisation: formula, coupling, backbone, WAM status, and every refusal."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.contract.planning import Objective
from wamkit.contract.streams import Role
from wamkit.design.facts import EstimatorFacts
from wamkit.design.graph import Factor, FactorGraph
from wamkit.errors import ConfigError
from wamkit.planners import GoalDistance, HighValue, WeightedSum

DIFFUSION = EstimatorFacts("diffusion", "main")
FUTURE_ACTION: Mapping[str, Role] = {"future": "future", "action": "action"}


def graph(
    *factors: Factor,
    roles: Mapping[str, Role] = FUTURE_ACTION,
    estimators: Mapping[str, EstimatorFacts] | None = None,
    scored: str | None = None,
    objective: Objective | None = None,
) -> FactorGraph:
    return FactorGraph(factors, roles, estimators or {"main": DIFFUSION}, objective)


def summary(g: FactorGraph) -> tuple[str, str, str, str, tuple[str, ...]]:
    status = g.wam()
    assert status.is_wam == bool(status.paths) == (status.kind == "WAM")
    return g.formula(), g.coupling(), g.backbone(), status.kind, status.paths


SHARED = {"world": EstimatorFacts("diffusion", "main"), "policy": EstimatorFacts("diffusion", "main")}
SEPARATE = {"world": EstimatorFacts("joint-embedding", "w"), "policy": EstimatorFacts("diffusion", "p")}
S, A = Factor(("future",), (), "world"), Factor(("action",), (), "policy")


def test_direct_policy_is_a_vla() -> None:
    g = graph(Factor(("action",)), roles={"action": "action"})
    assert summary(g) == ("p(a|c)", "Direct", "Diffusion", "VLA", ())


def test_video_model_is_a_world_model() -> None:
    g = graph(Factor(("future",)), roles={"future": "future"})
    assert summary(g) == ("p(s|c)", "None", "Diffusion", "world model", ())


def test_joint_generation() -> None:
    g = graph(Factor(("future", "action")))
    assert summary(g) == ("p(s,a|c)", "Joint generation", "Diffusion", "WAM", ("joint",))


def test_two_clocks_on_one_trunk_are_hybrid() -> None:
    two = {"main": EstimatorFacts("diffusion", "main", processes=2)}
    assert graph(Factor(("future", "action")), estimators=two).backbone() == "Hybrid"
    past = {"main": EstimatorFacts("diffusion", "main", processes=2, past=4)}
    assert graph(Factor(("future", "action")), estimators=past).backbone() == "AR / Diffusion"


@pytest.mark.parametrize("read", ["target", "prediction"])
def test_post_prediction_head(read: str) -> None:
    head = Factor(("action",), ("future",), "policy", read)  # type: ignore[arg-type]
    expected = ("p(s|c) p(a|s,c)", "Post-prediction head", "Joint-embedding", "WAM", ("produces",))
    assert summary(graph(S, head, estimators=SEPARATE)) == expected


def test_rollout_needs_a_planner_to_be_a_wam() -> None:
    roles: Mapping[str, Role] = {**FUTURE_ACTION, "goal": "goal"}
    factors = (Factor(("goal",), (), "world"), A, Factor(("future",), ("action",), "world"))
    planned = graph(*factors, roles=roles, estimators=SEPARATE, objective=GoalDistance("future", "goal"))
    formula = "p(g|c) p(a|c) p(s|a,c)"
    rest = ("Cond. rollout", "Joint-embedding")
    assert summary(planned) == (formula + " then select argmin |s - g|", *rest, "WAM", ("selects",))
    # Without a planner nobody reads the imagined future, and true actions carry no gradient to the policy.
    assert summary(graph(*factors, roles=roles, estimators=SEPARATE)) == (formula, *rest, "VLA", ())


def test_rollout_on_a_shared_trunk_trains_the_policy() -> None:
    g = graph(A, Factor(("future",), ("action",), "world"), estimators=SHARED)
    assert summary(g) == ("p(a|c) p(s|a,c)", "Cond. rollout", "Hybrid", "WAM", ("trains",))


def test_side_by_side_heads_couple_only_through_a_shared_trunk() -> None:
    formula = "p(s|c) p(a|c)"
    shared = graph(S, A, estimators=SHARED)
    assert summary(shared) == (formula, "Joint generation", "Hybrid", "WAM", ("trains",))
    separate = graph(S, A, estimators=SEPARATE)
    assert summary(separate) == (formula, "Direct", "Joint-embedding", "VLA", ())


def test_reasoning_state_before_the_future() -> None:
    roles: Mapping[str, Role] = {"thought": "state", **FUTURE_ACTION}
    g = graph(
        Factor(("thought",)),
        Factor(("future",), ("thought",)),
        Factor(("action",), ("future", "thought")),
        roles=roles,
    )
    formula, coupling, _, kind, paths = summary(g)
    assert formula == "p(z|c) p(s|z,c) p(a|s,z,c)"
    assert (coupling, kind, paths) == ("Post-prediction head", "WAM", ("produces",))


@pytest.mark.parametrize(("read", "paths"), [("target", ("trains",)), ("prediction", ())])
def test_the_future_trains_an_inferred_state_unless_it_is_detached(read: str, paths: tuple[str, ...]) -> None:
    roles: Mapping[str, Role] = {"latent": "state", **FUTURE_ACTION}
    estimators = {
        "filter": EstimatorFacts("state-space", None),
        "world": EstimatorFacts("joint-embedding", None),
        "policy": EstimatorFacts("diffusion", "main"),
    }
    g = graph(
        Factor(("latent",), (), "filter"),
        Factor(("action",), ("latent",), "policy"),
        Factor(("future",), ("latent", "action"), "world", read),  # type: ignore[arg-type]
        roles=roles,
        estimators=estimators,
    )
    assert g.wam().paths == paths
    assert g.coupling() == "Cond. rollout"


def test_a_future_read_off_a_tap_is_no_source_of_the_backbone() -> None:
    roles: Mapping[str, Role] = {"video": "future", "depth": "future", "tap": "state", "action": "action"}
    parts = {
        "video": EstimatorFacts("diffusion", "v", exposes={"tap": "tap"}),
        "depth": EstimatorFacts("joint-embedding", "d"),
        "policy": EstimatorFacts("diffusion", "p"),
    }
    video, act = Factor(("video", "tap"), (), "video"), Factor(("action",), ("tap",), "policy")
    read_off = graph(video, Factor(("depth",), ("tap",), "depth"), act, roles=roles, estimators=parts)
    assert read_off.backbone() == "Diffusion"
    beside = graph(video, Factor(("depth",), (), "depth"), act, roles=roles, estimators=parts)
    assert beside.backbone() == "Hybrid"


def test_streams_of_one_role_are_numbered_in_declaration_order() -> None:
    roles: Mapping[str, Role] = {"near": "future", "far": "future", "action": "action"}
    assert graph(Factor(("far", "action")), Factor(("near",), ("far",)), roles=roles).formula() == (
        "p(s2,a|c) p(s1|s2,c)"
    )


# ---------------------------------------------------------------------------------------------------- errors


def test_unknown_stream_and_estimator_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"factor 0 .*unknown stream 'futur'. Did you mean 'future'"):
        graph(Factor(("futur", "action")))
    with pytest.raises(ConfigError, match=r"unknown estimator 'mian'. Did you mean 'main'"):
        graph(Factor(("future", "action"), (), "mian"))


def test_order_and_completeness() -> None:
    with pytest.raises(ConfigError, match="'future' is read before any earlier factor generates it"):
        graph(Factor(("action",), ("future",)), Factor(("future",)))
    with pytest.raises(ConfigError, match="'action' is read before"):
        graph(Factor(("future", "action"), ("action",)))
    with pytest.raises(ConfigError, match="'future' is generated twice"):
        graph(Factor(("future",)), Factor(("action", "future")))
    with pytest.raises(ConfigError, match="no factor generates: future"):
        graph(Factor(("action",)))


PLANNED: Mapping[str, Role] = {"goal": "goal", **FUTURE_ACTION}


def test_the_objective_reads_streams_that_there_are() -> None:
    factors = (Factor(("goal",)), Factor(("action",)), Factor(("future",), ("action",)))
    with pytest.raises(ConfigError, match=r"unknown stream 'gaol'. Did you mean 'goal'"):
        graph(*factors, roles=PLANNED, objective=GoalDistance("future", "gaol"))
    with pytest.raises(ConfigError, match="no factor generates an action to choose"):
        graph(Factor(("future",)), roles={"future": "future"}, objective=HighValue("future"))


def test_planner_needs_a_future_that_depends_on_a_proposed_action() -> None:
    goal, near = Factor(("goal",)), GoalDistance("future", "goal")
    with pytest.raises(ConfigError, match=r"does not depend on the action.*or generate it together with"):
        graph(goal, Factor(("future",)), Factor(("action",)), roles=PLANNED, objective=near)
    joint = (Factor(("goal", "action")), Factor(("future",), ("action",)))
    with pytest.raises(ConfigError, match=r"generated together with \['goal'\]"):
        graph(*joint, roles=PLANNED, objective=near)


def test_a_planner_chooses_among_joint_samples_and_knows_the_rest_before() -> None:
    """Both paths hold: the action reads the future inside the factor, and is chosen by it."""
    roles: Mapping[str, Role] = {"latent": "state", **PLANNED}
    goal, action, latent = Factor(("goal",)), Factor(("action",)), Factor(("latent",))
    near = GoalDistance("future", "goal")
    together = graph(goal, Factor(("future", "action")), roles=PLANNED, objective=near)
    assert together.wam().paths == ("joint", "selects")
    assert together.consequences() == {"future"}
    future = Factor(("future",), ("latent", "action"))
    for factors in ((goal, action, latent, future), (goal, latent, action, future)):
        assert graph(*factors, roles=roles, objective=near).consequences() == {"future"}


def test_the_formula_writes_the_objective() -> None:
    roles: Mapping[str, Role] = {"goal": "goal", "future": "future", "value": "future", "action": "action"}
    factors = (Factor(("goal",)), Factor(("action",)), Factor(("future", "value"), ("action",)))
    near, high = GoalDistance("future", "goal"), HighValue("value")
    start = "p(g|c) p(a|c) p(s1,s2|a,c) then select "
    for objective, text in (
        (near, "argmin |s1 - g|"),
        (high, "argmax V(s2)"),
        (WeightedSum(((1.0, high), (0.5, near))), "argmax V(s2) - 0.5 |s1 - g|"),
        (WeightedSum(((2.0, near),)), "argmin 2 |s1 - g|"),
    ):
        g = graph(*factors, roles=roles, objective=objective)
        assert g.formula() == start + text
        assert g.wam().paths == ("selects",)


# ------------------------------------------------------------------------------------------------ properties


@st.composite
def dags(draw: st.DrawFn) -> tuple[dict[int, list[int]], list[int]]:
    """Parents per stream (parents have smaller numbers), and a random order that respects them."""
    n = draw(st.integers(1, 7))
    parents = {i: sorted(draw(st.sets(st.integers(0, i - 1)))) if i else [] for i in range(n)}
    order: list[int] = []
    while len(order) < n:
        ready = [i for i in range(n) if i not in order and set(parents[i]) <= set(order)]
        order.append(draw(st.sampled_from(ready)))
    return parents, order


@settings(max_examples=60, deadline=None)
@given(dag=dags())
def test_ancestors_do_not_depend_on_the_order_of_factors(dag: tuple[dict[int, list[int]], list[int]]) -> None:
    parents, order = dag
    roles: dict[str, Role] = {f"x{i}": "state" for i in parents}
    factors = [Factor((f"x{i}",), tuple(f"x{j}" for j in parents[i])) for i in parents]
    sorted_, shuffled = graph(*factors, roles=roles), graph(*(factors[i] for i in order), roles=roles)

    def closure(i: int) -> set[str]:
        return {f"x{j}" for j in parents[i]}.union(*(closure(j) for j in parents[i]))

    for i in parents:
        assert sorted_.ancestors([f"x{i}"]) == shuffled.ancestors([f"x{i}"]) == closure(i)
