"""Run a grid over settings without a server, and show which are best.

    metarl sweep sweeps/point_nav [--out DIR] [--workers N] [--reach VALUE] [--FLAG VALUE …]

The file is one that `wandb sweep` takes as well, or the name of a shipped one. Every run stays in DIR; called again,
only those that are not finished are run. Further flags, such as --iterations 10, are handed to every run. With
early_terminate in the file, all runs are compared after a few tests, and the worse ones are stopped. Two settings are
drawn as a heat map, others as learning curves.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from pydantic import Field
from rich.markup import escape
from rich.table import Table

from metarl import config
from metarl.config import shipped
from metarl.config.settings import settings
from metarl.errors import RunFailed, exits_cleanly
from metarl.figures.grids import Grid, heat_maps, ranked_curves
from metarl.jobs.elsewhere import JobOptions, run_jobs
from metarl.jobs.sweep import Outcome, Sweep, spelled
from metarl.runs.console import show, shown


@settings
class Options(JobOptions):
    """The command line; what it does not know is for the runs."""

    sweep: Annotated[tyro.conf.Positional[str], {"metavar": "YAML"}]
    """The file of a sweep, or the name of a shipped one, such as sweeps/point_nav."""
    out: Path | None = None
    """Where the runs go (default: runs/sweep-NAME)."""
    reach: float | None = Field(None, allow_inf_nan=False)
    """Also show after how many environment steps the metric is this good."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Parse, run, draw."""
    arguments, extra = config.known_options(Options, args, command="sweep", description=__doc__)
    sweep = Sweep.read(shipped.find(arguments.sweep, "sweep"))
    folder = arguments.out or Path("runs") / f"sweep-{sweep.name}"
    cells = sweep.cells(folder, extra)
    outcomes = sweep.run(cells, lambda jobs: run_jobs(jobs, arguments, "sweep", args))
    if arguments.elsewhere:
        return
    if all(outcome.state == "failed" for outcome in outcomes):
        raise RunFailed(f"no run of {len(cells)} settings came to an end. {cells[0].jobs[0].log} says why.")
    show(table(sweep, outcomes, arguments.reach))
    is_grid = len(sweep.axes) == 2
    picture = folder / ("heat-map.png" if is_grid else "curves.png")
    (draw_map if is_grid else draw_curves)(picture, sweep, outcomes, arguments.reach)
    print(f"picture   {shown(picture)}")


def title(sweep: Sweep) -> str:
    """Which settings are varied, with how many seeds."""
    seeds = f"mean of {len(sweep.seeds)} seeds" if len(sweep.seeds) > 1 else "one seed"
    return f"{sweep.metric} of {' × '.join(sweep.short_axes)}, {seeds}"


def draw_map(path: Path, sweep: Sweep, outcomes: Sequence[Outcome], _: float | None) -> None:
    """The metric at the end of training, and how steadily it got there."""
    by_values = {outcome.cell.values: outcome for outcome in outcomes}
    rows, columns = sweep.values
    ordered = [[by_values[row, column] for column in columns] for row in rows]
    last = np.array([[outcome.last for outcome in line] for line in ordered])
    falls = np.array([[outcome.setback for outcome in line] for line in ordered])
    end = "at the end" if not sweep.halving else "at the end, or when it was stopped"
    grids = [
        Grid(f"{sweep.metric} {end}", last, sweep.maximize, logarithmic=not sweep.maximize),
        Grid("largest setback in training", falls, more_is_better=False),
    ]
    labels = sweep.short_axes
    heat_maps(path, grids, [*map(spelled, rows)], [*map(spelled, columns)], (labels[0], labels[1]), title(sweep))


def draw_curves(path: Path, sweep: Sweep, outcomes: Sequence[Outcome], wanted: float | None) -> None:
    """The learning curve of every cell, the best of them labelled."""
    curves = [
        (", ".join(map(spelled, each.cell.values)), each.steps, each.curve) for each in outcomes if len(each.curve)
    ]
    ranked_curves(path, curves, ("environment steps", sweep.metric), title(sweep), wanted)


def table(sweep: Sweep, outcomes: Sequence[Outcome], wanted: float | None) -> Table:
    """A row for each cell, the best first."""
    made = Table(title=escape(title(sweep)), title_justify="left", box=None, pad_edge=False)
    if otherwise := [axis for axis in sweep.axes if axis.startswith(("env.", "evaluation."))]:
        made.caption = f"{', '.join(otherwise)}: cells are tested in different ways, and not comparable by the metric"
    made.add_column("", justify="right")
    for axis in sweep.short_axes:
        made.add_column(escape(axis))
    also = [f"steps to {wanted:g}"] if wanted is not None else []
    for heading in (sweep.metric.rpartition("/")[2], "setback", *also):
        made.add_column(escape(heading), justify="right")
    made.add_column("")
    for place, outcome in enumerate(outcomes, 1):
        numbers = [number(outcome.last), number(outcome.setback)]
        if wanted is not None:
            steps = outcome.reached(wanted, sweep.maximize)
            numbers.append("never" if math.isnan(steps) else f"{steps:,.0f}")
        state = {"finished": "", "failed": "failed", "stopped": f"stopped at test {len(outcome.curve)}"}
        made.add_row(str(place), *(escape(spelled(v)) for v in outcome.cell.values), *numbers, state[outcome.state])
    return made


def number(value: float) -> str:
    """With three digits; a dash for one that is undefined."""
    return f"{value:z.3g}" if math.isfinite(value) else "–"
