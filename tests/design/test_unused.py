"""What a config names and nothing uses is refused when a design is built; so is a controller without its stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from support import data_spec
from wamkit.api import recipe
from wamkit.controllers import Controller, GoalPointer, ProgressGate, SlowFast, SubgoalRefresh, VerifierReplan
from wamkit.design import Design, DesignConfig
from wamkit.design.config import FutureConfig
from wamkit.design.graph import Factor
from wamkit.errors import ConfigError
from wamkit.estimators import DenoiserConfig
from wamkit.substrates import PixelsConfig
from wamkit.trunks import MixtureConfig, TransformerConfig, VlmExpertConfig
from wamkit.zoo.backbones import language_model

JOINT = recipe("joint")


def refused(config: DesignConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        Design(config, data_spec())
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"trunks": {**JOINT.trunks, "spare": TransformerConfig()}},
            "trunk 'spare' is named by no estimator",
        ),
        ({"trunks": {**JOINT.trunks, "spare": TransformerConfig()}}, "name it in `estimators.NAME.trunk`"),
        (
            {"substrates": {**JOINT.substrates, "spare": PixelsConfig()}},
            "substrate 'spare' represents no stream",
        ),
        (
            {"estimators": {**JOINT.estimators, "spare": DenoiserConfig()}},
            "'spare' is not used by any factor",
        ),
        ({"loss_weights": {"futre": 1.0}}, "unknown stream 'futre'. Did you mean 'future'"),
    ],
)
def test_a_part_that_nothing_uses(changes: Mapping[str, Any], message: str) -> None:
    assert message in refused(replace(JOINT, **changes))


def test_the_default_trunk_says_where_it_comes_from() -> None:
    recurrent = recipe("recurrent")
    alone = {"world": recurrent.estimators["world"]}  # brings its own network
    config = replace(recurrent, estimators=alone, factors=(Factor(("latent",), (), "world"),), futures={})
    assert "it is there by default where `trunks` is not given" in refused(replace(config, substrates={}))


def test_a_context_that_no_trunk_reads() -> None:
    recurrent = recipe("recurrent")
    world = Factor(("latent",), (), "world"), Factor(("future",), ("latent",), "world")
    config = replace(recurrent, estimators={"world": recurrent.estimators["world"]}, factors=world, trunks={})
    assert "encoders state, instruction: no estimator runs on a trunk" in refused(config)
    assert "needs factors p(state | c)" in refused(
        replace(config, encoders={})
    )  # nothing to see is right here
    assert "encoders: is empty" in refused(replace(JOINT, encoders={}))


def test_a_state_or_a_tap_that_no_factor_reads() -> None:
    recurrent, tapped = recipe("recurrent"), recipe("feature_tap")
    blind = tuple(replace(f, given=tuple(s for s in f.given if s != "latent")) for f in recurrent.factors)
    assert "state 'latent' is read by no factor" in refused(replace(recurrent, factors=blind))
    blind = tuple(replace(f, given=()) for f in tapped.factors)
    assert "tap 'tap' is read by no factor" in refused(replace(tapped, factors=blind))


def test_a_weight_without_a_loss() -> None:
    assert "'tap' is a tap" in refused(replace(recipe("feature_tap"), loss_weights={"tap": 1.0}))
    video = replace(
        JOINT, factors=(Factor(("future",), (), "world"),), loss_weights={"action": 1.0},
        estimators={"world": DenoiserConfig()},
    )  # fmt: skip
    assert "no factor generates 'action', so it has no loss" in refused(video)


def test_reading_predictions_of_nothing() -> None:
    factors = (replace(JOINT.factors[0], read="prediction"),)
    assert "factor 0 of future, action: read 'prediction'" in refused(replace(JOINT, factors=factors))


@pytest.mark.parametrize(
    "trunk",
    [
        MixtureConfig(
            experts={"video": ("future",), "control": ("action", "touch")}, width=32, depth=1, heads=2
        ),
        replace(language_model(("future",)), expert=("action", "touch")),
    ],
    ids=["mixture", "language"],
)
def test_an_expert_of_a_stream_that_never_comes(trunk: MixtureConfig | VlmExpertConfig) -> None:
    design = replace(
        JOINT, trunks={"main": trunk}, estimators={"world": DenoiserConfig(reads={"future": ()})}
    )
    assert "names the stream 'touch', but no factor on it generates or reads that" in refused(design)


@pytest.mark.parametrize(
    ("controller", "message"),
    [
        (VerifierReplan(execute=8, stream="futre"), "no future stream 'futre'"),
        (ProgressGate(execute=8, stream="goal"), "no future stream 'goal'"),
        (SubgoalRefresh(execute=8), "no goal or state stream 'goal' for a controller to supply"),
        (VerifierReplan(execute=8), "no prediction could end it early"),
        (GoalPointer("futre"), "no future stream 'futre'"),
        (GoalPointer("future"), "p(s,a|c) generates no action from the future 'future'"),
    ],
)
def test_a_controller_without_its_stream(controller: Controller, message: str) -> None:
    assert message in refused(replace(JOINT, controller=controller))


def test_a_controller_cannot_compare_milestones() -> None:
    keyed = replace(JOINT, futures={"future": FutureConfig("video", milestones=1)})
    assert "milestones have no fixed time" in refused(replace(keyed, controller=ProgressGate(execute=8)))


def test_a_reflex_on_deltas_refuses_absolute_actions() -> None:
    data = data_spec()
    design = replace(JOINT, controller=SlowFast(execute=8))
    Design(design, data)
    with pytest.raises(
        ConfigError, match="'slow_fast' sums up delta actions, but the policy's actions are 'absolute'"
    ):
        Design(design, replace(data, action=replace(data.action, mode="absolute")))
