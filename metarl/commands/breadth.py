"""Measure the gain of adaptation on a narrow, a medium and a wide range of hidden velocities, with the same robot.

    metarl breadth [--seeds 2] [--iterations N] [--out DIR] [--workers N]

On each range, a policy that adapts (config breadth/RANGE) is compared with one that is trained on all tasks of the
range for as many environment steps and never adapts. Both are tested on held-out velocities of their range. On a narrow
range one policy does well on all tasks; on a wide one adaptation gains more. The runs are kept in DIR: called again,
the command skips finished ones.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.table import Table

from metarl import config
from metarl.config import shipped
from metarl.config.settings import settings
from metarl.errors import RunFailed, UserError, exits_cleanly
from metarl.experiment import Experiment
from metarl.figures.breadth import draw
from metarl.jobs.elsewhere import JobOptions, run_jobs
from metarl.jobs.runner import Job
from metarl.results import records
from metarl.results.comparison.entries import HELD_OUT
from metarl.runs.console import show, shown
from metarl.statistics import estimate, shown_as

CONFIGS = shipped.FOLDER / "breadth"
RANGES = ("narrow", "medium", "wide")
JOINT, BEFORE, AFTER = "one policy for all tasks", "meta-learned, before adaptation", "after one step"


@settings
class Options(JobOptions):
    """The command line."""

    seeds: int = Field(2, ge=1, le=1_000)
    """Number of seeds: 0, 1, …"""
    iterations: int | None = Field(None, ge=1)
    """Iterations of the policies that adapt (default: those of the configs)."""
    out: Path = Path("runs/breadth")
    """Folder for the runs"""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Train and evaluate all runs, print the table, draw the figure."""
    arguments = config.options(Options, args, command="breadth", description=__doc__)
    adapting = {name: jobs(arguments, name, joint=False) for name in RANGES}
    joint = {name: jobs(arguments, name, joint=True) for name in RANGES}
    everything = [job for name in RANGES for job in (*adapting[name], *joint[name])]
    if failed := run_jobs(everything, arguments, "breadth", args):
        raise RunFailed(f"{len(failed)} of {len(everything)} runs failed, see {failed[0].log}. Call again to go on.")
    if arguments.elsewhere:
        return
    measured = {JOINT: [], BEFORE: [], AFTER: []}
    for name in RANGES:
        meta = returns_of(adapting[name])
        for label, x in ((JOINT, returns_of(joint[name])[..., 0]), (BEFORE, meta[..., 0]), (AFTER, meta[..., 1])):
            measured[label].append(estimate(x))
    show(table(measured, arguments.seeds))
    picture = arguments.out / "breadth.png"
    labels = [f"{name}\n{spelled(name)} m/s" for name in RANGES]
    draw(picture, labels, measured, "How alike may tasks be?", f"bar: {shown_as(arguments.seeds)}")
    print(f"picture   {shown(picture)}")


def spelled(name: str) -> str:
    """The range of velocities of a config, such as `0 to 2` [m/s]."""
    low, high = config.load(CONFIGS / f"{name}.yaml", Experiment).env.options["velocity_range"]
    return f"{low:g} to {high:g}"


def jobs(arguments: Options, name: str, *, joint: bool) -> list[Job]:
    """A run for each seed. An iteration without adaptation takes half the steps, so joint runs have twice as many."""
    iterations = arguments.iterations or config.load(CONFIGS / f"{name}.yaml", Experiment).iterations
    kind = "joint" if joint else "adapting"
    flags = (f"--iterations={(1 + joint) * iterations}", "--threads=1", "--evaluation.videos=0")
    flags += ("--algorithm.inner.steps=0",) if joint else ()
    return [
        Job(
            arguments.out / f"{name}-{kind}-seed{seed}",
            ("scripts/train.py", f"configs/breadth/{name}.yaml", f"--seed={seed}", *flags),
            then=(("scripts/evaluate.py", "--steps=1"),),
        )
        for seed in range(arguments.seeds)
    ]


def returns_of(own: list[Job]) -> NDArray[np.floating]:
    """Returns (seeds, tasks, K+1) of the finished runs on held-out tasks, after 0..K adaptation steps."""
    found = [records.read(records.file_of(job.run_dir, HELD_OUT)) for job in own if job.finished]
    if not found:
        raise UserError(f"no run like {own[0].run_dir} is finished: metarl breadth without --collect runs them")
    return np.stack([record.returns[records.META] for record in found])


def table(measured: dict[str, list], seeds: int) -> Table:
    """Mean return, a row for each policy and a column for each range."""
    made = Table(title="mean return on held-out velocities of the range", box=None, pad_edge=False)
    made.caption = shown_as(seeds)
    made.add_column("")
    for name in RANGES:
        made.add_column(f"{name}, {spelled(name)} m/s", justify="right", no_wrap=True)
    for label, found in measured.items():
        made.add_row(label, *map(str, found))
    return made
