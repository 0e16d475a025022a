"""Text is printed as text: names with brackets, colons and braces come out of tables, bars and consoles unchanged."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from wamkit import cli
from wamkit.evaluation.output.films import file_name
from wamkit.evaluation.output.plots import canvas, style, to_svg
from wamkit.progress import showing, stage
from wamkit.progress.display import Bars
from wamkit.verbs.show import show_design

NAMES = ["[bold]x[/]", "[/x]", "[red]", ":smile:", "{0}", "%s", "[link=x]y", "\\[a]", "[", "$x$"]


def facts(name: str) -> dict[str, Any]:
    return {
        "name": name, "tuple": {"substrate": name}, "formula": f"p({name}|c)", "is_wam": False, "kind": name,
        "parameters": {name: 3}, "streams": {name: (1, 2, 3)}, "inputs": {name: "x"}, "outputs": {name: "y"},
        "futures": {name: name}, "faced": [], "action_sees": {"action": [[name], []]}, "controller": name,
        "sees": {name: name},
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("markup", [True, False])
def test_a_design_is_shown_with_its_own_name(name: str, markup: bool) -> None:
    out = io.StringIO()
    show_design(facts(name), Console(file=out, width=200, markup=markup))
    for text in (
        f"p({name}|c)",
        f"{name}: 3",
        f"{name}: x",
        f"{name}: y",
        f"no, a {name}",
        f"{name}: 1 of 2",
    ):
        assert text in out.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_prints_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(cli.CONSOLE, "_file", out)  # `file` would be put back as a closed capture
    cli.CONSOLE.print(f"{name}: kept 1 of 2 attempts")
    assert out.getvalue() == f"{name}: kept 1 of 2 attempts\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_progress_bar_shows_its_title(name: str) -> None:
    out = io.StringIO()
    bars = Bars(Console(file=out, force_terminal=True, width=120), alone=False)
    with bars.live(), showing(bars), stage(f"evaluate {name}"), stage("episodes", total=2) as here:
        here.advance(note=f"task {name}")
        bars.draw()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert f"evaluate {name} " in plain
    assert f"task {name}" in plain


@pytest.mark.parametrize("name", [*NAMES, "$\\frac$", "a & b", "<b>", '"'])
def test_a_plot_writes_names_as_they_are(name: str) -> None:
    with style("names"):
        figure, axes = canvas(1.0)
        axes.set_title(name)
        svg = to_svg(figure, name)
    parsed = ET.fromstring(svg)
    assert parsed.attrib["aria-label"] == name
    texts = ["".join(node.itertext()) for node in parsed.iter() if node.tag.endswith("text")]
    assert name in texts


KEYS = st.one_of(
    st.sampled_from(["a b/1", "a_b/1", "a__b/1", "a/b/1", "../x/1", ".hidden/2", "ä/3", "x" * 300]), st.text()
)


@given(KEYS, KEYS)
def test_two_episodes_never_share_a_file(one: str, other: str) -> None:
    first, second = file_name(one, ".mp4"), file_name(other, ".mp4")
    assert (first == second) == (one == other)
    assert PurePath(first).name == first
    assert re.fullmatch(r"[A-Za-z0-9_.+=,-]+", first)
    assert len(first.encode()) < 250


def test_ordinary_episodes_keep_the_names_of_their_files() -> None:
    assert file_name("drawer-open-v3/1000003", ".mp4") == "drawer-open-v3__1000003.mp4"
    assert (
        file_name("camera_distance-s3/drawer-open-v3/007", ".rrd")
        == "camera_distance-s3__drawer-open-v3__007.rrd"
    )
