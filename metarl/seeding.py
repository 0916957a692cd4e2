"""Random streams with addresses, (seed, purpose, iteration, phase, task), from a counter-based generator.

Streams of different addresses are independent. So the numbers of a task's episodes do not depend on the number of
threads, on other tasks, or on what ran before.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

SEEDS = 2**63
"""Seeds of runs and measurements are in [0, SEEDS), which every file format of a run can store."""


class Purpose(IntEnum):
    """What random numbers are used for. Runs are repeatable only as long as these values do not change."""

    INITIALIZATION = 0
    TASKS = 1
    TRAINING = 2
    EVALUATION = 3
    BOOTSTRAP = 4
    VIDEO = 5
    SB3 = 6
    ACTING = 7
    TUNING = 8


def stream(seed: int, purpose: Purpose, iteration: int = 0, phase: int = 0, task: int = 0) -> np.random.Generator:
    """The random stream of one address.

    Args:
        seed: the run's seed, in [0, SEEDS).
        purpose: what the numbers are for.
        iteration: outer iteration.
        phase: adaptation step within the iteration, 0..K.
        task: index of the task in the meta-batch.
    """
    address = np.random.SeedSequence([seed, purpose, iteration, phase, task])
    return np.random.Generator(np.random.Philox(address))


def streams(
    seed: int, purpose: Purpose, iteration: int, phase: int, num_tasks: int, first_task: int = 0
) -> list[np.random.Generator]:
    """One stream for each of `num_tasks` tasks, of which `first_task` is the index of the first one."""
    return [stream(seed, purpose, iteration, phase, task) for task in range(first_task, first_task + num_tasks)]
