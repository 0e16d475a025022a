"""The rule for places that verbs write to: one writer, one set of inputs, and nothing finished replaced unasked."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.errors import BusyError, ConfigError, DataError
from wamkit.storage import write_atomically
from wamkit.storage.output import Result, output

A, B = {"data": "sha256:a", "config": {"steps": 1}}, {"data": "sha256:b", "config": {"steps": 2}}


def a_result(folder: Path, **more: object) -> Result:
    return Result(folder / "report.json", "evaluate", **more)  # type: ignore[arg-type]


def resumable(folder: Path) -> Result:
    journal = folder / "journal"

    def discard() -> None:
        journal.unlink(missing_ok=True)

    return a_result(folder, begun=journal.exists, discard=discard, tidy=discard)


def write(result: Result, inputs: dict, text: str = "result", **more: bool) -> None:
    with output(result, inputs, **more):
        result.file.write_text(text)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_finished_result_is_replaced_only_when_asked(tmp_path: Path) -> None:
    result = a_result(tmp_path / "out")
    write(result, A)
    before = content(result.place)
    with pytest.raises(ConfigError, match=r"of this very `evaluate`: nothing is left to do\..*`overwrite`"):
        write(result, A, "again")
    with pytest.raises(
        ConfigError, match=r"another `evaluate`: data differ; config.steps: 1 there, 2 here\."
    ):
        write(result, B, "again")
    assert content(result.place) == before
    write(result, B, "again", overwrite=True)
    assert result.file.read_text() == "again"
    with pytest.raises(ConfigError, match="data differ"):
        write(result, A)


def test_what_a_process_killed_at_its_end_has_left_is_tidied(tmp_path: Path) -> None:
    result = resumable(tmp_path)
    write(result, A)
    before = content(tmp_path)
    (tmp_path / "journal").write_text("every episode")
    with pytest.raises(ConfigError, match="nothing is left to do"):
        write(result, A, "again")
    assert content(tmp_path) == before


def test_a_result_of_which_nobody_says_what_it_is_made_of_is_not_replaced(tmp_path: Path) -> None:
    result = a_result(tmp_path)
    result.file.write_text("old")
    with pytest.raises(ConfigError, match=r"report\.json exists\."):
        write(result, A)
    assert content(tmp_path) == {"report.json": b"old"}


def test_unfinished_work_goes_on_only_with_the_same_inputs(tmp_path: Path) -> None:
    result = resumable(tmp_path)

    def die() -> None:
        (tmp_path / "journal").write_text("two episodes")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), output(result, A):
        die()
    with pytest.raises(
        ConfigError, match=r"another, unfinished `evaluate`: data differ; config\.steps: 1 there"
    ):
        write(result, B)
    with output(result, A):
        assert (tmp_path / "journal").read_text() == "two episodes"
        result.file.write_text("result")
    assert sorted(content(tmp_path)) == ["report.inputs.json", "report.json"]
    with pytest.raises(KeyboardInterrupt), output(result, B, overwrite=True):
        die()
    assert result.file.read_text() == "result"  # until the new one is there
    with pytest.raises(ConfigError, match="another `evaluate`"):
        write(result, A)
    write(result, B, "new")  # asked for once, and not finished since
    assert result.file.read_text() == "new"


def test_a_leftover_journal_of_a_finished_result_is_not_gone_on_with(tmp_path: Path) -> None:
    result = resumable(tmp_path)
    write(result, A)
    (tmp_path / "journal").write_text("all episodes")  # killed before it was removed
    with output(result, A, overwrite=True):
        assert not (tmp_path / "journal").exists()
        result.file.write_text("anew")


@pytest.mark.parametrize("before", [False, True])
def test_an_error_before_anything_was_written_leaves_the_place_as_it_was(
    tmp_path: Path, before: bool
) -> None:
    result = a_result(tmp_path / "out")
    if before:
        write(result, A)
    there = content(result.place) if before else None
    with pytest.raises(DataError), output(result, B, overwrite=before):
        raise DataError("wrong data")
    assert (content(result.place) if before else None) == there
    assert result.place.exists() == before


def test_places_of_another_kind_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "data" / "meta").mkdir(parents=True)
    (tmp_path / "data" / "meta" / "info.json").write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    for name, said in (
        ("file", "is a file, and the output is a folder"),
        ("file/in/it", "is a file, so no folder can be made in it"),
        ("data", "is a dataset"),
        ("model", "is a checkpoint"),
        ("loop", "is a file, and the output is a folder"),
    ):
        with pytest.raises(ConfigError, match=said):
            write(a_result(tmp_path / name), A)
    for place, said in (
        (tmp_path / "folder", "is a folder, and the output is a file"),
        (Path(os.devnull), "no regular file"),
        (tmp_path / "file" / "page.html", "is a file, so no file can be made in it"),
    ):
        with pytest.raises(ConfigError, match=said):
            write(Result(place, "report", whole_folder=False), A)
    assert sorted(tmp_path.rglob("*")) == before
    write(a_result(tmp_path / "folder" / "not" / "yet"), A)
    write(Result(tmp_path / "new" / "page.html", "report", whole_folder=False), A)


def test_a_file_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.html"
    precious.write_text("my thesis")
    result = Result(
        precious, "report", whole_folder=False, ours=lambda file: file.read_text().startswith("<!")
    )
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="is no result of `report`"):
            write(result, A, overwrite=overwrite)
    assert content(tmp_path)["thesis.html"] == b"my thesis"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    result = a_result(tmp_path / "out")
    with output(result, A):
        with pytest.raises(BusyError, match="is being written by process"):
            write(result, A, overwrite=True)
        result.file.write_text("first")
    assert result.file.read_text() == "first"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_inputs_are_refused_or_say_what_they_said(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        result = a_result(Path(name))
        write(result, A)
        whole = result.inputs.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        cut = data.draw(st.booleans())
        byte = data.draw(st.integers(0, 255))
        result.inputs.write_bytes(whole[:at] if cut else whole[:at] + bytes([byte]) + whole[at + 1 :])
        for inputs in (A, B):
            with pytest.raises((ConfigError, DataError), match="report"):
                write(result, inputs)
        assert result.file.read_text() == "result"
        write(result, B, "new", overwrite=True)  # the way out that both messages name
        assert json.loads(result.inputs.read_text())["inputs"] == B


def test_the_result_of_another_verb_is_named(tmp_path: Path) -> None:
    write(Result(tmp_path / "report.json", "merge"), A)
    with pytest.raises(
        ConfigError, match=r"holds what `merge` has written\. Choose another `out`, or set `overwrite`"
    ):
        write(a_result(tmp_path), A)
    write(a_result(tmp_path), A, "mine", overwrite=True)
    assert (tmp_path / "report.json").read_text() == "mine"


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "a.json", b"{}")
    assert caught.value.filename == str(tmp_path / "a.json")
    assert not list(tmp_path.iterdir())
