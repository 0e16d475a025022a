"""Config files and options as users write them: a text stays a text, and what cannot be read is told in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.config import decode, encode, parse, read_config
from wamkit.config.files import Written, read_option, read_yaml
from wamkit.design import DesignConfig
from wamkit.errors import ConfigError
from wamkit.training import TrainConfig
from wamkit.verbs.load import load
from wamkit.zoo import recipe

BROKEN: dict[str, tuple[bytes, str]] = {
    "twice": (b"steps: 1\nseed: 2\nsteps: 3\n", r"line 3: the key 'steps' is given twice. Remove one"),
    "twice inside": (b"optim:\n  lr: 1\n  lr: 2\n", r"line 3: the key 'lr' is given twice"),
    "twice, quoted": (b"steps: 1\n'steps': 3\n", r"line 2: the key 'steps' is given twice"),
    "twice in JSON": (b'{"steps": 1, "steps": 2}', r"line 1: the key 'steps' is given twice"),
    "latin-1": ("name: é\n".encode("latin-1"), r"not a text file \(byte 6 is not UTF-8\). Name a text file of YAML"),
    "a film": (b"\x00\x00\x00\x18ftypmp42\xff", r"not a text file|not YAML"),
    "control": (b"name: \x07\n", r"not YAML"),
    "empty": (b"", r"must hold a mapping such as `name: value`, and holds nothing"),
    "a comment": (b"# nothing\n", r"must hold a mapping such as `name: value`, and holds"),
    "a list": (b"- 1\n", r"must hold a mapping such as `name: value`, and holds another value"),
    "a number": (b"3\n", r"must hold a mapping"),
    "unclosed": (b"a: [", r"not YAML: .* \(line 1\)"),
    "two documents": (b"a: 1\n---\nb: 2\n", r"not YAML: "),
    "a tag": (b"a: !!python/object:os.system {}\n", r"not YAML|the tag"),
    "another tag": (b"a: !thing 3\n", r"line 1: the tag !thing means nothing here"),
    "a circle": (b"a: &x [*x]\n", r"an alias stands inside its own anchor"),
    "a list as key": (b"[1, 2]: 3\n", r"line 1: a key must be a text"),
    "deep": (b"a: " + b"[" * 1500 + b"]" * 1500, r"not YAML: nested too deep"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_a_file_that_cannot_be_read_is_told_with_its_name(case: str, ending: str, tmp_path: Path) -> None:
    content, message = BROKEN[case]
    file = tmp_path / f"run.{ending}"
    file.write_bytes(content)
    for read in (lambda: parse(TrainConfig, ["--config_path", str(file)]), lambda: load(str(file))):
        with pytest.raises(ConfigError, match=message) as caught:
            read()
        assert str(file) in str(caught.value)
        assert len(str(caught.value)) < 300 + len(str(file))
        assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"x\.yaml: cannot be read \(Is a directory\). Name a text file"):
        load(str(tmp_path / "x.yaml"))
    with pytest.raises(ConfigError, match="Is a directory"):
        parse(TrainConfig, ["--config_path", str(tmp_path)])


def test_a_file_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes("design: {name: größer}\n".encode())
    assert parse(TrainConfig, ["--config_path", str(file)]).design.name == "größer"


TEXTS = (
    "no", "on", "yes", "2024_01_01", "2024-01-01", "12:30", "007", "1e3", "5", "0x10", "true", "a: b", "#5", "a #b",
    "@x", "*a", "&a", "!x", "%x", "{images}{task}", "[x", "- a", "a\tb", "größer", "'", "x'y", "=", "<<", "nan", ".inf",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_an_option_that_is_a_text_is_the_text_that_was_typed(text: str) -> None:
    found = parse(TrainConfig, [f"--design.name={text}", f"--out={text}", f"--pretrained={text}"])
    assert (found.design.name, found.out, found.pretrained) == (text, Path(text), text)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(text=st.text(st.characters(exclude_categories=["C"]), min_size=1))
def test_every_text_can_be_typed(text: str) -> None:
    written = read_option(text, "here")
    assert written.text == text or text.lstrip()[0] in "'\""


@pytest.mark.parametrize("text", ["no", "2024_01_01", "12:30", "007", "1e3", "5", "true", "2024-01-01"])
def test_a_plain_text_of_a_file_is_the_text_that_was_written(text: str) -> None:
    values = read_yaml(f"name: {text}\n", "here")
    assert decode(DesignConfig, values, "here").name == text


def test_numbers_are_those_of_yaml_1_2() -> None:
    found = read_yaml("[1e-3, 1.0e+2, .5, 007, 0x10, 0o10, -3, .inf, null, ~, true]", "here")
    assert [v.value for v in found] == [1e-3, 100.0, 0.5, 7, 16, 8, -3, float("inf"), None, None, True]
    assert read_yaml("'5'", "here") == "5"
    assert read_yaml("no", "here") == "no"
    assert isinstance(read_yaml("9" * 5000, "here"), str)  # of more digits than an integer has


OPTIONS: dict[str, str] = {
    "--optim.lr .nan": r"^command line: optim.lr: must be finite, got nan\.$",
    "--optim.lr fast": r"^command line: optim.lr: must be a number, got the text 'fast'\.$",
    "--steps 1e3": r"^command line: steps: must be an integer, got 1000\.0\.$",
    "--steps '5'": r"^command line: steps: must be an integer, got the text '5'\.$",
    "--steps true": r"^command line: steps: must be an integer, got true\.$",
    "--gradient_norms yes": r"^command line: gradient_norms: must be true or false, got the text 'yes'\.$",
    "--fresh encoders": r"^command line: fresh: must be a list, got the text 'encoders'. Write \[encoders\]\.$",
    "--fresh [a,a]": r"^command line: fresh: must name each entry once, got the list \['a', 'a'\]\.$",
    "--out null": r"^command line: out: must be a path, got null\.$",
    "--out ": r"^command line: out: must be a path, got the text ''\.$",
    "--optim {lr:": r"^command line: --optim: not YAML: ",
    "--optim 3": r"^command line: optim: must be the settings of a OptimConfig \(a mapping of its fields\), got 3\.$",
    "--optim {lr: 1, lr: 2}": r"the key 'lr' is given twice",
    "--ramps {video:3}": r"\{video:3\} is one word to YAML. Put a space behind the colon: \{video: 3\}\.$",
    "--view.every 3": r"no 'view' in the options\. Did you mean --design\.view\.every\?$",
    "--optim.lr.x 3": r"'lr' is 0\.001, which has no fields",
}


@pytest.mark.parametrize("line", OPTIONS)
def test_an_option_that_cannot_be_is_told_in_the_users_words(line: str) -> None:
    key, _, value = line.partition(" ")
    with pytest.raises(ConfigError, match=OPTIONS[line]) as caught:
        parse(TrainConfig, [key, value])
    assert len(str(caught.value)) < 300


def test_options_reach_into_what_other_options_gave() -> None:
    found = parse(TrainConfig, ["--optim", "{lr: 1e-2, warmup: 3}", "--optim.warmup", "4"])
    assert (found.optim.lr, found.optim.warmup) == (0.01, 4)


def test_null_takes_an_entry_out_of_a_mapping_of_configs() -> None:
    ramp = "{end: 4, last: 2.0}"
    found = parse(TrainConfig, ["--ramps", f"{{a: {ramp}, b: {ramp}}}", "--ramps.a", "null"])
    assert list(found.ramps) == ["b"]


def test_a_config_file_reads_as_it_was_written(tmp_path: Path) -> None:
    config = TrainConfig(design=recipe("joint"))
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(encode(config)), encoding="utf-8")
    assert decode(TrainConfig, read_config(file), "here") == config


def plain(value: Any) -> Any:
    if isinstance(value, Written):
        return value.value
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(text=st.text(st.sampled_from("ab:1- []{},'\"\n#&*!?|>%@.~\t\0\x85"), max_size=30))
def test_any_file_is_a_value_or_refused_in_words(text: str) -> None:
    value, refusal = None, "here: "
    try:
        value = plain(read_yaml(text, "here"))
    except ConfigError as error:
        refusal = str(error)
    assert refusal.startswith("here: ")
    assert value is None or isinstance(value, bool | int | float | str | list | dict)
