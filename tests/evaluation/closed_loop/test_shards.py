"""Shards are disjoint and complete, and their reports together are the report of the whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_evaluation import CONFIG, policy
from plain_world import PlainConfig

from wamkit.config import config_hash
from wamkit.envs import EnvConfig
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shard, plan_episodes, variants
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.evaluation.closed_loop.shards import merge
from wamkit.evaluation.report.report import Report

EXPECTED = [variant.id for variant in variants(CONFIG)]
PARTS = 2


@given(st.lists(st.text(max_size=30)), st.integers(1, 9))
def test_every_variant_is_in_exactly_one_shard(names: list[str], count: int) -> None:
    shards = [Shard(index, count) for index in range(count)]
    for name in names:
        assert sum(shard.holds(name) for shard in shards) == 1


def test_the_hash_is_the_same_everywhere() -> None:
    """By another tool: ``printf clean/a/000 | b2sum -l 64``, modulo 4."""
    homes = [next(i for i in range(4) if Shard(i, 4).holds(f"clean/a/{n:03d}")) for n in range(8)]
    assert homes == [2, 2, 1, 1, 3, 0, 0, 0]
    plans = [plan_episodes(dataclasses.replace(CONFIG, shard=f"{i}/{PARTS}")) for i in range(PARTS)]
    assert sorted(e.key for plan in plans for e in plan) == sorted(EXPECTED)
    filmed = {e.key for e in plan_episodes(CONFIG) if e.filmed}
    assert filmed == {e.key for plan in plans for e in plan if e.filmed}


@pytest.mark.parametrize("text", ["4/4", "0", "0/0", "-1/4", "a/b", "0/4/2", "", "1.0/4"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 0/4"):
        EvaluationConfig(shard=text)


def test_a_shard_without_variants_says_so() -> None:
    one = EvaluationConfig(episodes=1)
    empty = next(i for i in range(9) if not Shard(i, 9).holds(variants(one)[0].id))
    with pytest.raises(ConfigError, match=f"shard {empty}/9 holds none of the 1 variants.*left out"):
        plan_episodes(dataclasses.replace(one, shard=f"{empty}/9"))


@pytest.fixture(scope="module")
def reports() -> Iterator[tuple[Report, list[Report]]]:
    """The whole and its shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EnvConfig._choice_registry, "plain", PlainConfig)  # a report names its environment
        yield evaluated()


def evaluated() -> tuple[Report, list[Report]]:
    whole = rollout(policy(), CONFIG, checkpoint="abc", progress=False).report
    parts = [
        rollout(
            policy(), dataclasses.replace(CONFIG, shard=f"{i}/{PARTS}"), checkpoint="abc", progress=False
        ).report
        for i in range(PARTS)
    ]
    return whole, parts


@pytest.mark.whole
def test_merged_shards_equal_the_whole(reports: tuple[Report, list[Report]], tmp_path: Path) -> None:
    whole, parts = reports
    for i, part in enumerate(parts):
        part.save(tmp_path / f"{i}.json")
    merged = merge([Report.load(tmp_path / f"{i}.json") for i in (1, 0)], EXPECTED)
    own = ("latency_ms", "latency_samples_ms", "stage_ms", "batched_call_ms", "mean_batch", "peak_mem_mb")
    own += ("deadline", "wall_s", "rollout_s", "notes")
    for field in dataclasses.fields(Report):
        if field.name not in own:
            assert getattr(merged, field.name) == getattr(whole, field.name), field.name
    assert merged.config_hash == config_hash(whole.config)
    assert merged.rollout_s == pytest.approx(sum(part.rollout_s for part in parts))
    assert merged.latency_ms == parts[0].latency_ms
    assert merged.notes[0].startswith("merged from 2 shards")
    assert any(note.startswith("shard 1/2: ") for note in merged.notes)
    merged.save(tmp_path / "merged.json")
    assert Report.load(tmp_path / "merged.json") == merged


@pytest.mark.whole
def test_shards_that_do_not_belong_together_are_refused(reports: tuple[Report, list[Report]]) -> None:
    whole, parts = reports
    with pytest.raises(DataError, match=r"episodes \(.*\) are in no report"):
        merge(parts[:1], EXPECTED)
    with pytest.raises(DataError, match="in more than one report"):
        merge([*parts, parts[1]], EXPECTED)
    with pytest.raises(ConfigError, match="not of a shard but of a whole"):
        merge([whole], EXPECTED)
    with pytest.raises(ConfigError, match="no report"):
        merge([], EXPECTED)
    for change, message in (
        ({"checkpoint": "abd"}, "checkpoint: 'abc' there, 'abd' here"),
        ({"dataset": "x"}, "dataset: None there, 'x' here"),
        ({"config": {**parts[1].config, "seed": 4}}, "seed: 0 there, 4 here"),
        ({"config": {**parts[1].config, "shard": "1/4"}}, "shards: 2 there, 4 here"),
    ):
        with pytest.raises(ConfigError, match=message):
            merge([parts[0], dataclasses.replace(parts[1], **change)], EXPECTED)
    with pytest.raises(DataError, match="of no evaluation of this config"):
        merge(parts, EXPECTED[:-1])
