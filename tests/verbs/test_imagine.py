"""`wamkit imagine`: from checkpoints, demonstrations and reports to scores, controls and coefficients."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from noise import record_noise
from reports import small_report
from torch import Tensor

from support import ToyWindows, acting_observation, data_spec
from wamkit import api
from wamkit.cli import main
from wamkit.contract.types import Forecast
from wamkit.controllers import Chunked
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.design import Design, DesignConfig, Factor, FutureConfig, save_pretrained
from wamkit.encoders import InstructionConfig
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError, DataError
from wamkit.estimators import RegressorConfig
from wamkit.evaluation.imagined.frames import TaskFrames
from wamkit.evaluation.imagined.scorers import PerInstruction, SuccessProbe
from wamkit.evaluation.report.fidelity import mean_psnr
from wamkit.imagination.dreams import Dream, OthersActions, dream
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig, ProprioceptionConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

TASKS = ("drawer-open-v3", "window-open-v3")
PHRASES = [replace(MetaWorldConfig(), task=task).phrases() for task in TASKS]


def dynamics() -> DesignConfig:
    """Both cameras and the body after four actions."""
    return DesignConfig(
        name="forward",
        horizon=4,
        stride=4,
        width=32,
        encoders={"instruction": InstructionConfig()},
        substrates={
            "video": PixelLatentConfig(PatchPCAConfig(patch=16, features=4)),
            "body": ProprioceptionConfig(),
        },
        futures={"future": FutureConfig("video", (4,)), "body": FutureConfig("body", (4,))},
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={"world": RegressorConfig(), "policy": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"), Factor(("future", "body"), ("action",), "world")),
        controller=Chunked(4),
    )


def given() -> DesignConfig:
    """The same world without a policy of its own: its action is given."""
    forward = dynamics()
    return replace(
        forward,
        name="given",
        estimators={"world": forward.estimators["world"]},
        factors=forward.factors[1:],
        given=("action",),
    )


def episodes(root: Path, successes: tuple[bool, ...], length: int = 30) -> Path:
    """Episodes of two tasks in turn; one that succeeds turns white for its last four frames."""
    spec = data_spec()
    with DatasetWriter(root, spec.observation, spec.action) as writer:
        for i, success in enumerate(successes):
            toy = ToyWindows(length, seed=i)
            images = {c: np.ascontiguousarray(v.transpose(0, 2, 3, 1)).copy() for c, v in toy.images.items()}
            for frames in images.values():
                frames[-4:] = 255 if success else frames[-4:]
            words = PHRASES[i % 2][i % len(PHRASES[i % 2])]
            writer.add(Episode(images, toy.state, toy.action, words, success))
    return root


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imagine")
    data = Dataset(episodes(root / "data", (True,) * 6))
    episodes(root / "failures", (False, True, False))
    torch.manual_seed(0)
    for name, config in (
        ("world", dynamics()),
        ("given", given()),
        ("a", recipe("direct")),
        ("b", recipe("joint")),
    ):
        design = Design(config, data_spec())
        design.fit(data, 0)
        save_pretrained(design, root / name / "model")
    blind = replace(given(), factors=(Factor(("future", "body"), (), "world"),), given=())
    save_pretrained(Design(blind, data_spec()), root / "video" / "model")
    for name, successes in (("a", 1), ("b", 4)):
        small_report(name, successes).save(root / name / "report.json")
    return root


def test_the_verb_scores_policies_and_says_how_far_to_trust_it(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = json.dumps({name: str(places / name / "model") for name in "ab"})
    reports = json.dumps({name: str(places / name) for name in "ab"})
    where = ["--world", str(places / "world" / "model"), "--policies", policies, "--reports", reports]
    where += ["--starts", str(places / "data"), "--demonstrations", str(places / "data"), "--tail", "4"]
    where += ["--failures", str(places / "failures"), "--tasks", json.dumps(TASKS), "--per_task", "2"]
    assert main(["imagine", *where, "--out", str(places / "out"), "--steps", "[1, 2]"]) == 0
    assert "actions of other rows: imagined[forward]" in capsys.readouterr().out
    found = json.loads((places / "out" / "imagined.json").read_text())
    assert [(j["actor"], j["proxy"]["scores"][0]["horizon_ticks"]) for j in found["judgements"]] == [
        ("policy", 4),
        ("policy", 8),
        ("other rows", 4),
        ("other rows", 8),
    ]
    assert found["judgements"][0]["proxy"]["success"] == {"a": 0.5, "b": 0.8}
    assert all(len(score["scores"]) == 4 for j in found["judgements"] for score in j["proxy"]["scores"])
    for probe in found["probe"].values():
        assert probe["auc"] == 1.0  # white or not
        assert probe["solved"] > 0.9 > 0.1 > probe["unsolved"]
    assert found["start"] < 0.1
    assert [(row["ticks"], row["n"]) for row in found["drift"]] == [(4, 4), (8, 4)]
    assert set(found["drift"][0]["psnr"]) == {"gripper", "scene"}


def test_a_world_is_measured_without_policies_under_actions_of_other_episodes(places: Path) -> None:
    config = api.ImagineConfig(
        world=str(places / "world" / "model"),
        starts=places / "data",
        demonstrations=places / "data",
        executed=places / "failures",
        out=places / "alone",
        tasks=TASKS[:1],
        tail=4,
        gap=8,
        steps=(2,),
    )
    found = api.imagine(config, progress=False)
    assert found.judgements == ()
    assert [(row.task, row.solved, row.failed) for row in found.tellings] == [("all", 0, 2), (TASKS[0], 0, 2)]
    assert found.drift[0].n == 2
    assert (places / "alone" / "imagined.json").exists()


def test_a_world_whose_action_is_given_judges_policies_and_is_none(places: Path) -> None:
    config = api.ImagineConfig(
        world=str(places / "given" / "model"),
        policies={"a": str(places / "a" / "model"), "b": str(places / "b" / "model")},
        reports={name: places / name for name in "ab"},
        starts=places / "data",
        demonstrations=places / "data",
        out=places / "by given",
        tasks=TASKS[:1],
        tail=4,
        gap=8,
        steps=(2,),
    )
    found = api.imagine(config, progress=False)
    assert found.world == {"name": "given", "formula": "p(s1,s2|a,c)"}
    assert [j.actor for j in found.judgements] == ["policy", "other rows"]
    model = places / "given" / "model"
    small_report("given", 1).save(places / "given" / "report.json")
    wrong = replace(config, policies={"w": str(model)}, reports={"w": places / "given"}, out=places / "wrong")
    with pytest.raises(ConfigError, match=r"design 'given' is a world model.*does not act"):
        api.imagine(wrong, progress=False)
    with pytest.raises(ConfigError, match="predicts 'future' whatever the action"):
        api.imagine(replace(config, world=str(places / "video" / "model"), out=places / "no"), progress=False)


def test_only_a_policy_and_its_control_share_noise(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = api.ImagineConfig(
        world=str(places / "world" / "model"),
        policies={"a": str(places / "a" / "model")},
        reports={"a": places / "a"},
        starts=places / "data",
        demonstrations=places / "data",
        out=places / "noise",
        tasks=TASKS,
        tail=4,
        per_task=2,
        steps=(2,),
    )
    recorded = record_noise(monkeypatch)
    api.imagine(config, progress=False)
    seeds, dreamt = recorded.seeds, 2 * 4 * 2  # calls of world and policy for four rows and two steps
    assert seeds[:dreamt] == seeds[dreamt : 2 * dreamt]  # acting itself, then with the actions of other rows
    assert sorted(recorded.shared_seeds()) == sorted(seed for _, seed in seeds[:dreamt])
    assert len(seeds) > 2 * dreamt + 4 * 2  # and the replay of what was executed, and single steps


def test_refusals(places: Path) -> None:
    with pytest.raises(ConfigError, match="needs a report under its name"):
        api.ImagineConfig(policies={"a": "x"})
    with pytest.raises(ConfigError, match="ascend"):
        api.ImagineConfig(steps=(4, 2))
    config = api.ImagineConfig(
        world=str(places / "world" / "model"),
        starts=places / "data",
        demonstrations=places / "data",
        tasks=("button-press-topdown-v3",),
    )
    with pytest.raises(DataError, match="no episode of 'button-press-topdown-v3'"):
        api.imagine(config, progress=False)


def test_frames_are_told_apart_by_task_outcome_and_place(places: Path) -> None:
    shown = TaskFrames(Dataset(places / "data"), MetaWorldConfig(), TASKS)
    assert [len(shown.episodes[task]) for task in TASKS] == [3, 3]
    assert shown.ends(TASKS[0], 4).tolist() == [26, 27, 28, 29, 86, 87, 88, 89, 146, 147, 148, 149]
    assert shown.before(TASKS[0], 4, 8, 3).tolist() == [0, 8, 17, 60, 68, 77, 120, 128, 137]
    rolled = TaskFrames(Dataset(places / "failures"), MetaWorldConfig(), TASKS)
    assert rolled.before(TASKS[0], 4, 8, 2, failed=True).tolist() == [0, 29, 60, 89]
    assert len(rolled.before(TASKS[1], 4, 8, 2, failed=True)) == 0  # the only one succeeded
    assert shown.starts(TASKS[1], 2).tolist() == [30, 90]


@pytest.mark.parametrize("rows", [2, 3, 7])
def test_nobody_keeps_its_own_actions(rows: int) -> None:
    design = Design(dynamics(), data_spec()).eval()
    toy = ToyWindows()
    design.fit(toy, 0)
    start = acting_observation(toy, list(range(rows)), design.window)
    names = torch.linspace(-0.9, 0.9, rows)

    def own(so_far: Dream) -> Tensor:
        return names[:, None, None].expand(-1, 4, 4)

    made = dream(design, OthersActions(own, rows, 3), start, 3, seeds=range(rows)).made
    for forecast in made:
        given = forecast.action[:, 0, 0]
        assert torch.allclose(given.sort().values, names, atol=1e-5)  # everybody's, once
        assert (given - names).abs().min() > 0.01
    again = dream(design, OthersActions(own, rows, 3), start, 3, seeds=range(rows)).made
    assert torch.equal(made[2].action, again[2].action)
    with pytest.raises(ConfigError, match="at least two rows"):
        OthersActions(own, 1, 0)


def test_a_probe_may_look_at_where_and_at_every_step() -> None:
    """A white patch that wanders has the same mean everywhere; only all tokens side by side tell its place."""
    toy = ToyWindows(40)
    for frames in toy.images.values():
        frames[:] = 0
        frames[:20, :, :16, :16] = 255
        frames[20:, :, 16:, 16:] = 255
    world = Design(dynamics(), data_spec()).eval()
    world.fit(toy, 0)
    shown = acting_observation(toy, list(range(40)), replace(world.window, past_actions=0))
    solved = torch.arange(40) >= 20
    blind = SuccessProbe(world, "future", shown, solved)
    assert (blind.of(shown) - 0.5).abs().max() < 0.01
    probe = SuccessProbe(world, "future", shown, solved, pool="tokens")
    assert torch.equal(probe.of(shown) > 0.5, solved)
    latent = world.substrates["video"].encode(shown)  # type: ignore[operator]
    steps = [Forecast(torch.zeros(1, 4, 4), {"future": latent[i : i + 1]}) for i in (0, 30, 5)]
    first = acting_observation(toy, [0], replace(world.window, past_actions=0))
    past = Dream(world, first, tuple(steps))
    ever = SuccessProbe(world, "future", shown, solved, pool="tokens", when="ever")
    assert probe(past).item() < 0.5 < ever(past).item()
    assert ever(past.until(1)).item() < 0.5
    by_words = PerInstruction({"push it": probe, "pull it": ever})
    both = Dream(world, acting_observation(toy, [1, 0], replace(world.window, past_actions=0)))
    both = replace(
        both,
        made=tuple(replace(f, future={"future": f.future["future"].expand(2, -1, -1, -1)}) for f in steps),
    )
    assert torch.equal(by_words(both), torch.stack((ever(both)[0], probe(both)[1])))
    with pytest.raises(DataError, match="no scorer for the instructions"):
        PerInstruction({"push it": probe})(both)


def test_decibels() -> None:
    black = torch.zeros(2, 1, 3, 4, 4, dtype=torch.uint8)
    assert mean_psnr(black, black) == pytest.approx(100.0)
    assert mean_psnr(black, black + 255) == pytest.approx(0.0)
    assert mean_psnr(black, black + 51) == pytest.approx(20 * np.log10(5))
