"""What commands share: how far a run is, tables, and command lines that can be pasted."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

TIMED = 3  # iterations, after which it is said how long the others will take
PATIENCE = 3.0  # [s] without a bar


class PatientProgress:
    """A bar for what may take long: it appears after a few seconds, on a terminal or in a notebook, and goes away."""

    def __init__(self, what: str, total: int, console: Console | None = None) -> None:
        console = console or Console()
        self._shows = console.is_terminal or console.is_jupyter
        self._bar = Progress(
            TextColumn(what, markup=False),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=total)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def advance(self) -> None:
        """One of the `total` parts is done."""
        self._bar.advance(self._task)
        if self._shows and not self._bar.live.is_started and time.monotonic() - self._began > PATIENCE:
            self._bar.start()


class TrainingProgress:
    """Iterations done, time left, environment steps per second, and the returns before and after adaptation."""

    def __init__(self, iterations: int, done: int, console: Console | None = None) -> None:
        self._console = console or Console()
        self._iterations, self._first = iterations, done
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn("iteration"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=iterations, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, iteration: int, metrics: dict[str, float]) -> None:
        """Tell that `iteration` iterations are done, with the metrics of the last one."""
        text = (
            f"return {metrics['train/return_before']:.1f} → {metrics['train/return_after']:.1f}"
            f"  {metrics['time/environment_steps_per_s'] / 1000:.0f}k steps/s"
        )
        self._bar.update(self._task, completed=iteration, description=text)
        if iteration - self._first == TIMED < self._iterations - self._first:
            minutes = (time.monotonic() - self._began) / TIMED * (self._iterations - iteration) / 60
            self.note(
                f"each iteration is episodes, adaptation and one outer step: about "
                f"{minutes:.1f} min more on this machine"
            )
        if not self._console.is_terminal:
            per_iteration = (time.monotonic() - self._began) / max(iteration - self._first, 1)
            left = per_iteration * (self._iterations - iteration)
            self._console.print(
                f"iteration {iteration}/{self._iterations}  {text}  left {left / 60:.1f} min",
                highlight=False,
                markup=False,
            )

    def note(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)


def counting(what: str) -> Progress:
    """A bar that counts `what`, with the time since the start and the time left."""
    return Progress(
        TextColumn(what, markup=False),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )


def show(wide: RenderableType) -> None:
    """Print what may be wider than the terminal; where there is none, on lines as long as it takes."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, Console(width=10_000).measure(wide).maximum))
    console.print(wide)


def command(*words: object) -> str:
    """A command line that calls `metarl` with these words, so that it can be pasted."""
    return shlex.join([*_executable(), *map(str, words)])


def _executable() -> list[str]:
    """`metarl` where the shell finds the one of this Python; else its path, or the module where none is installed."""
    own = Path(sys.executable).parent / "metarl"
    if found := shutil.which("metarl", path=str(own.parent)):
        return ["metarl"] if shutil.which("metarl") == found else [shown(Path(found))]
    return [shown(Path(sys.executable)), "-m", "metarl"]


def shown(path: Path) -> str:
    """The path from here, if it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
