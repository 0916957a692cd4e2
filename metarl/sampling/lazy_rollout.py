"""The episodes of one adaptation step, sampled only if an inner learner asks for them."""

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
from metarl.timing import Stopwatch
from metarl.types import Batch, Trajectories


@dataclass(frozen=True, eq=False)
class LazyRollout:
    """One rollout of M tasks with E episodes each: what an adaptation step learns from.

    The episodes are sampled when they are first asked for, and then kept. An inner learner that samples by itself does
    not ask: it takes the tasks, its own random streams, and simulations of one task.
    """

    sample: Callable[[], Trajectories]
    """Plays the episodes with the parameters before the step."""
    tasks: Sequence[Any]
    """The M tasks."""
    streams: Callable[[Purpose], Sequence[np.random.Generator]]
    """The random streams of the step, one for each task, for some purpose."""
    simulations: Callable[[], TaskVectorEnv] | None
    """E simulations of one task at a time, to learn on beside the episodes; None where there can be none."""
    horizon: int
    """T"""
    gamma: float
    """Discount per step."""
    gae_lambda: float
    """Lambda of the generalized advantage estimate."""
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    """Takes the time of sampling and advantages."""

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
    def observed(self) -> Moments:
        """Of the normalized observations that were acted on."""
        return Moments.of(self.trajectories.observations[:, :, :-1], self.trajectories.valid)

    @property
    def mean_return(self) -> float:
        """Mean undiscounted return of all episodes."""
        return self.trajectories.returns.nanmean().item()
