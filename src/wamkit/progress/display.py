"""Displays of progress: bars with the time left on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, TextIO, final

from typing_extensions import override

from wamkit.progress.stages import Display, Stage, open_stages, showing, stage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

EVERY_S = 30.0  # seconds between lines of a log
FIRST_S = 1.0  # seconds until the first line
LOOK_S = 1.0  # seconds between looks of a log at the clock
REFRESH_HZ = 4.0  # times per second at which a terminal is drawn; its clocks move, whatever the stage does
KEPT = 1  # depth down to which stages stay on the terminal when they are done


@contextmanager
def shown(name: str, enabled: bool = True) -> Iterator[Stage]:
    """Show what happens inside on stderr: bars on a terminal, otherwise lines.

    Inside another one it is a stage of that one, or gives it its name where nothing else has begun.

    Args:
        name: name of the whole work, such as ``train joint``.
        enabled: false to open the stage alone, which is shown only where a display is shown already.
    """
    around = open_stages()
    if len(around) == 1 and around[0].display is not None:
        around[0].name = name
        around[0].advance(0)
        yield around[0]
        return
    with ExitStack() as stack:
        if enabled and not any(outer.display for outer in around):
            stack.enter_context(_displayed(sys.stderr))
        yield stack.enter_context(stage(name))


@contextmanager
def _displayed(file: TextIO) -> Iterator[None]:
    if file.isatty():
        from rich.console import Console

        terminal = Bars(Console(file=file, stderr=True))
        with terminal.live(), showing(terminal):
            yield
        return
    lines = Lines(file)
    with lines.looking(), showing(lines):
        yield


@final
class Lines(Display):
    """One line when a stage begins for the first time, and then one line of the innermost stage every 30 s.

    Args:
        file: where the lines go.
        clock: seconds, ascending.
        every: seconds between lines of a stage.
    """

    def __init__(
        self, file: TextIO, clock: Callable[[], float] = time.monotonic, every: float = EVERY_S
    ) -> None:
        self._file, self._clock, self._every = file, clock, every
        self._start = self._last = clock()
        self._begun: dict[Stage, float] = {}
        self._said: set[str] = set()
        self._lock = threading.Lock()

    @override
    def begin(self, stage: Stage) -> None:
        with self._lock:
            self._begun[stage] = self._clock()
            # The outermost one says nothing that its stages do not say.
            if stage.depth and stage.name not in self._said:
                self._said.add(stage.name)
                self._say(stage.name)

    @override
    def update(self, stage: Stage) -> None:
        self.look()

    @override
    def end(self, stage: Stage) -> None:
        with self._lock:
            self._begun.pop(stage, None)

    @override
    def say(self, text: str) -> None:
        with self._lock:
            self._say(text)

    def look(self) -> None:
        """Write a line if the last one is long ago."""
        with self._lock:
            now = self._clock()
            # Imports may take longer than people wait for the first word.
            every = self._every if self._said else min(self._every, FIRST_S)
            if self._begun and now - self._last >= every:
                here, begun = max(self._begun.items(), key=lambda entry: entry[0].depth)
                self._said.add(here.name)
                self._say(state_of(here, now - begun))

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at the clock from a thread of its own, so that a stage that says nothing is not silent."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(LOOK_S):
                self.look()

        thread = threading.Thread(target=watch, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _say(self, text: str) -> None:
        self._last = self._clock()
        with suppress(OSError):  # nobody reads it any more, which is no reason to stop the work
            self._file.write(f"[{clock_time(self._last - self._start)}] {text}\n")
            self._file.flush()


@final
class Bars(Display):
    """One bar per open stage, with the time that it has taken and the time left; those of whole verbs stay when done.

    Args:
        console: a terminal.
        clock: seconds, ascending.
        alone: true to draw from a thread of its own, false to draw on :meth:`draw` alone.
    """

    def __init__(
        self, console: Console, clock: Callable[[], float] = time.monotonic, alone: bool = True
    ) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.table import Column

        def whole(width: int) -> Column:
            """Column that is not cut on a narrow terminal; the note is."""
            return Column(min_width=width, no_wrap=True)

        self._bars: Progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=whole(22)),
            BarColumn(bar_width=10, table_column=whole(10)),
            TextColumn("{task.fields[count]}", markup=False, table_column=whole(9)),
            TimeElapsedColumn(table_column=whole(7)),
            TextColumn("left", table_column=whole(4)),
            TimeRemainingColumn(table_column=whole(7)),
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            get_time=clock,
            auto_refresh=alone,
            refresh_per_second=REFRESH_HZ,
            # What is printed goes above the bars, unless it goes to a file.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._tasks: dict[Stage, TaskID] = {}

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draw while the context lasts."""
        with self._bars:
            yield

    def draw(self) -> None:
        """Draw now."""
        self._bars.refresh()

    @override
    def begin(self, stage: Stage) -> None:
        self._tasks[stage] = self._bars.add_task(
            _indented(stage), total=stage.total, completed=stage.done, note="", count=""
        )

    @override
    def update(self, stage: Stage) -> None:
        self._bars.update(
            self._tasks[stage], completed=stage.done, description=_indented(stage), note=stage.note,
            count="" if stage.total is None else f"{stage.done}/{stage.total}",
        )  # fmt: skip

    @override
    def end(self, stage: Stage) -> None:
        task = self._tasks.pop(stage)
        if stage.depth > KEPT:
            self._bars.remove_task(task)
        else:
            done = max(stage.done, 1)
            self._bars.update(task, total=stage.total or done, completed=stage.done if stage.total else done)
            self._bars.stop_task(task)

    @override
    def say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)


def _indented(stage: Stage) -> str:
    return f"{'  ' * stage.depth}{stage.name}"


def state_of(stage: Stage, seconds: float) -> str:
    """One line about a stage that began ``seconds`` ago."""
    if stage.total is None:
        parts = [stage.name, *([f"{stage.done} done"] if stage.done else [])]
    else:
        parts = [f"{stage.name}: {stage.done} of {stage.total}"]
        left = seconds_left(stage, seconds)
        parts += [] if left is None else [f"{clock_time(left)} left"]
    return ", ".join([*parts, *([stage.note] if stage.note else [])])


def seconds_left(stage: Stage, seconds: float) -> float | None:
    """Seconds that a stage still takes at its mean pace so far; None before its first step and without a total."""
    if stage.total is None or stage.done <= stage.first:
        return None
    return seconds / (stage.done - stage.first) * max(0, stage.total - stage.done)


def clock_time(seconds: float) -> str:
    """Seconds as ``h:mm:ss``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
