"""Names of any text as keys of modules and parameters: injective, reversible, and unchanged where they are ordinary."""

from __future__ import annotations

import string

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from support import ODD_NAMES
from wamkit.nn.named import Named, NamedParameters, key_of, name_of

ODD = [
    *ODD_NAMES,
    "",
    "a",
    "%=type",
    "%=",
    "%2E_",
    "_modules",
    "training",
    "__a.b__",
    "\ud800",
    "..",
    "{x}",
]
TEXT = st.one_of(st.sampled_from(ODD), st.text(max_size=12), st.text("%=.2E_5", max_size=8))


@given(TEXT)
def test_a_name_comes_back_from_its_key(name: str) -> None:
    key = key_of(name)
    assert name_of(key) == name
    assert "." not in key
    assert key
    key.encode()


@given(TEXT, TEXT)
def test_two_names_have_two_keys(one: str, other: str) -> None:
    assert (key_of(one) == key_of(other)) == (one == other)


@given(st.text(string.ascii_letters + string.digits + "_- ä", min_size=1, max_size=12))
def test_ordinary_names_keep_the_keys_of_module_dictionaries(name: str) -> None:
    try:
        keys = list(nn.ModuleDict({name: nn.Identity()})._modules)
    except KeyError:  # an attribute of modules: torch refuses it
        return
    if not name.startswith("__"):
        assert [key_of(name)] == keys


@given(st.lists(TEXT, unique=True, max_size=6))
def test_it_is_a_mapping_in_the_order_given(names: list[str]) -> None:
    modules = {name: nn.Linear(1, 1) for name in names}
    named = Named(modules)
    assert list(named) == named.keys() == names
    assert len(named) == len(names)
    assert bool(named) == bool(names)
    assert named.items() == list(modules.items())
    assert named.values() == list(modules.values())
    assert all(name in named and named[name] is module for name, module in modules.items())
    assert "absent one" not in named
    with pytest.raises(KeyError, match="absent one"):
        named["absent one"]


@given(st.lists(TEXT, unique=True, min_size=1, max_size=6))
def test_weights_go_to_the_module_of_their_name(names: list[str]) -> None:
    one, other = (Named({name: nn.Linear(2, 2) for name in names}) for _ in range(2))
    other.load_state_dict(one.state_dict())
    for name in names:
        assert torch.equal(one[name].weight, other[name].weight)
        assert one.get_submodule(key_of(name)) is one[name]


@given(st.lists(TEXT, unique=True, min_size=1, max_size=6))
def test_parameters_have_names_too(names: list[str]) -> None:
    values = {name: torch.full((2,), float(i)) for i, name in enumerate(names)}
    one, other = NamedParameters(values), NamedParameters({name: torch.zeros(2) for name in names})
    assert [name for name, _ in one.named_parameters()] == [key_of(name) for name in sorted(names)]
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(other[name], value) for name, value in values.items())
