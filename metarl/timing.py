"""Where the time goes."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent in named phases: `with stopwatch("sampling"): …`.

    A phase within another one counts for itself alone: the seconds of all phases add up to the time that was measured.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = 0.0  # [s] of the phases within the one that runs

    @contextmanager
    def __call__(self, phase: str) -> Generator[None]:
        began, before = time.perf_counter(), self._inside
        self._inside = 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.seconds[phase] = self.seconds.get(phase, 0.0) + took - self._inside
            self._inside = before + took

    def metrics(self) -> dict[str, float]:
        """Phase -> seconds, with the unit in the name."""
        return {f"{phase}_s": seconds for phase, seconds in self.seconds.items()}
