"""What a clip without actions teaches: the futures that need not read the action, and nothing about the action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from small_runs import settings
from support import ToyWindows, data_spec
from wamkit.actions import BinsConfig, ChunkConfig, FastConfig
from wamkit.contract.protocols import ActionConfig, EstimatorConfig
from wamkit.contract.types import Batch
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.design import Design, DesignConfig, Factor, FutureConfig, from_pretrained
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError, DataError, SpecError
from wamkit.estimators import (
    AutoregressorConfig,
    DenoiserConfig,
    ProposerConfig,
    RegressorConfig,
    StagedConfig,
    StateSpaceConfig,
    UnmaskerConfig,
)
from wamkit.evaluation.prediction.windows import spread_windows
from wamkit.substrates import PatchVQConfig, PixelLatentConfig, ProprioceptionConfig
from wamkit.training import train
from wamkit.trunks import TransformerConfig

WINDOWS = ToyWindows(60)
JOINT, FIRST = Factor(("future", "action"), (), "world"), Factor(("action", "future"), (), "world")
CHUNK, BINS = ChunkConfig(), BinsConfig(bins=16)
# name -> estimator, action, factor, and whether a clip teaches the future that is generated with the action
TOGETHER: dict[str, tuple[EstimatorConfig, ActionConfig, Factor, bool]] = {
    "denoiser": (DenoiserConfig(draws=2), CHUNK, JOINT, True),
    "one level": (DenoiserConfig(levels="shared"), CHUNK, JOINT, True),
    "unmasker": (UnmaskerConfig(), BINS, JOINT, True),
    "regressor": (RegressorConfig(), CHUNK, JOINT, True),
    "stages": (
        StagedConfig(
            parts={"seen": DenoiserConfig(), "done": DenoiserConfig()},
            streams={"seen": ("future",), "done": ("action",)},
        ),
        CHUNK,
        JOINT,
        True,
    ),
    "future first": (AutoregressorConfig(), BINS, JOINT, True),
    "action first": (AutoregressorConfig(), BINS, FIRST, False),
    "interleaved": (AutoregressorConfig(segments=2), BINS, JOINT, False),
}


def design(estimator: EstimatorConfig, action: ActionConfig, *factors: Factor, **changes: object) -> Design:
    config = DesignConfig(
        name="clips",
        horizon=8,
        width=16,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig()},
        futures={"future": FutureConfig("body", (4, 8))},
        action=action,
        trunks={"main": TransformerConfig(width=16, depth=2, heads=2)},
        estimators={"world": estimator},
        factors=factors,
    )
    if action == BINS:  # ids need a future of ids
        pixels = PixelLatentConfig(PatchVQConfig(patch=16, features=8, vocabulary=16))
        config = replace(config, substrates={"body": pixels})
    torch.manual_seed(0)
    return Design(replace(config, **changes), data_spec())  # type: ignore[arg-type]


def batch(made: Design, *clips: int) -> Batch:
    """Two windows; the rows ``clips`` are of clips without actions."""
    cut = WINDOWS.windows(np.array([8, 30]), made.training_window)
    rows = torch.isin(torch.arange(2), torch.tensor(clips, dtype=torch.long))
    return replace(cut, action_pad=cut.action_pad | rows[:, None])


def term(made: Design, stream: str, shown: Batch) -> Tensor:
    torch.manual_seed(1)
    made.zero_grad()
    return made.loss(shown).terms[stream]


def pull(made: Design, stream: str, shown: Batch, names: Sequence[str] = ("",)) -> float:
    """Largest entry of the gradient of one stream's loss in parameters whose names contain one of ``names``."""
    term(made, stream, shown).backward()
    found = [
        p.grad for n, p in made.named_parameters() if any(part in n for part in names) and p.grad is not None
    ]
    return max((float(gradient.abs().max()) for gradient in found), default=0.0)


@pytest.mark.parametrize("name", TOGETHER)
def test_of_a_joint_factor_a_clip_teaches_what_does_not_read_the_action(name: str) -> None:
    estimator, action, factor, learned = TOGETHER[name]
    made = design(estimator, action, factor)
    # The values of the action as they are read. Queries of a regressor say only where an action is asked for.
    inward = (
        "outputs.action.inward",
        "mask.action",
        *(("outputs.action.position",) if name != "regressor" else ()),
    )
    assert pull(made, "action", batch(made)) > 0
    assert pull(made, "action", batch(made, 0, 1)) == 0.0
    assert pull(made, "action", batch(made, 1)) > 0
    assert (pull(made, "future", batch(made, 0, 1)) > 0) == learned
    assert pull(made, "future", batch(made, 0, 1), inward) == 0.0
    if name in ("denoiser", "one level", "unmasker", "action first", "interleaved"):
        assert pull(made, "future", batch(made), inward) > 0  # where there are actions they are read


