"""Output of the commands: progress, tables, paths, and command lines for the shell."""

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
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

TIMED = 3
"""Iterations after which the time that the others will take is printed."""
PATIENCE = 3.0
"""[s] that a call of the library takes before its bar appears."""
INTERVAL = 30.0
"""[s] at least between two lines about progress, where the output is no terminal."""


class _Bar:
    """A bar on a terminal: parts done, time passed, and time left."""

    def __init__(
        self, what: str, total: int, done: int, console: Console | None, *columns: ProgressColumn, transient: bool
    ) -> None:
        self._console = console or Console()
        self._what, self._total, self._first = what, total, done
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn(what, markup=False),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            *columns,
            console=self._console,
            transient=transient,
        )
        self._task = self._bar.add_task("", total=total, completed=done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def note(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _left(self, done: int) -> str:
        """The time that the other parts will take, once some were done."""
        per_part = (time.monotonic() - self._began) / max(done - self._first, 1)
        return f"{per_part * (self._total - done) / 60:.1f} min"


class PartProgress(_Bar):
    """Parts done and the time left: a bar on a terminal or in a notebook, which is removed at the end; else lines.

    Args:
        what: is counted.
        total: number of parts.
        done: parts that were done before.
        patience: [s] before the bar appears.
        lines: whether to print a line now and then where there is no terminal.
    """

    def __init__(
        self,
        what: str,
        total: int,
        done: int = 0,
        *,
        patience: float = 0.0,
        lines: bool = True,
        console: Console | None = None,
    ) -> None:
        super().__init__(what, total, done, console, transient=True)
        self.is_bar = self._console.is_terminal or self._console.is_jupyter
        self._done, self._patience, self._lines, self._printed = done, patience, lines, self._began

    def __enter__(self) -> Self:
        self._show(self._began)
        return self

    def advance(self) -> None:
        """One of the `total` parts is done."""
        self._done += 1
        self._bar.advance(self._task)
        self._show(now := time.monotonic())
        if self._lines and not self.is_bar and now - self._printed >= INTERVAL:
            self._printed = now
            self.note(self.status())

    def status(self) -> str:
        """Parts done and the time left, such as `runs 2/8  left 1.5 min`, once a part was done."""
        return f"{self._what} {self._done}/{self._total}  left {self._left(self._done)}"

    def _show(self, now: float) -> None:
        if self.is_bar and not self._bar.live.is_started and now - self._began >= self._patience:
            self._bar.start()


class TrainingProgress(_Bar):
    """Iterations done, time left, returns before and after adaptation, and speed: a bar on a terminal, else lines."""

    def __init__(self, iterations: int, done: int, console: Console | None = None) -> None:
        latest = TextColumn("{task.description}", markup=False)
        super().__init__("iteration", iterations, done, console, latest, transient=False)
        self._bar.disable = not self._console.is_terminal

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def show(self, iteration: int, metrics: dict[str, float]) -> None:
        """Show that `iteration` iterations are done, with the metrics of the last one."""
        text = (
            f"return {metrics['train/return_before']:.1f} → {metrics['train/return_after']:.1f}"
            f"  {metrics['time/environment_steps_per_s']:,.0f} steps/s"
        )
        self._bar.update(self._task, completed=iteration, description=text)
        if iteration - self._first == TIMED < self._total - self._first:
            self.note(
                "each iteration is episodes, adaptation and one outer step: about "
                f"{self._left(iteration)} more on this machine"
            )
        if not self._console.is_terminal:
            self.note(f"iteration {iteration}/{self._total}  {text}  left {self._left(iteration)}")


def show(wide: RenderableType) -> None:
    """Print a table, as wide as it is where there is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, Console(width=10_000).measure(wide).maximum))
    console.print(wide)


def command(*words: object) -> str:
    """The command line `metarl WORD …`, quoted for the shell."""
    return shlex.join([*_executable(), *map(str, words)])


def _executable() -> list[str]:
    """`metarl` if the shell finds that of this Python; else its path or, if it is not installed, `python -m metarl`."""
    own = Path(sys.executable).parent / "metarl"
    if found := shutil.which("metarl", path=str(own.parent)):
        return ["metarl"] if shutil.which("metarl") == found else [shown(Path(found))]
    return [shown(Path(sys.executable)), "-m", "metarl"]


def shown(path: Path) -> str:
    """The path relative to the current folder, if it is in there; else as it is."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
