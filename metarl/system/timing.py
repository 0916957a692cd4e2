"""Time spent in the phases of an iteration."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent in named phases: `with stopwatch("sampling"): …`.

    The time of a phase inside another counts only for the inner one, so that the phases add up to the whole time.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = 0.0  # [s] of the phases inside the present one

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
        """Seconds by phase, under names such as `sampling_s`."""
        return {f"{phase}_s": seconds for phase, seconds in self.seconds.items()}
