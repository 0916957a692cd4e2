"""The episodes of one adaptation step, sampled only if an inner learner uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from metarl.policy_gradient.advantages import policy_gradient_batch
from metarl.policy_gradient.normalizer import Moments
from metarl.sampling.protocols import TaskVectorEnv
from metarl.seeding import Purpose
from metarl.system.timing import Stopwatch
from metarl.types import Batch, Trajectories


@dataclass(frozen=True, eq=False)
class LazyRollout:
    """M tasks with E episodes each, from which an adaptation step learns.

    The episodes are sampled at the first use of `trajectories`, and kept. An inner learner that samples by itself uses
    `tasks`, `streams` and `simulations` instead.
    """

    sample: Callable[[], Trajectories]
    """Samples the episodes with the parameters before the step."""
    tasks: Sequence[Any]
    """The M tasks."""
    streams: Callable[[Purpose], Sequence[np.random.Generator]]
    """Purpose -> the random streams of this step, one for each task."""
    simulations: Callable[[], TaskVectorEnv] | None
    """Makes E simulations of one task at a time, to learn on; None if the environment has none."""
    horizon: int
    """T"""
    gamma: float
    """Discount per step."""
    gae_lambda: float
    """Lambda of the generalized advantage estimate."""
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    """Measures the time of sampling and of advantages."""

    @cached_property
    def trajectories(self) -> Trajectories:
        """(M, E, T, …)"""
        with self.stopwatch("sampling"):
            return self.sample()

    @cached_property
    def batch(self) -> Batch:
        """The trajectories with their advantages."""
        trajectories = self.trajectories
        with self.stopwatch("advantages"):
            return policy_gradient_batch(trajectories, self.gamma, self.gae_lambda)

    @property
    def observed(self) -> list[Moments]:
        """Moments of each task's normalized observations before each action."""
        rounds = zip(self.trajectories.observations[:, :, :-1], self.trajectories.valid, strict=True)
        return [Moments.of(observations, valid) for observations, valid in rounds]
