"""Signals between policy and robot: delayed actions and noisy sensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .errors import FamilyError
from .family import Arrays
from .task_env import Groups, child


class DelayedActions:
    """Actions of N simulations that arrive d control steps later; before the first arrives, the action is 0.

    u_t = (1 - f) a_(t-k) + f a_(t-k-1) with k = ⌊d⌋ and f = d - k. This is the mean command over the control step if
    actions arrive within it.

    delay: fields of the tasks -> d, (N,).
    num_envs: N.
    size: A.
    """

    def __init__(self, delay: Callable[[Arrays], np.ndarray], num_envs: int, size: int) -> None:
        self._delay = delay
        self._rows = np.arange(num_envs)
        self._steps = np.zeros(num_envs)
        self._sent = np.zeros((num_envs, 1, size))  # the latest actions, the newest first

    def set_tasks(self, task: Arrays) -> None:
        """Set the delays of the tasks, given by their fields with N rows. Raises `FamilyError` for a negative delay."""
        self._steps = self._delay(task)
        if self._steps.min() < 0:
            raise FamilyError(f"an action delay of {self._steps.min()} control steps: expected at least 0")
        missing = int(self._steps.max()) + 2 - self._sent.shape[1]
        if missing > 0:
            self._sent = np.pad(self._sent, ((0, 0), (0, missing), (0, 0)))

    def reset(self, mask: np.ndarray) -> None:
        """Forget the actions of the simulations where the mask (N,) is true."""
        self._sent[mask] = 0.0

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        """Send actions (N, A); return those that arrive, (N, A)."""
        self._sent = np.concatenate([actions[:, None], self._sent[:, :-1]], axis=1)
        whole = self._steps.astype(int)
        part = (self._steps - whole)[:, None]
        return (1.0 - part) * self._sent[self._rows, whole] + part * self._sent[self._rows, whole + 1]


class SensorNoise:
    """Normal noise of N simulations' observations, drawn from children of the generators that reset them.

    deviation: fields of the tasks -> standard deviation of each observation, (N, O).
    shape: (N, O).
    """

    def __init__(self, deviation: Callable[[Arrays], np.ndarray], shape: tuple[int, int]) -> None:
        self._deviation = deviation
        self._scale, self._drawn = np.zeros(shape), np.zeros(shape)
        self._streams: list[tuple[np.random.Generator, np.ndarray]] = []  # each with its simulations

    def set_tasks(self, task: Arrays) -> None:
        """Set the noise of the tasks, given by their fields with N rows."""
        self._scale = self._deviation(task)

    def reset(self, groups: Groups, mask: np.ndarray) -> None:
        """Give new streams to the simulations where the mask (N,) is true, and draw for their first observation."""
        rows = np.arange(len(mask))
        others = [(stream, own[~mask[own]]) for stream, own in self._streams]
        begun = [(child(generator, "noise: make it from a seed"), rows[own][mask[own]]) for generator, own in groups]
        self._streams = [*((stream, own) for stream, own in others if len(own)), *begun]
        self._draw(begun, mask)

    def draw(self, live: np.ndarray) -> None:
        """Draw for the next observation; simulations that are not live (N,) keep theirs."""
        self._draw(self._streams, live)

    def _draw(self, streams: list[tuple[np.random.Generator, np.ndarray]], rows: np.ndarray) -> None:
        for stream, own in streams:
            fresh = stream.standard_normal((len(own), self._drawn.shape[1]))
            self._drawn[own] = np.where(rows[own, None], fresh, self._drawn[own])

    def added_to(self, observations: np.ndarray) -> np.ndarray:
        """Observations (N, O) with noise."""
        return observations + self._scale * self._drawn
