"""What learns is what is named; a smaller checkpoint loads into a design with exactly the declared parts more."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support import data_spec, write_dataset
from wamkit.contract.protocols import SubstrateConfig
from wamkit.design import Design, DesignConfig, Factor, FutureConfig, from_pretrained
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.substrates import EmaFeatureConfig, PatchPCAConfig, PixelLatentConfig
from wamkit.training import OptimConfig, TrainConfig, train
from wamkit.training.selection import Selection, select
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

NAMES = ["encoders.eye.weight", "encoders.eye_two.weight", "trunks.main.blocks.0.bias", "action.codes"]


def tiny() -> DesignConfig:
    config = recipe("regression")
    return replace(
        config,
        width=16,
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
        encoders={"images": replace(config.encoders["images"], channels=(4, 4), features=4)},  # type: ignore[call-arg]
    )


def settings(root: Path, out: str, **changes: object) -> TrainConfig:
    base = TrainConfig(
        dataset=root / "data",
        out=root / out,
        design=tiny(),
        optim=OptimConfig(warmup=1),
        steps=4,
        batch_size=8,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selection")
    write_dataset(folder / "data")
    train(settings(folder, "first"), progress=False)
    return folder


def changed(before: Design, after: Design) -> set[str]:
    old, new = before.state_dict(), after.state_dict()
    return {name for name in old if not torch.equal(old[name], new[name])}


# --------------------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("encoders.eye", {NAMES[0]}),  # up to a dot: the second eye is another part
        ("encoders.eye.", {NAMES[0]}),
        ("encoders.eye.weight", {NAMES[0]}),
        ("encoders", set(NAMES[:2])),
        ("*.weight", set(NAMES[:2])),
        ("trunks.*.blocks", {NAMES[2]}),
        ("action", {NAMES[3]}),
    ],
)
def test_a_pattern_names_a_tensor_or_all_below_it(pattern: str, found: set[str]) -> None:
    assert select(NAMES, [pattern], "here") == found


def test_a_pattern_that_names_nothing_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError) as raised:
        select(NAMES, ["encoders", "encoders.ey"], "optim.only")
    assert str(raised.value) == (
        "optim.only: 'encoders.ey' names nothing. Did you mean 'encoders.eye'? There are: action.codes, encoders.eye, "
        "encoders.eye_two, trunks.main."
    )


# ------------------------------------------------------------------------------------------------------ learning


@pytest.mark.parametrize(
    "only", [("encoders.images.view", "estimators.policy.outputs"), ("trunks.*.blocks.0.mlp",)]
)
def test_only_what_is_named_changes_bit_for_bit(root: Path, only: tuple[str, ...]) -> None:
    out = f"only{len(only)}"
    optim = OptimConfig(warmup=1, lr=1e-2, ema=0.5, only=only)
    start = settings(root, out, pretrained=str(root / "first/model"), optim=optim)
    before, after = from_pretrained(root / "first/model"), from_pretrained(train(start, progress=False))
    named = select([name for name, _ in before.named_parameters()], only, "here")
    aliases = {name for name in changed(before, after) if ".trunk." in name}  # estimators hold their trunk
    found = changed(before, after) - aliases
    assert found <= named
    for pattern in only:
        assert select(found, [pattern], "what changed")


def moving() -> DesignConfig:
    return replace(
        tiny(),
        substrates={"ema": EmaFeatureConfig()},
        futures={"future": FutureConfig("ema", (4,))},
        estimators={"policy": RegressorConfig(), "world": RegressorConfig()},
        factors=(Factor(("future",), (), "world"), Factor(("action",), (), "policy")),
    )


def test_a_moving_average_and_its_moments_stand_still_unless_they_are_named(root: Path) -> None:
    design = moving()
    first = train(settings(root, "ema", design=design), progress=False)
    for only, follows in ((("encoders.images",), False), (("encoders.images", "substrates.ema"), True)):
        optim = OptimConfig(warmup=1, only=only)
        start = settings(root, f"ema{follows}", design=design, pretrained=str(first), optim=optim)
        moved = changed(from_pretrained(first), from_pretrained(train(start, progress=False)))
        assert any(name.startswith("encoders.images") for name in moved)
        assert any(name.startswith("substrates.ema.target") for name in moved) == follows
        assert ("substrates.ema.mean" in moved) == follows
        assert not any(name.startswith(("trunks", "estimators")) for name in moved)


def test_the_optimiser_holds_only_what_learns_and_idle_parts_are_in_evaluation_mode() -> None:
    design = Design(tiny(), data_spec())
    selection = Selection(design, ("estimators.policy.outputs",))
    held = {id(p) for group in OptimConfig().build(design).param_groups for p in group["params"]}
    own = {id(p) for name, p in design.named_parameters() if name.startswith("estimators.policy.outputs.")}
    assert held == own
    assert own
    selection.train_mode(design)
    assert not design.encoders["images"].training
    assert not design.trunks["main"].training
    assert design.estimators["policy"].training


def test_what_a_part_froze_itself_cannot_be_declared_to_learn() -> None:
    design = Design(moving(), data_spec())
    with pytest.raises(ConfigError, match="names only what its part keeps frozen"):
        Selection(design, ("substrates.ema",))


def test_a_run_whose_losses_do_not_reach_what_is_named_is_refused(root: Path) -> None:
    only = ("estimators.policy.outputs.action.inward",)  # a regressor is never shown an action
    with pytest.raises(ConfigError, match="no loss depends on what it names"):
        train(settings(root, "unreached", optim=OptimConfig(only=only)), progress=False)


def test_an_unknown_name_in_a_run_is_refused_before_the_first_step(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"'encoders.image' names nothing.*Did you mean 'encoders.images'"):
        train(settings(root, "typo", optim=OptimConfig(only=("encoders.image",))), progress=False)


# ---------------------------------------------------------------------------------------------------- more parts


def bigger() -> DesignConfig:
    return replace(tiny(), encoders={**tiny().encoders, "state": StateConfig()})


def test_a_smaller_checkpoint_loads_with_the_declared_parts_fresh(root: Path) -> None:
    still = settings(
        root,
        "bigger",
        design=bigger(),
        pretrained=str(root / "first/model"),
        fresh=("encoders.state",),
        optim=OptimConfig(lr=0.0, ema=0.0),
        steps=1,
    )
    before = from_pretrained(root / "first/model").state_dict()
    after = from_pretrained(train(still, progress=False)).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    more = after.keys() - before.keys()
    assert more
    assert all(name.startswith("encoders.state.") for name in more)


def test_a_fresh_codec_is_fitted(root: Path) -> None:
    """And nothing else is: the moving average of another design starts from the encoder that was loaded."""
    foresees = replace(
        tiny(),
        substrates={"video": PixelLatentConfig(PatchPCAConfig(patch=16, features=4))},
        futures={"future": FutureConfig("video", (4,))},
        estimators={"policy": RegressorConfig(loss="smooth_l1"), "world": RegressorConfig()},
        factors=(Factor(("future",), (), "world"), Factor(("action",), (), "policy")),
    )
    start = settings(root, "codec", design=foresees, pretrained=str(root / "first/model"), steps=1)
    start = replace(start, fresh=("substrates.video", "estimators.world"))
    design = from_pretrained(train(start, progress=False))
    unfitted = Design(foresees, design.data)
    assert {name for name in changed(unfitted, design) if name.startswith("substrates.video.")}
    follows: dict[str, SubstrateConfig] = {"ema": EmaFeatureConfig(decay=1.0)}
    start = replace(
        start, design=replace(foresees, substrates=follows, futures={"future": FutureConfig("ema", (4,))})
    )
    start = replace(start, out=root / "fresh_ema", fresh=("substrates.ema", "estimators.world"))
    state = from_pretrained(train(start, progress=False)).state_dict()
    for name, value in load_file(root / "first/model/model.safetensors").items():
        if name.startswith("encoders.images."):
            assert torch.equal(state[name.replace("encoders.images.", "substrates.ema.target.")], value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fresh": ()}, r"'encoders\.state\.[\w.]+' is in `design` and not in the checkpoint"),
        (
            {"fresh": ("encoders",)},
            r"'encoders\.images\.[\w.]+' is in the checkpoint, so it cannot be `fresh`",
        ),
        ({"fresh": ("encoders.depth",)}, "fresh: 'encoders.depth' names nothing.*encoders.state"),
        ({"fresh": ("encoders.state",), "pretrained": None}, "name one in `pretrained`"),
    ],
)
def test_anything_else_is_an_error(root: Path, changes: dict[str, object], message: str) -> None:
    start = settings(root, "refused", design=bigger(), pretrained=str(root / "first/model"))
    with pytest.raises(ConfigError, match=message):
        train(replace(start, **changes), progress=False)  # type: ignore[arg-type]


def test_a_checkpoint_with_more_or_other_parts_is_refused(root: Path) -> None:
    more = train(settings(root, "more", design=bigger(), steps=1), progress=False)
    with pytest.raises(ConfigError, match="is in the checkpoint and not in `design`"):
        train(settings(root, "less", pretrained=str(more)), progress=False)
    wide = replace(tiny(), trunks={"main": TransformerConfig(width=16, depth=1, heads=2, expansion=2.0)})
    with pytest.raises(ConfigError, match=r"mlp.* has the shape \(64.*and \(32"):
        train(settings(root, "wide", design=wide, pretrained=str(root / "first/model")), progress=False)


def test_statistics_come_from_the_checkpoint(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "first/model", tmp_path / "model")
    file = tmp_path / "model/transforms.json"
    stats = json.loads(file.read_text())
    stats["action"]["mean"] = [0.25, 0.0, 0.0, 0.0]
    file.write_text(json.dumps(stats))
    facts = json.loads((tmp_path / "model/config.json").read_text())
    del facts["digests"]  # it was changed on purpose
    (tmp_path / "model/config.json").write_text(json.dumps(facts))
    start = settings(root, "stats", pretrained=str(tmp_path / "model"), steps=2, checkpoint_every=1)
    design = from_pretrained(train(start, progress=False))
    assert design.data.stats["action"]["mean"].tolist() == [0.25, 0.0, 0.0, 0.0]
    shutil.rmtree(root / "stats/checkpoints/step-00000002")
    shutil.rmtree(tmp_path / "model")  # a run goes on without what it started from
    again = from_pretrained(train(start, progress=False))
    assert again.data.stats["action"]["mean"].tolist() == [0.25, 0.0, 0.0, 0.0]
    assert not changed(design, again)
