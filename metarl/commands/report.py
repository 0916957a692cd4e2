"""Write what a run is and what came of it as one HTML page, RUN_DIR/report.html, that needs nothing else to be read.

python scripts/report.py RUN_DIR
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from metarl.builders import make_vector_env
from metarl.errors import exits_cleanly
from metarl.files import write_atomically
from metarl.report.html import videos
from metarl.report.html.page import build
from metarl.report.html.run_data import read
from metarl.report.html.tasks import tasks_of
from metarl.sampling.protocols import aim_of
from metarl.threads import set_threads

PAGE = "report.html"


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Read the run, make videos of a few of its test tasks, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="what train.py wrote, evaluate.py measured")
    run = read(parser.parse_args(args).run_dir)
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
    write_atomically(path, build(run, aim_of(env), tasks, made).encode())
    print(f"report    {path}")
