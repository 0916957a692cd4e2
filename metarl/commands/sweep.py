"""Run a grid over two settings without a server, and draw the results.

    metarl sweep sweeps/point_nav [--out DIR] [--workers N] [--FLAG VALUE …]

The file is one that `wandb sweep` takes as well, or the name of a shipped one. Every run stays in DIR; called again,
only those that are not finished are run. Further flags, such as --iterations 10, are handed to every run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metarl import config
from metarl.config import shipped
from metarl.config.settings import settings
from metarl.errors import RunFailed, exits_cleanly
from metarl.figures.grids import Grid, heat_maps
from metarl.jobs.runner import run_all
from metarl.jobs.sweep import Outcomes, Sweep
from metarl.machine import available_cores
from metarl.runs.console import shown


@settings
class Options:
    """The command line; what it does not know is for the runs."""

    sweep: Annotated[tyro.conf.Positional[str], {"metavar": "YAML"}]
    """The file of a sweep, or the name of a shipped one, such as sweeps/point_nav."""
    out: Path | None = None
    """Where the runs go (default: runs/sweep-NAME)."""
    workers: int | None = Field(None, ge=1)
    """Runs at a time (default: as many as cores)."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    arguments, extra = config.known_options(Options, args, command="sweep", description=__doc__)
    sweep = Sweep.read(shipped.find(arguments.sweep, "sweep"))
    folder = arguments.out or Path("runs") / f"sweep-{sweep.name}"
    jobs = sweep.jobs(folder, extra)
    failed = run_all(jobs, arguments.workers or available_cores())
    if len(failed) == len(jobs):
        raise RunFailed(f"no run of {len(jobs)} succeeded. {failed[0].log} says why.")
    outcomes = sweep.outcomes(jobs)
    picture = folder / "heat-map.png"
    draw(picture, sweep, outcomes, sweep.name)
    for title, values in ((f"{sweep.metric} at the end", outcomes.last), ("largest setback", outcomes.setback)):
        Console().print(table(sweep, title, over_seeds(values)))
    print(f"picture   {shown(picture)}")


def over_seeds(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The mean over seeds, (rows, columns); NaN where a seed failed or diverged."""
    return np.where(np.isfinite(values).all(-1), np.nan_to_num(values, posinf=0.0, neginf=0.0).mean(-1), np.nan)


def draw(path: Path, sweep: Sweep, outcomes: Outcomes, name: str) -> None:
    """The metric at the end of training, and how steadily it got there."""
    seeds = f"mean of {len(sweep.seeds)} seeds" if len(sweep.seeds) > 1 else "one seed"
    grids = [
        Grid(f"{sweep.metric} at the end", over_seeds(outcomes.last), sweep.maximize, logarithmic=not sweep.maximize),
        Grid("largest setback in training", over_seeds(outcomes.setback), more_is_better=False),
    ]
    heat_maps(path, grids, *sweep.values, sweep.short_axes, f"{name}: {' × '.join(sweep.axes)}, {seeds}")


def table(sweep: Sweep, title: str, values: NDArray[np.floating]) -> Table:
    """A number for each pair of settings."""
    rows, columns = sweep.values
    made = Table(
        title=escape(f"{title}; columns: {sweep.short_axes[1]}"),
        title_justify="left",
        box=None,
        pad_edge=False,
        min_width=60,
    )
    made.add_column(escape(sweep.short_axes[0]), no_wrap=True)
    for column in columns:
        made.add_column(f"{column:g}", justify="right", no_wrap=True)
    for row, cells in zip(rows, values, strict=True):
        made.add_row(f"{row:g}", *(f"{cell:.3g}" if np.isfinite(cell) else "diverged" for cell in cells))
    return made
