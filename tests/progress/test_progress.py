"""Progress: no stage is silent, a log has few lines, and what works needs to know of no terminal."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from wamkit.progress import Display, Stage, open_stages, say, showing, shown, stage, track
from wamkit.progress.display import Bars, Lines, clock_time, seconds_left


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


# --------------------------------------------------------------------------------------------------------- stages


def test_a_stage_counts_and_closes_with_and_without_a_display() -> None:
    with stage("work", total=3) as here:
        here.advance(2, "loss 1")
        assert [s.name for s in open_stages()] == ["work"]
    assert (here.done, here.note, here.depth) == (2, "loss 1", 0)
    assert open_stages() == ()
    with pytest.raises(ValueError, match="fault"), stage("outer"), stage("inner"):
        raise ValueError("fault")
    assert open_stages() == ()


def test_track_gives_every_item_and_knows_how_many() -> None:
    seen: list[tuple[int, int | None, int]] = []
    for item in track([5, 6, 7], "items"):
        (here,) = open_stages()
        seen.append((item, here.total, here.done))
    assert seen == [(5, 3, 0), (6, 3, 1), (7, 3, 2)]
    assert list(track(iter([1]), "unknown")) == [1]


def test_a_display_hears_of_every_stage_inside_and_of_none_outside() -> None:
    heard: list[tuple[str, str]] = []

    class Recorder(Display):
        def begin(self, stage: Stage) -> None:
            heard.append(("begin", stage.name))

        def update(self, stage: Stage) -> None:
            heard.append((f"{stage.done}", stage.name))

        def end(self, stage: Stage) -> None:
            heard.append(("end", stage.name))

        def say(self, text: str) -> None:
            heard.append(("say", text))

    with stage("before"):
        say("to nobody")
    with showing(Recorder()), stage("a") as outer:
        say("x", "y")
        for _ in track([0], "b"):
            pass
        outer.advance()
    with stage("after"):
        pass
    said = [("say", "x"), ("say", "y")]
    assert heard == [
        ("begin", "a"),
        *said,
        ("begin", "b"),
        ("1", "b"),
        ("end", "b"),
        ("1", "a"),
        ("end", "a"),
    ]


def test_a_stage_of_another_thread_lies_inside_and_moves_no_stage_of_this_one() -> None:
    depths: dict[str, int] = {}
    begun, done = threading.Event(), threading.Event()

    def decode() -> None:
        with stage("decode") as here:
            depths["decode"] = here.depth
            begun.set()
            done.wait(5)

    with stage("train"):
        thread = threading.Thread(target=decode)
        thread.start()
        assert begun.wait(5)
        with stage("steps") as here:
            depths["steps"] = here.depth
        done.set()
        thread.join()
    assert depths == {"steps": 1, "decode": 2}


# ------------------------------------------------------------------------------------------------------------ log


def test_a_log_has_one_line_per_stage_and_then_one_every_30_seconds() -> None:
    clock, file = Clock(), io.StringIO()
    lines = Lines(file, clock)
    with showing(lines), stage("train"), stage("steps", total=400) as steps:
        for _ in range(400):  # one step per second, each with a stage of its own
            with stage("save"):
                pass
            clock.now += 1
            steps.advance(note=f"loss {steps.done}")
    said = file.getvalue().splitlines()
    assert said[:2] == ["[0:00:00] steps", "[0:00:00] save"]
    assert said[2] == "[0:00:30] steps: 30 of 400, 0:06:10 left, loss 29"
    times = [
        int(m) * 60 + int(s) for m, s in (re.match(r"\[0:(\d\d):(\d\d)\]", t).groups() for t in said[1:])
    ]  # type: ignore[union-attr]
    assert times == list(range(0, 400, 30))


def test_a_slow_part_that_says_nothing_is_heard_of_all_the_same() -> None:
    clock, file = Clock(), io.StringIO()
    lines = Lines(file, clock)
    with showing(lines), stage("train"), stage("fit codec"):
        for _ in range(120):  # the thread of `looking` looks once per second; the part itself never reports
            clock.now += 1
            lines.look()
    assert file.getvalue().splitlines() == [
        "[0:00:00] fit codec", "[0:00:30] fit codec", "[0:01:00] fit codec", "[0:01:30] fit codec",
        "[0:02:00] fit codec",
    ]  # fmt: skip


def test_nobody_who_reads_the_log_any_more_is_no_reason_to_stop() -> None:
    tried = []

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text)
            raise BrokenPipeError

    with showing(Lines(Gone())), stage("train"), stage("steps") as here:
        here.advance()
    assert tried == ["[0:00:00] steps\n"]
    assert here.done == 1


# ------------------------------------------------------------------------------------------------------- terminal


def test_on_a_terminal_something_moves_every_second_whatever_the_stage_does() -> None:
    clock, file = Clock(), Terminal()
    bars = Bars(Console(file=file, force_terminal=True, width=80), clock, alone=False)
    drawn: list[str] = []

    def draw() -> None:
        file.seek(0)
        file.truncate()
        bars.draw()
        drawn.append(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()))

    with bars.live(), showing(bars), stage("train"), stage("fit"):
        with stage("codec"):
            for second in range(5):  # a slow part that never reports
                draw()
                assert "codec" in drawn[-1]
                assert f"0:00:0{second}" in drawn[-1]
                clock.now += 1
        draw()
        assert "codec" not in drawn[-1]
        with stage("steps", total=10) as steps:
            for _ in range(4):
                clock.now += 2
                steps.advance(note="action 0.5 future 1.25 latent 0.75 and more that is cut")
            draw()
            assert "4/10" in drawn[-1]
            assert "action 0" in drawn[-1]
            assert "0:00:12" in drawn[-1]  # left: six steps of two seconds
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("terminal", [True, False])
def test_shown_chooses_the_display_by_what_stderr_is(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    with shown("train"), shown("train joint"), stage("steps"):
        kinds = {type(s.display) for s in open_stages()}
        assert [s.name for s in open_stages()] == ["train joint", "steps"]  # the verb only gets its name
    assert kinds == {Bars if terminal else Lines}
    assert ("\x1b[" in file.getvalue()) == terminal
    assert "steps" in file.getvalue()
    if not terminal:
        assert file.getvalue() == "[0:00:00] steps\n"


def test_a_verb_that_is_told_to_be_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("predict", enabled=False), stage("windows"):
        pass
    assert capsys.readouterr() == ("", "")


# -------------------------------------------------------------------------------------------------------- figures


def test_the_time_left_is_that_of_the_steps_of_this_session() -> None:
    resumed = Stage("train", total=1000, first=600)
    assert seconds_left(resumed, 5.0) is None
    resumed.advance(100)
    assert seconds_left(resumed, 50.0) == pytest.approx(150.0)
    resumed.advance(300)
    assert seconds_left(resumed, 50.0) == 0.0
    assert seconds_left(Stage("decode"), 5.0) is None
    assert clock_time(3_725.4) == "1:02:05"


def test_what_is_said_stands_in_a_log_and_above_the_bars_as_it_is() -> None:
    log, screen, clock = io.StringIO(), Terminal(), Clock()
    bars = Bars(Console(file=screen, force_terminal=True, width=80), clock, alone=False)
    text = "reads action: [bold] 64 x 64"
    with showing(Lines(log, clock)):
        say(text)
    with bars.live(), showing(bars), stage("train"):
        say(text)
    assert log.getvalue() == f"[0:00:00] {text}\n"
    assert text in screen.getvalue()
