"""The memo of a frozen text model: read once, bounded, least recently used first out."""

from __future__ import annotations

import torch
from torch import Tensor

from wamkit.nn.pretrained import Memo


def test_a_memo_computes_once_and_forgets_the_least_recently_used() -> None:
    computed: list[str] = []

    def compute(text: str) -> Tensor:
        computed.append(text)
        return torch.tensor(len(text))

    memo = Memo(2)
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        assert memo.read(text, compute).item() == len(text)
    assert computed == ["a", "bb", "ccc", "bb"]  # "a" was used last when "ccc" came
    memo.clear()
    memo.read("a", compute)
    assert computed[-1] == "a"
    assert len(computed) == 5


def test_more_texts_than_fit_are_all_read() -> None:
    memo = Memo(1)
    texts = ["a", "bb", "ccc"]
    assert [memo.read(text, lambda missed: torch.tensor(len(missed))).item() for text in texts] == [1, 2, 3]
