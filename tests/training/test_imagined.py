"""Training in imagination: real success rises, an error of the world model is caught, and a run resumes as it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from reaching import CHUNK, design, observed, planted, real_returns, record, starts
from small_runs import same_weights
from wamkit.design import Design, from_pretrained
from wamkit.errors import ConfigError, TrainingError
from wamkit.estimators import RegressorConfig
from wamkit.imagination.exploitation import Exploitation
from wamkit.planners import HighValueConfig
from wamkit.training import ImaginedConfig, OptimConfig, Reality, TrainConfig, train

STEPS, DISCOUNT, ROWS = 80, 0.95, 60
IMAGINED = ImaginedConfig(
    objective=HighValueConfig("reward"),
    steps=2,
    starts=16,
    group=16,
    temperature=0.1,
    share=0.05,
    discount=DISCOUNT,
)


def settings(root: Path, out: str, **changes: object) -> TrainConfig:
    base = TrainConfig(
        dataset=root / "data",
        out=root / out,
        design=design(),
        optim=OptimConfig(lr=1e-2, warmup=5, ema=0.8),
        steps=120,
        batch_size=64,
        checkpoint_every=0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Trained:
    """A policy before and after training in imagination alone, and what was measured meanwhile."""

    before: Design
    after: Design
    verdict: Exploitation
    log: list[dict[str, float]]
    reality: list[dict[str, float]]


def real_return(policy: Design) -> list[float]:
    """Discounted reward of the first calls of real episodes, one per row."""
    return real_returns(policy, ROWS, seed=3, discount=DISCOUNT**CHUNK)[0].tolist()


def improve(root: Path, out: str, world: Path | None) -> Trained:
    """Train the policy of ``root/base`` in its own world, or in another."""
    imagined = replace(IMAGINED, world=None if world is None else str(world))
    config = settings(root, out, pretrained=str(root / "base/model"), imagined=imagined, steps=STEPS)
    other = None if world is None else from_pretrained(world)
    seen = observed(starts(ROWS, seed=3))
    reality = Reality(root / out, imagined, seen, 5, real_return, every=STEPS, world=other)
    model = train(config, hook=reality, progress=False)
    lines = [json.loads(line) for line in (root / out / "log.jsonl").read_text().splitlines()]
    ends = from_pretrained(root / "base/model"), from_pretrained(model)
    return Trained(*ends, reality.verdict(), lines, reality.lines())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagined")
    record(folder / "data")
    train(settings(folder, "base"), progress=False)
    return folder


@pytest.fixture(scope="module")
def honest(root: Path) -> Trained:
    return improve(root, "honest", None)


@pytest.fixture(scope="module")
def fooled(root: Path) -> Trained:
    """Trained in a world that was taught a wrong reward where recordings are rare."""
    record(root / "wrong", planted)
    world = train(settings(root, "world", dataset=root / "wrong"), progress=False)
    return improve(root, "fooled", world)


@pytest.mark.learns
def test_real_success_rises_after_training_in_imagination_alone(honest: Trained) -> None:
    (before, solved), (after, solves) = (real_returns(d, 100) for d in (honest.before, honest.after))
    print(f"\nreal success {solved.mean():.2f} -> {solves.mean():.2f}, n=100, mean reward {before.mean():.2f} -> "
          f"{after.mean():.2f}")  # fmt: skip
    assert solved.mean() < 0.25
    assert solves.mean() > 0.6
    assert after.mean() > before.mean() + 0.2


@pytest.mark.learns
def test_imagined_and_real_returns_are_tracked_and_agree(honest: Trained) -> None:
    first, last = honest.reality[0], honest.reality[-1]
    assert (first["step"], last["step"]) == (1, STEPS)
    assert last["gap"] == pytest.approx(np.mean(last["imagined"]) - np.mean(last["real"]))
    assert np.corrcoef(last["imagined"], last["real"])[0, 1] > 0.5, "n=60 starts"
    assert {"return", "gap.reward", "imagined.action", "action", "reward"} <= honest.log[-1].keys()
    assert abs(honest.log[-1]["gap.reward"]) < 0.15  # of rewards between 0 and -1.5


@pytest.mark.learns
def test_an_exploited_error_is_flagged_and_an_honest_world_is_not(honest: Trained, fooled: Trained) -> None:
    print("\nhonest:", honest.verdict, "\nfooled:", fooled.verdict)
    assert not honest.verdict.flagged
    assert honest.verdict.real.low > 0
    assert fooled.verdict.flagged
    assert fooled.verdict.imagined.low > 0
    assert fooled.verdict.real.low <= 0
    assert abs(fooled.reality[-1]["gap"]) > 3 * abs(honest.reality[-1]["gap"])


def test_a_training_in_imagination_resumes_bit_for_bit(root: Path, tmp_path: Path) -> None:
    """Killed after a checkpoint, in its own world and in another one that has moved."""
    for world in (None, tmp_path / "world"):
        if world is not None:
            shutil.copytree(root / "base/model", world)
        out = f"straight-{world is None}"
        critic = replace(IMAGINED, world=None if world is None else str(world), starts=4, group=4)
        more = {
            "pretrained": str(root / "base/model"),
            "imagined": critic,
            "checkpoint_every": 2,
            "log_every": 1,
        }
        whole = train(settings(root, out, steps=4, **more), progress=False)
        shutil.copytree(root / out, root / "cut")
        shutil.rmtree(root / "cut/model")
        shutil.rmtree(root / "cut/checkpoints/step-00000004")
        if world is not None:
            world = world.rename(tmp_path / "moved")
            more["imagined"] = replace(critic, world=str(world))
        again = train(settings(root, "cut", steps=4, **more), progress=False)
        assert same_weights(whole, again)
        assert (root / "cut/log.jsonl").read_text() == (root / out / "log.jsonl").read_text()
        shutil.rmtree(root / "cut")


def test_held_out_episodes_are_measured_by_the_same_objective(root: Path) -> None:
    """Measuring moves no generator that the training draws from: the run itself is the same without it."""
    imagined, start = IMAGINED, str(root / "base/model")
    plain = settings(root, "measured", pretrained=start, imagined=imagined, steps=2, held_out=1, log_every=1)
    train(replace(plain, evaluate_every=0, out=root / "measured-once"), progress=False)
    train(replace(plain, evaluate_every=1), progress=False)
    often, once = (
        [json.loads(line) for line in (root / name / "log.jsonl").read_text().splitlines()]
        for name in ("measured", "measured-once")
    )
    measured = [line for line in often if "held_out" in line]
    assert [line["step"] for line in measured] == [1, 2]
    assert [line for line in once if "held_out" in line] == measured[-1:]
    assert [line for line in often if "held_out" not in line] == [
        line for line in once if "held_out" not in line
    ]
    from_pretrained(root / "measured/best")


def test_another_world_stays_as_it_is_and_one_that_changed_is_another_run(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "base/model", tmp_path / "world")
    few = replace(IMAGINED, world=str(tmp_path / "world"), starts=2, group=2, steps=1)
    more = {"pretrained": str(root / "base/model"), "imagined": few, "steps": 2}
    train(settings(root, "other", **more), progress=False)
    assert same_weights(tmp_path / "world", root / "base/model")
    shutil.rmtree(tmp_path / "world")
    shutil.copytree(root / "other/model", tmp_path / "world")
    with pytest.raises(ConfigError, match="holds a run with another world model"):
        train(settings(root, "other", **more), progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": None}, "neither `objective` nor `value` is set"),
        ({"objective": HighValueConfig("rewards")}, "unknown stream 'rewards'"),
        ({"value": "reward"}, "does not say what a state is worth"),
        ({"group": 1}, "give at least 2"),
        ({"critic": True}, "Name the stream"),
        ({"hindsight": ("place",)}, "must be a future that the action"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(
    root: Path, changes: dict[str, object], message: str
) -> None:
    imagined = replace(IMAGINED, **changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        train(settings(root, "refused", imagined=imagined, steps=1), progress=False)


def test_a_policy_that_never_varies_is_refused(root: Path) -> None:
    certain = replace(design(), estimators={**design().estimators, "policy": RegressorConfig(trunk="policy")})
    with pytest.raises(TrainingError, match="all rollouts of a start take the same actions"):
        train(settings(root, "certain", design=certain, imagined=IMAGINED, steps=1), progress=False)
