"""The page of a dataset: complete, self-contained, escaped, readable on a phone, and of few decoded pictures."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pages import CHROMIUM, fits_a_phone, read

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.data import DatasetWriter, Episode
from wamkit.data.frame_reader import FrameReader
from wamkit.errors import ConfigError
from wamkit.evaluation.output.dataset_page import render_dataset
from wamkit.verbs.datasets import check_dataset, show_dataset

NAMES = ("shoulder_rad", "elbow_rad", "locked_rad", "gripper_<odd>")
TASK = "put <b>it</b> & go"


def recorded(root: Path, lengths: tuple[int, ...] = (30, 24, 30, 28, 26), delay: int = 2) -> Path:
    """Episodes whose state follows the action, with a held stretch, one entry that never moves and one copy."""
    observation = ObservationSpec(
        {"front": CameraSpec(64, 64), "wrist": CameraSpec(64, 96)}, NAMES, rate_hz=20
    )
    action = ActionSpec(
        NAMES, low=(-9,) * 4, high=(9,) * 4, rate_hz=20, mode="absolute", rotation="none", gripper="none"
    )
    with DatasetWriter(root, observation, action) as writer:
        for number, length in enumerate(lengths):
            rng = np.random.default_rng(number % 4)  # episode 4 begins like episode 0 and is shorter
            command = np.cumsum(rng.normal(0, 0.1, (length + delay, 4)), axis=0)
            command[-6:], command[:, 2] = command[-6], 0.5
            shades = (np.arange(length) * 3 + 40 * number) % 200
            images = {
                name: np.broadcast_to(shades[:, None, None, None], (length, c.height, c.width, 3)).astype(
                    np.uint8
                )
                for name, c in observation.cameras.items()
            }
            writer.add(
                Episode(
                    images=images,
                    state=command[:length].astype(np.float32),
                    action=command[delay:].astype(np.float32),
                    task=TASK if number % 2 else "place",
                    success=number != 1,
                )
            )
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("shown") / "a<b set")


def test_the_page_is_well_formed_self_contained_and_escaped(root: Path, tmp_path: Path) -> None:
    show_dataset(root, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    parsed = read(page)
    assert all(a.startswith(("data:image/jpeg;base64,", "#")) for a in parsed.addresses)
    assert page.count("<img ") == 2 * 4 * 3  # cameras, episodes, first middle and last
    assert "<script" not in page
    assert TASK in parsed.text
    assert "Dataset: a<b set" in parsed.text
    assert "gripper_<odd>" in parsed.text


def test_every_figure_is_on_the_page(root: Path) -> None:
    shown = show_dataset(root)
    text = " ".join(read(render_dataset(shown)).text)
    survey = shown.survey
    assert survey is not None
    for expected in (
        "5 episodes, 138 frames",
        "20 Hz",
        "front 64 x 64",
        "80 %, 4 of 5",
        "24 to 30 frames, median 28 (1.4 s)",
        "Never moves: state locked_rad, action locked_rad.",
        "2 ticks, 100 ms",
        f"{100 * survey.idle:.1f} %: neither",
        "windows of joint 138",
    ):
        assert expected in text, expected
    assert [d.ticks for d in survey.delays if d.ticks is not None] == [2, 2, 2]
    # The last five ticks of an action are held; the state follows two ticks later.
    assert survey.idle == pytest.approx(5 * 3 / (138 - 5))


def test_what_a_design_cannot_read_is_said(root: Path) -> None:
    shown = show_dataset(root, recipe="force")
    assert shown.reading is not None
    assert shown.reading.windows is None
    assert shown.reading.reason in " ".join(read(render_dataset(shown)).text)


def test_only_the_pictures_of_the_page_are_decoded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    images = FrameReader.each

    def counted(self: FrameReader, camera: str, frames: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        asked.extend(frames.tolist())
        return images(self, camera, frames)

    monkeypatch.setattr(FrameReader, "each", counted)
    show_dataset(root)
    assert asked == []
    show_dataset(root, tmp_path / "page.html")
    # First, middle and last of episodes 0, 1, 3 and 4, by two cameras.
    assert asked == [0, 14, 29, 30, 41, 53, 84, 97, 111, 112, 124, 137] * 2


def test_near_duplicates_are_named(tmp_path: Path) -> None:
    shown = show_dataset(recorded(tmp_path / "set", (30, 24, 30, 28, 30)))
    assert shown.survey is not None
    assert [(d.first, d.second) for d in shown.survey.duplicates] == [(0, 4)]
    assert "1 pairs of near-duplicate episodes" not in render_dataset(shown)
    assert "1 pair of near-duplicate episodes" in render_dataset(shown)


def test_a_broken_dataset_shows_its_faults_and_nothing_else(tmp_path: Path) -> None:
    root = recorded(tmp_path / "set", (10, 12))
    (root / "meta/stats.json").unlink()
    (root / "videos/observation.images.front/chunk-000/file-000.mp4").unlink()
    shown = show_dataset(root, tmp_path / "page.html")
    assert shown.survey is None
    assert {f.kind for f in shown.checked.faults} == {"statistics", "video"}
    text = " ".join(read((tmp_path / "page.html").read_text()).text)
    assert "2 faults, listed below." in text
    for fault in shown.checked.faults:
        assert fault.message in text


def test_a_damaged_picture_is_a_fault_on_the_page(tmp_path: Path) -> None:
    root = recorded(tmp_path / "set", (10, 12))
    path = root / "videos/observation.images.front/chunk-000/file-000.mp4"
    content = bytearray(path.read_bytes())
    content[48 : len(content) // 3] = b"\xff" * (len(content) // 3 - 48)
    path.write_bytes(content)
    assert check_dataset(root).faults == ()
    shown = show_dataset(root, tmp_path / "page.html")
    assert [f.kind for f in shown.checked.faults] == ["picture"]
    assert {t.camera for t in shown.thumbnails} >= {"wrist"}


def test_figures_for_programs_are_plain_values(root: Path) -> None:
    plain = json.loads(json.dumps(show_dataset(root).to_json()))
    assert plain["sound"] is True
    assert plain["survey"]["constant"] == ["state locked_rad", "action locked_rad"]
    assert plain["reading"]["windows"]["count"] == 138
    assert plain["survey"]["delays"][0]["ticks"] == 2


def test_wrong_names_are_told_before_any_work(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe 'jiont'"):
        show_dataset(root, tmp_path / "page.html", recipe="jiont")
    with pytest.raises(ConfigError, match="no such folder"):
        show_dataset(tmp_path / "nothing", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
    show_dataset(root, tmp_path / "page.html")
    with pytest.raises(ConfigError, match="overwrite"):
        show_dataset(root, tmp_path / "page.html")
    show_dataset(root, tmp_path / "page.html", overwrite=True)


def test_the_same_dataset_gives_the_same_page(root: Path) -> None:
    first, second = (render_dataset(show_dataset(root)) for _ in range(2))
    assert first == second
    assert len(set(re.findall(r'id="([^"]+)"', first))) == len(re.findall(r'id="([^"]+)"', first))


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page cannot be laid out here")
@pytest.mark.parametrize("broken", [False, True])
def test_page_fits_a_phone(root: Path, tmp_path: Path, broken: bool) -> None:
    show_dataset(root, tmp_path / "shown.html")
    page = (tmp_path / "shown.html").read_text()
    if broken:
        shown = show_dataset(root)
        fault = check_dataset(_without_stats(tmp_path)).faults
        page = render_dataset(
            dataclasses.replace(shown, checked=dataclasses.replace(shown.checked, faults=fault))
        )
    assert fits_a_phone(page, tmp_path)


def _without_stats(folder: Path) -> Path:
    root = recorded(folder / "set", (10,))
    (root / "meta/stats.json").unlink()
    return root
