"""Write the results of a run as one HTML page, RUN_DIR/report.html, which needs no other file.

    metarl report RUN_DIR

The page has the learning curve, the results of metarl evaluate and metarl baseline, and videos of three test tasks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from metarl import config, runs
from metarl.config.settings import settings
from metarl.errors import exits_cleanly
from metarl.experiment.builders import make_vector_env
from metarl.results.report import videos
from metarl.results.report.page import build
from metarl.results.report.run_data import read, tasks_of
from metarl.sampling.protocols import aim_of
from metarl.system.files import write_atomically
from metarl.system.threads import set_threads

PAGE = "report.html"


@settings
class Options:
    """The command line."""

    run_dir: Annotated[tyro.conf.Positional[Path], {"metavar": "RUN_DIR"}]
    """A run directory that metarl train wrote; after metarl evaluate, the page shows more."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Read the run, film three of its test tasks, write the page."""
    arguments = config.options(Options, args, command="report", description=__doc__)
    run = read(runs.writable(arguments.run_dir))
    set_threads(run.experiment.threads)
    env = make_vector_env(run.experiment.env, 1, 1)
    tasks = made = None
    if run.record:
        tasks = tasks_of(run.record, env)
        with Console().status("making three videos"):
            made = videos.make(run, run.record, tasks)
        if made.missing:
            print(made.missing)
    path = run.folder / PAGE
    page = build(run, aim_of(env), tasks, made)
    write_atomically(path, page.encode(errors="replace"))  # a damaged file may hold half of a character
    print(f"report    {path}")
