"""Files of ours: read as UTF-8, refused with the file and the way out, written whole or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wamkit.errors import DataError
from wamkit.storage import read_json, write_atomically


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "expected a JSON object, got list"),
        (b"{", "not JSON"),
        (b"\xff{}", "byte 0 is not UTF-8"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is given twice"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_damaged_document_is_refused_with_file_and_way_out(tmp_path, content, said):
    path = tmp_path / "facts.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"facts\.json.*{said}.*Copy it again\."):
        read_json(path, "Copy it again.")


def test_a_missing_document_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"facts\.json: no such file\. Copy it again\."):
        read_json(tmp_path / "facts.json", "Copy it again.")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path, "Copy it again.")


def test_a_document_is_read_as_it_was_written(tmp_path):
    values = {"task": "öffne die Schublade", "n": [1, 2.5, None, True]}
    write_atomically(tmp_path / "a.json", json.dumps(values, ensure_ascii=False).encode())
    assert read_json(tmp_path / "a.json", "") == values
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "report [1].json"
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom wamkit.storage import write_atomically\n"
        "os.replace = lambda *paths: os.kill(os.getpid(), 9)\nwrite_atomically(Path(sys.argv[1]), b'half')"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code, str(file)]).returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"half"
    running = left.with_name(f"{left.name.rpartition('-')[0]}-{os.getppid()}.part")
    others = [running, tmp_path / f".other{left.name}", tmp_path / ".report [1].json.x.part"]
    for other in others:
        other.write_text("of somebody else")
    write_atomically(file, b"whole")
    assert {*tmp_path.iterdir()} == {file, *others}
    assert file.read_bytes() == b"whole"
