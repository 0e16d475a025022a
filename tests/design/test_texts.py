"""Streams of text: grammars are kept exactly, texts come from the data, other factors read them, no WAM by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from estimating import alone, tiny
from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import BinsConfig
from wamkit.contract.data import DataSpec
from wamkit.contract.grammar import Grammar
from wamkit.contract.specs import MILESTONES
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.contract.types import Budget, WindowSpec
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.spec import data_spec as spec_of
from wamkit.design import Design, DesignConfig, Factor, from_pretrained, save_pretrained
from wamkit.design.texts import Text, TextConfig
from wamkit.encoders.instruction_bpe import train_bpe
from wamkit.errors import ConfigError, DataError
from wamkit.estimators import Autoregressor, AutoregressorConfig, DenoiserConfig, Unmasker, UnmaskerConfig
from wamkit.training import OptimConfig
from wamkit.zoo import recipe

pytest.importorskip("tokenizers")
LENGTH, IDS = 4, 5  # steps, and ids besides the end token
SENTENCES = st.lists(
    st.lists(st.integers(0, IDS - 1), min_size=1, max_size=LENGTH).map(tuple),
    min_size=1,
    max_size=6,
    unique=True,
)


# -------------------------------------------------------------------------------------------------- grammars


def stream(grammar: Grammar) -> StreamSpec:
    return StreamSpec("words", "text", LENGTH, 1, 1, vocabulary=IDS + 1, grammar=grammar)


def whole(ids: list[int]) -> tuple[int, ...]:
    """Tokens of a text without its end."""
    return tuple(ids[: ids.index(IDS)] if IDS in ids else ids)


@settings(max_examples=40, deadline=None)
@given(sentences=SENTENCES, seed=st.integers(0, 1000))
def test_every_text_that_is_written_is_a_sentence(sentences: list[tuple[int, ...]], seed: int) -> None:
    """An untrained network at a high temperature writes nothing else, and ends with end tokens."""
    grammar = Grammar.of_sentences(sentences, IDS + 1, IDS)
    model = tiny(AutoregressorConfig(temperature=3.0), [stream(grammar)])
    assert isinstance(model, Autoregressor)
    with torch.no_grad():
        noise = RowNoise(range(seed, seed + 8))
        ids = model.generate(["words"], alone(model.trunk, 8), Budget(), noise).values["words"][..., 0]
    for row in ids.tolist():
        assert whole(row) in sentences
        assert row == [*whole(row), *[IDS] * (LENGTH - len(whole(row)))]
        assert grammar.accepts(row)


@settings(max_examples=60, deadline=None)
@given(sentences=SENTENCES, text=st.lists(st.integers(0, IDS), max_size=LENGTH))
def test_a_grammar_allows_its_sentences_and_nothing_else(
    sentences: list[tuple[int, ...]], text: list[int]
) -> None:
    grammar = Grammar.of_sentences(sentences, IDS + 1, IDS)
    ended = list(text) == [*whole(text), *[IDS] * (len(text) - len(whole(text)))]
    assert grammar.accepts(text) == (ended and whole(text) in sentences)
    for sentence in sentences:  # every sentence can be written, token by token
        for i, token in enumerate([*sentence, IDS]):
            assert bool(grammar.allowed(torch.tensor([sentence[:i]]))[0, token])


def test_the_grammar_is_what_keeps_the_sentences() -> None:
    """The same network without the list writes something else, so the test above can fail."""
    sentences = [(0, 1, 2), (3,)]
    model = tiny(AutoregressorConfig(temperature=3.0), [stream(Grammar(IDS + 1, IDS))])
    assert isinstance(model, Autoregressor)
    with torch.no_grad():
        ids = model.generate(["words"], alone(model.trunk, 32), Budget(), RowNoise(range(32))).values["words"]
    rows = ids[..., 0].tolist()
    assert sum(whole(row) in sentences for row in rows) < 16
    assert all(row == [*whole(row), *[IDS] * (LENGTH - len(whole(row)))] for row in rows)


def test_an_unmasker_writes_free_text_up_to_its_end_and_no_list() -> None:
    model = tiny(UnmaskerConfig(steps=2, temperature=3.0), [stream(Grammar(IDS + 1, IDS))])
    assert isinstance(model, Unmasker)
    with torch.no_grad():
        ids = model.generate(["words"], alone(model.trunk, 32), Budget(), RowNoise(range(32))).values["words"]
    assert bool((ids[:, :-1] == IDS).any())
    ended = (ids == IDS).cumsum(dim=1) > 0
    assert bool((ids[ended] == IDS).all())
    with pytest.raises(ConfigError, match="Write it with an autoregressor"):
        tiny(UnmaskerConfig(), [stream(Grammar.of_sentences([(0,)], IDS + 1, IDS))])


# ----------------------------------------------------------------------------------------------------- words


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=20).map(str.strip))
def test_no_text_loses_anything(text: str) -> None:
    words = TextConfig(length=100).build("words", data_spec())
    ids = words.encode([text, "push it"])
    assert words.decode(ids) == (text, "push it")
    assert words.grammar.accepts(ids[0, :, 0].tolist())


def test_texts_of_a_recording(tmp_path: Path) -> None:
    """The instruction and the number of the next milestone, from the data alone."""
    toy, spec = ToyWindows(30), data_spec()
    toy.action[8:12] = toy.action[18:21] = 0  # the arm comes to rest twice
    images = {c: np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for c, v in toy.images.items()}
    with DatasetWriter(tmp_path / "d", spec.observation, spec.action) as writer:
        for task, length in (("push it", 30), ("pull it", 14)):
            shown = {camera: frames[:length] for camera, frames in images.items()}
            writer.add(Episode(shown, toy.state[:length], toy.action[:length], task))
    data = Dataset(tmp_path / "d", extras=(MILESTONES,))
    config = TextConfig("{task}: part {part} of {parts}", length=32)
    words = config.build("subtask", spec_of(data))
    assert words.extras == (MILESTONES,)
    frames = np.arange(data.num_frames)
    said = words.of(data.windows(frames, WindowSpec(horizon=1)).observation)
    for episode in data.episodes:
        ends = [m for m in data.milestones if episode.start <= m < episode.stop]
        for frame in range(episode.start, episode.stop):
            part = min(sum(m <= frame for m in ends) + 1, len(ends))
            assert said[frame] == f"{data.tasks[data._task_index[frame]]}: part {part} of {len(ends)}"
    assert len(set(said)) == 3 + 2
    assert words.decode(words.encode(said)) == tuple(said)


def named(**changes: object) -> Text:
    config = TextConfig("{task}, {phase}", {"phase": ("reach", "grasp")}, length=24)
    return replace(config, **changes).build("subtask", replace(data_spec(), extras={"phase": (1,)}))  # type: ignore[arg-type]


def test_an_extra_names_the_subtask(toy: ToyWindows) -> None:
    seen = toy.windows(np.array([3, 4]), WindowSpec()).observation
    words = named()
    assert words.of(replace(seen, extras={"phase": torch.tensor([[[1]], [[0]]])})) == [
        "pull it, grasp",
        "push it, reach",
    ]
    with pytest.raises(DataError, match="extra 'phase' is 2 in a frame, and `names` has words for 0 to 1"):
        words.of(replace(seen, extras={"phase": torch.tensor([[[2]], [[0]]])}))
    target = words.target(replace(seen, extras={"phase": torch.tensor([[[1]], [[0]]])}))
    assert target.values.shape == (2, 24, 1)
    ends = (target.values[..., 0] == words.end).float().argmax(dim=1)
    assert (
        target.pad.float().argmax(dim=1).tolist() == (ends + 1).tolist()
    )  # the first end is learned, no other


def test_words_by_any_tokenizer(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(train_bpe(["push it", "pull it"] * 5, 280))
    words = TextConfig(tokenizer=str(file), length=8).build("words", data_spec())
    assert words.decode(words.encode(["push it"])) == ("push it",)
    assert words.spec().vocabulary == words.end + 1 <= 281


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"template": "{tsk}"}, "Did you mean 'task'"),
        ({"template": "{task"}, "Write a brace as two"),
        ({"sentences": ("push {it}",)}, "has the slot 'it'"),
        ({"sentences": ("push it",), "length": 1}, "more than `length` 1"),
        ({"sentences": (" push it",)}, "Write it like that"),
        ({"template": "{part}"}, "needs the extra 'episode_milestones'"),
        ({"sentences": ("{a}{a2}",), "slots": {"a": tuple(map(str, range(300))), "a2": tuple(map(str, range(300)))}},
         "makes more than 65536 sentences"),
        ({"tokenizer": "nowhere.json"}, "no vocabulary at 'nowhere.json'"),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_written_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextConfig(**config).build("words", data_spec())  # type: ignore[arg-type]


def test_data_that_the_list_does_not_have_is_refused() -> None:
    words = TextConfig(sentences=("push {what}",), slots={"what": ("it", "them")}, length=8).build(
        "w", data_spec()
    )
    assert words.decode(words.encode(["push them", "push it"])) == ("push them", "push it")
    with pytest.raises(DataError, match="'pull it' is none of the sentences"):
        words.encode(["pull it"])
    with pytest.raises(DataError, match="more than `length` 2"):
        TextConfig(length=2).build("w", data_spec()).encode(["a long text that nobody can say in two tokens"])


# ---------------------------------------------------------------------------------------------------- designs


def talking(**changes: object) -> DesignConfig:
    """A subtask in words, then the action given it: p(l|c) p(a|l,c) (hierarchical policies)."""
    config = replace(
        recipe("direct"),
        texts={"subtask": TextConfig(sentences=("push it", "pull it", "turn it"), length=6)},
        estimators={"words": AutoregressorConfig(), "policy": DenoiserConfig(steps=2)},
        factors=(Factor(("subtask",), (), "words"), Factor(("action",), ("subtask",), "policy")),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def fitted(config: DesignConfig, data: DataSpec, toy: ToyWindows, steps: int) -> Design:
    torch.manual_seed(0)
    design = Design(config, data)
    design.fit(toy, 0)
    optimizer = OptimConfig(lr=1e-3).build(design)
    for step in range(steps):
        losses = design.loss(toy.windows(np.arange(8) + 20 * step, design.training_window))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    return design.eval()


def test_a_policy_says_what_it_does_and_does_what_it_says(
    data: DataSpec, toy: ToyWindows, tmp_path: Path
) -> None:
    design = fitted(talking(), data, toy, 15)
    assert design.factorisation() == "p(l|c) p(a|l,c)"
    assert design.cells()["substrate"] == "None"
    assert (design.graph.wam().kind, design.cells()["coupling"]) == ("VLA", "Direct")
    observation = acting_observation(toy, [30, 61], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(2), Budget(), [1, 2])
    assert forecast.text == {"subtask": ("push it", "pull it")}  # learned from the instruction
    assert not forecast.future
    actions = []
    for words in ("push it", "turn it"):
        said = {"subtask": design.texts["subtask"].encode([words] * 2)}
        made, _ = design.forecast(observation, design.initial_state(2), Budget(), [1, 2], said)
        actions.append(made.action)
        assert "subtask" not in made.nfe
    assert torch.equal(actions[0][:1], forecast.action[:1])
    assert not torch.equal(*actions)
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    after, _ = again.forecast(observation, again.initial_state(2), Budget(), [1, 2])
    assert after.text == forecast.text
    assert torch.equal(after.action, forecast.action)


def test_a_text_beside_a_future_changes_neither_cell_nor_gate(data: DataSpec, toy: ToyWindows) -> None:
    base = recipe("joint")
    config = replace(
        base,
        texts=talking().texts,
        estimators={**base.estimators, "words": AutoregressorConfig()},
        factors=(*base.factors, Factor(("subtask",), ("future",), "words")),
    )
    design, plain = fitted(config, data, toy, 1), Design(base, data)
    assert design.cells() == plain.cells()
    assert design.graph.wam() == plain.graph.wam()
    observation = acting_observation(toy, [30], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(1), Budget(), [1])
    assert forecast.text["subtask"][0] in ("push it", "pull it", "turn it")
    silent, _ = design.forecast(observation, design.initial_state(1), Budget(future=False), [1])
    assert not silent.text
    assert "subtask" not in silent.nfe


def test_words_and_actions_in_one_causal_stream(data: DataSpec, toy: ToyWindows) -> None:
    config = talking(
        action=BinsConfig(bins=32, ticks_per_token=8),
        estimators={"world": AutoregressorConfig()},
        factors=(Factor(("subtask", "action"), (), "world"),),
    )
    design = fitted(config, data, toy, 1)
    assert design.factorisation() == "p(l,a|c)"
    assert not design.graph.wam().is_wam
    observation = acting_observation(toy, [30], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(1), Budget(), [1])
    assert forecast.text["subtask"][0] in ("push it", "pull it", "turn it")
    assert forecast.action.shape == (1, 16, 4)
