"""Meta-reinforcement learning: policies that adapt to a new task within a few policy-gradient steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from metarl.meta_policy import MetaPolicy

__version__ = "0.1.0"


def load(run_dir: Path | str, checkpoint: str = "latest") -> MetaPolicy:
    """The policy that the run at `run_dir` has learned, to be adapted to a task: see `metarl.meta_policy`.

    checkpoint: latest, or best: the one whose return after adaptation was highest in the test repeated in training.

    Errors: UserError where there is no run, or none with such a checkpoint that fits.
    """
    from metarl import meta_policy  # PyTorch, and all else, only when it is needed

    return meta_policy.load(run_dir, checkpoint)
