"""What scripts share: how far a run is, on the terminal or in plain lines, and how arguments are read."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


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
            TextColumn("{task.description}"),
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
        if not self._console.is_terminal:
            per_iteration = (time.monotonic() - self._began) / max(iteration - self._first, 1)
            left = per_iteration * (self._iterations - iteration)
            self._console.print(
                f"iteration {iteration}/{self._iterations}  {text}  left {left / 60:.1f} min", highlight=False
            )

    def note(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)


def at_least(least: int) -> Callable[[str], int]:
    """A type of argument: an integer that is not less."""

    def integer(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return integer
