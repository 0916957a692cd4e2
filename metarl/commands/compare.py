"""Compare evaluated runs on the same test tasks, over algorithms and seeds.

    metarl compare RUN_DIR… [--split held-out] [--out DIR] [--labels LABEL…]

Runs that differ only in their seed form one entry. The other entries are compared with the first one. Each run must
have been evaluated by metarl evaluate with the same options. If all are also evaluated on out-of-range tasks, a figure
shows both splits.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from metarl import config, runs
from metarl.config.settings import settings
from metarl.errors import exits_cleanly
from metarl.experiment.builders import make_vector_env
from metarl.results import comparison, records
from metarl.results.comparison.entries import HELD_OUT, OUT_OF_RANGE
from metarl.results.comparison.pictures import NUMBERS
from metarl.results.comparison.tables import family
from metarl.runs.console import show
from metarl.system.files import write_atomically


@settings
class Options:
    """The command line."""

    run_dirs: Annotated[tyro.conf.Positional[tuple[Path, ...]], {"metavar": "RUN_DIR…"}] = Field(min_length=1)
    """Run directories that metarl train wrote and metarl evaluate evaluated."""
    split: str = HELD_OUT
    """Split of the evaluations that are compared"""
    out: Path | None = None
    """Folder for the numbers and pictures; those of an older comparison are replaced (default:
    comparison-FAMILY-SPLIT beside the first run)."""
    labels: tuple[str, ...] | None = Field(None, min_length=1)
    """Labels of the entries, in the order of their first runs."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Read the evaluations, print the table, write the numbers and the figures."""
    arguments = config.options(Options, args, command="compare", description=__doc__)
    arguments = replace(arguments, run_dirs=tuple(map(runs.writable, arguments.run_dirs)))
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
    """Raise TaskError, which lists the splits, where a run is not evaluated on this one and its family has none."""
    for run_dir in run_dirs:
        if not records.file_of(run_dir, split).is_file():
            make_vector_env(runs.read_experiment(run_dir).env, 1, threads=1).task_space.restrict(split)
