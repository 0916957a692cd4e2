"""Compare evaluated runs: seeds of one algorithm together, algorithms side by side, on the same test tasks.

    metarl compare RUN_DIR… [--split held-out] [--out DIR] [--labels LABEL…]

Runs whose settings differ in nothing but the seed form one entry; the first entry is what the others are compared with.
Each run has to be evaluated first, by metarl evaluate, all in the same way. Where all are also evaluated out of range,
a figure sets both splits side by side.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from metarl import config, runs
from metarl.builders import make_vector_env
from metarl.config.settings import settings
from metarl.errors import exits_cleanly
from metarl.files import write_atomically
from metarl.report import comparison, records
from metarl.report.comparison.entries import HELD_OUT, OUT_OF_RANGE
from metarl.report.comparison.pictures import NUMBERS
from metarl.report.comparison.tables import family
from metarl.runs.console import show


@settings
class Options:
    """The command line."""

    run_dirs: Annotated[tyro.conf.Positional[tuple[Path, ...]], {"metavar": "RUN_DIR…"}] = Field(min_length=1)
    """What train wrote."""
    split: str = HELD_OUT
    """Of the evaluations to compare"""
    out: Path | None = None
    """Where the numbers and pictures go, in place of an older comparison (default:
    comparison-FAMILY-SPLIT beside the first run)."""
    labels: tuple[str, ...] | None = Field(None, min_length=1)
    """Of the entries, in the order of their first runs."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Read the evaluations, print the table, draw the figures."""
    arguments = config.options(Options, args, command="compare", description=__doc__)
    check_split(arguments.run_dirs, arguments.split)
    entries = comparison.load(arguments.run_dirs, arguments.split, arguments.labels)
    other = HELD_OUT if arguments.split == OUT_OF_RANGE else OUT_OF_RANGE
    missing = comparison.not_evaluated(entries, other)
    elsewhere = None if missing else comparison.on_split(entries, other)

    show(comparison.table(entries))
    folder = arguments.out or arguments.run_dirs[0].parent / f"comparison-{family(entries)}-{arguments.split}"
    for picture in comparison.draw(entries, folder, elsewhere):
        print(f"picture   {picture}")
    numbers = folder / NUMBERS
    write_atomically(numbers, json.dumps(comparison.to_json(entries), indent=1, allow_nan=False).encode())
    print(f"numbers   {numbers}")
    if missing:
        print(f"For a picture of {arguments.split} against {other} tasks, evaluate on these too:")
        for run_dir in missing:
            print(f"  {records.command(run_dir, other, entries[0].record)}")


def check_split(run_dirs: Sequence[Path], split: str) -> None:
    """Raise TaskError, which says what splits there are, where a run's family has no such one to be evaluated on."""
    for run_dir in run_dirs:
        if not records.file_of(run_dir, split).is_file():
            make_vector_env(runs.read_experiment(run_dir).env, 1, threads=1).task_space.restrict(split)
