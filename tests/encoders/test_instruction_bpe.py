"""Byte-pair instructions: nothing is lost, common words are one piece, content decides the tokens."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes import look, pose, scene_spec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders import InstructionBPEConfig, InstructionBPEEncoder, train_bpe
from wamkit.encoders.instruction_bpe import read_vocabulary
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError, MissingExtraError

pytest.importorskip("tokenizers")
TINY = InstructionBPEConfig(length=12, hidden=16, heads=2, layers=1)
TEXTS = [line for task in MetaWorldConfig.task_names() for line in MetaWorldConfig(task=task).phrases()]


def build(config: InstructionBPEConfig = TINY) -> InstructionBPEEncoder:
    torch.manual_seed(0)
    return config.build(scene_spec(), WindowSpec(), 16).eval()


def say(*texts: str) -> Observation:
    frame = look([pose(0, 0, 0.2)])
    return replace(frame, task=texts, state=frame.state.expand(len(texts), -1, -1))


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=40))
def test_no_text_loses_anything(text: str) -> None:
    vocabulary = read_vocabulary("")
    assert vocabulary.decode(vocabulary.encode(text).ids).removeprefix(" ") == text.removeprefix(" ")


def test_the_vocabulary_is_the_one_of_the_benchmark() -> None:
    own = json.loads(build().vocabulary.to_str())["model"]["vocab"]
    assert own == json.loads(train_bpe(TEXTS, 512))["model"]["vocab"]
    assert len(own) <= 512


def test_common_words_are_one_piece_and_sentences_are_short() -> None:
    encoder = build()
    assert len(encoder.pieces("the")) == 1
    pieces = sum(len(encoder.pieces(text)) for text in TEXTS)
    assert pieces * 3 < sum(len(text.encode()) for text in TEXTS)
    assert max(len(encoder.pieces(text)) for text in TEXTS) <= InstructionBPEConfig().length


def test_content_decides_and_neighbours_do_not() -> None:
    encoder = build()
    tokens, pad = encoder(say("open the drawer", "close the drawer", "open the drawer"))
    assert tokens.shape == (3, 12, 16)
    assert torch.equal(tokens[0], tokens[2])
    assert (~pad).sum(dim=1).tolist() == [
        len(encoder.pieces(t)) for t in ("open the drawer", "close the drawer")
    ] + [len(encoder.pieces("open the drawer"))]
    alone = encoder(say("open the drawer"))[0][0]
    torch.testing.assert_close(alone[~pad[0]], tokens[0][~pad[0]], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(
        tokens[0][~pad[0]][-1], tokens[1][~pad[1]][-1]
    )  # the first word reaches the last


def test_empty_and_overlong_texts_are_encoded() -> None:
    tokens, pad = build()(say("", "push " * 40, "öffne 引き出し"))
    assert tokens.isfinite().all()
    assert (~pad).any(dim=1).all()
    assert not pad[1].any()


def test_a_vocabulary_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(train_bpe(["zebra zebra"] * 20, 300))
    encoder = build(replace(TINY, vocabulary=str(path)))
    assert len(encoder.pieces("zebra")) == 1
    assert len(build().pieces("zebra")) > 1
    with pytest.raises(ConfigError, match=r"no vocabulary at .*nowhere.json"):
        build(replace(TINY, vocabulary="nowhere.json"))
    with pytest.raises(ConfigError, match="vocabulary = 100"):
        train_bpe(["a"], 100)
    with pytest.raises(ConfigError, match="3 heads do not divide"):
        build(replace(TINY, heads=3))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"wamkit\[text\]"):
        build()
