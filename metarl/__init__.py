"""Meta-reinforcement learning: policies that adapt to a new task within a few policy-gradient steps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from metarl.meta_policy import MetaPolicy

__version__ = "0.1.0"

os.environ.setdefault("MKL_CBWR", "AUTO")
"""MKL, which multiplies PyTorch's matrices, reads this at its first product: each matrix of a batch then has the same
product wherever it lies in memory, so that a task's numbers do not depend on which tasks are computed with it."""


def load(run_dir: Path | str, checkpoint: str = "latest") -> MetaPolicy:
    """The policy that a run has learned, ready to be adapted to a task: see `metarl.meta_policy.load`.

    Args:
        run_dir: the run directory, or the name of a shipped policy such as `half_cheetah_vel/promp`.
        checkpoint: `latest`, or `best`: the one with the highest return after adaptation in the tests during training.

    Errors: UserError where `run_dir` holds no run, or no such checkpoint that fits its settings.
    """
    from metarl import meta_policy  # imports PyTorch, which takes seconds

    return meta_policy.load(run_dir, checkpoint)
