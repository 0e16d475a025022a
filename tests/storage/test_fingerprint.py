"""Fingerprints: equal ones pass, and every difference is named with both values, digests without their digits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wamkit.errors import ConfigError, DataError
from wamkit.storage.fingerprint import LISTED, differences, differing, digest, file_digest, require_same

LEAVES = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers(), max_size=3)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.dictionaries(st.sampled_from("abcde"), inner, min_size=1, max_size=3),
    max_leaves=8,
)
PRINTS = st.dictionaries(st.sampled_from("abcde"), TREES, min_size=1, max_size=4)


@given(PRINTS)
def test_what_was_stored_as_json_is_the_same(values: dict[str, Any]) -> None:
    stored = json.loads(json.dumps(values))
    require_same(stored, values, "out", "Go.")
    assert differences(stored, values) == []


@given(PRINTS, st.data())
def test_one_changed_leaf_is_named_with_both_values(values: dict[str, Any], data: st.DataObject) -> None:
    changed, path = copy.deepcopy(values), []
    node: Any = changed
    while isinstance(node, dict):
        path.append(data.draw(st.sampled_from(sorted(node))))
        parent, node = node, node[path[-1]]
    parent[path[-1]] = "another"
    place = ".".join(path)
    assert differing(values, changed) == {place: (node, "another")}
    with pytest.raises(ConfigError) as raised:
        require_same(values, changed, "out holds another run", "Choose another `out`.")
    message = str(raised.value)
    assert message == f"out holds another run: {place}: {node!r} there, 'another' here. Choose another `out`."


def test_tuples_and_paths_are_compared_in_the_form_that_json_gives_them() -> None:
    stored = {"a": [1, 2], "b": "x/y"}
    require_same(stored, {"a": (1, 2), "b": Path("x/y")}, "out", "Go.")
    with pytest.raises(ConfigError, match=r"a: \[1, 2\] there, \[1, 3\] here; b: 'x/y' there, 'x/z' here"):
        require_same(stored, {"a": (1, 3), "b": Path("x/z")}, "out", "Go.")


def test_digests_are_named_without_their_digits(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^out: data\.action values differ; steps: 1 there, 2 here\. Go\.$"
    ):
        require_same(
            {"data": {"action values": digest(b"1")}, "steps": 1},
            {"data": {"action values": digest(b"2")}, "steps": 2},
            "out",
            "Go.",
        )
    (tmp_path / "file").write_bytes(b"12")
    assert file_digest(tmp_path / "file") == digest(b"1", b"2")
    with pytest.raises(DataError, match="none: cannot be read"):
        file_digest(tmp_path / "none")


def test_many_differences_are_counted_and_long_values_cut() -> None:
    stored = {f"field{i:02d}": "x" * 1000 for i in range(LISTED + 5)}
    with pytest.raises(ConfigError) as raised:
        require_same(stored, dict.fromkeys(stored, 1), "out", "Go.")
    assert str(raised.value).endswith("; and 5 more. Go.")
    assert len(str(raised.value)) < 2500