def test_a_clip_teaches_nothing_about_futures_of_an_action() -> None:
    """Rows of p(s|a,c) without a: their weight is zero, that of the others as without them."""
    made = design(RegressorConfig(), CHUNK, Factor(("future",), ("action",), "world"), given=("action",))
    whole, mixed, clips = (term(made, "future", batch(made, *rows)) for rows in ((), (1,), (0, 1)))
    assert clips == 0.0
    assert pull(made, "future", batch(made, 0, 1)) == 0.0
    first = WINDOWS.windows(np.array([8]), made.training_window)
    torch.testing.assert_close(mixed, term(made, "future", first))
    assert not torch.equal(whole, mixed)


def test_of_a_cascade_a_clip_teaches_the_future() -> None:
    """p(s|c) p(a|s,c) learns the future from clips, p(a|c) p(s|a,c) nothing."""
    policy: dict[str, EstimatorConfig] = {"world": RegressorConfig(), "policy": ProposerConfig()}
    for factors, learned in (
        ((Factor(("future",), (), "world"), Factor(("action",), ("future",), "policy")), True),
        ((Factor(("action",), (), "policy"), Factor(("future",), ("action",), "world")), False),
    ):
        made = design(RegressorConfig(), CHUNK, *factors, estimators=policy)
        shown = batch(made, 0, 1)
        assert pull(made, "action", shown) == 0.0
        assert (pull(made, "future", shown) > 0) == learned


def dataset(root: Path, *clips: int, episodes: Sequence[int] = (0, 1, 2)) -> Path:
    spec = data_spec()
    with DatasetWriter(root, spec.observation, spec.action, actionless=True) as writer:
        for i in episodes:
            toy = ToyWindows(30, seed=i)
            images = {c: np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for c, v in toy.images.items()}
            writer.add(Episode(images, toy.state, None if i in clips else toy.action, "push it"))
    return root


def test_a_training_reads_clips_beside_demonstrations_and_refuses_clips_alone(tmp_path: Path) -> None:
    dataset(tmp_path / "data", 1)
    video = design(RegressorConfig(), CHUNK, Factor(("future",), (), "world")).config
    acting = design(DenoiserConfig(), CHUNK, JOINT).config
    train(settings(tmp_path, "mixed", design=acting), progress=False)
    dataset(tmp_path / "clips" / "data", 0, 1, 2)
    model = train(settings(tmp_path / "clips", "video", design=video), progress=False)
    assert from_pretrained(model).describe()["kind"] == "world model"
    given = replace(video, factors=(Factor(("future",), ("action",), "world"),), given=("action",))
    for config in (acting, given):
        with pytest.raises(ConfigError, match=r"stream 'action': no episode of .* was recorded with actions"):
            train(settings(tmp_path / "clips", "none", design=config), progress=False)


def test_what_is_fitted_to_actions_or_follows_them_leaves_clips_out(tmp_path: Path) -> None:
    mixed, clips = Dataset(dataset(tmp_path / "data", 1)), Dataset(dataset(tmp_path / "clips", 0, 1, 2))
    without = Dataset(dataset(tmp_path / "without", episodes=(0, 2)))
    fitted = [FastConfig(vocabulary=256).build(data_spec(), 8) for _ in range(2)]
    fitted[0].fit(mixed, 0)
    fitted[1].fit(without, 0)
    assert torch.equal(fitted[0].merges, fitted[1].merges)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"none of the 90 windows .* was recorded with actions"):
        fitted[0].fit(clips, 0)
    index, _ = spread_windows(mixed, 4, 8, acted=True)
    assert mixed.acted[index].all()
    assert not mixed.acted[spread_windows(mixed, 4, 8)[0]].all()
    with pytest.raises(DataError, match="no episode with actions has two frames"):
        spread_windows(clips, 4, 8, acted=True)


def test_a_batch_cannot_have_half_a_clip() -> None:
    past = {"world": StateSpaceConfig(stochastic=8, hidden=16, past=2)}
    factors = (Factor(("latent",), (), "world"), Factor(("future",), ("latent", "action"), "world"))
    changes = {"states": {"latent": 24}, "estimators": past, "trunks": {}, "stride": 4}
    made = design(RegressorConfig(), CHUNK, *factors, **changes, encoders={}, given=("action",))
    shown = batch(made)
    assert pull(made, "latent", batch(made, 0, 1)) > 0  # a clip still shows what is seen
    assert pull(made, "future", batch(made, 0, 1)) == 0.0
    half = shown.action_pad.clone()
    half[1, shown.past :] = True
    with pytest.raises(SpecError, match="marks all actions from now on in row 1, but not those before"):
        made.loss(replace(shown, action_pad=half))
