"""Train RL², a recurrent policy that adapts by its memory through several episodes on one task, without gradients.

    metarl rl2 rl2/point_nav [--run-dir DIR] [--environment_steps N] [--seed 0] [--FLAG VALUE …]

RecurrentPPO of sb3-contrib trains it (pip install 'metarl-suite[recurrent]') on trials of several episodes. It is
measured on held-out tasks: the return of each episode of a trial. The output is a table and RUN_DIR/rl2.json, which
metarl baseline --rl2 RUN_DIR compares with other methods; RUN_DIR/model.zip is the policy, for sb3-contrib.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from metarl import config, runs
from metarl.baselines import rl2
from metarl.config import shipped
from metarl.config.settings import settings
from metarl.errors import UserError, exits_cleanly
from metarl.runs.console import PartProgress, show, shown
from metarl.statistics import estimate, shown_as


@settings
class Options:
    """The options that are no settings of the experiment."""

    config: Annotated[tyro.conf.Positional[str], {"metavar": "CONFIG"}] = ""
    """A YAML file, or the name of a shipped one: rl2/point_nav, rl2/half_cheetah_vel or rl2/half_cheetah_dir."""
    run_dir: Path | None = None
    """Folder for the run (default: a new one in runs)."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Train the policy, print its returns on test tasks."""
    arguments, flags = config.known_options(Options, args)
    base = config.load(shipped.find(arguments.config), rl2.RL2) if arguments.config else rl2.RL2()
    experiment = config.override(base, flags, prog="metarl rl2", description=__doc__, options=Options)
    if not arguments.config:
        raise UserError(f"name a config: {', '.join(name for name in shipped.names() if name.startswith('rl2/'))}")
    rl2.recurrent_ppo()
    runs.check_tracking(experiment.tracking)
    run_dir = arguments.run_dir or runs.new_dir(f"rl2-{Path(arguments.config).stem}-seed{experiment.seed}")
    runs.refuse_used(run_dir)
    rollouts = -(-experiment.environment_steps // experiment.rollout)
    with rl2.open_tracker(experiment, run_dir) as tracker, PartProgress("rollouts", rollouts) as progress:
        record = rl2.train(experiment, run_dir, tracker, progress.advance)
        tracker.summary({f"return_episode_{k + 1}": float(x) for k, x in enumerate(record.returns.mean(axis=0))})
    show(table(record))
    print(f"numbers   {shown(run_dir / rl2.FILE)}")


def table(record: rl2.RL2Record) -> Table:
    """The return of each episode of a trial."""
    made = Table(title=escape(record.title), title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    made.caption = f"beside a mean: {shown_as(1)}\nnoise of evaluation: standard error {record.noise[-1]:.2g}"
    for column in ("episode of the trial", "steps on the task before it", "mean return"):
        made.add_column(column, justify="right")
    for k, returns in enumerate(record.returns.T):
        made.add_row(str(k + 1), f"{k * record.horizon:,}", str(estimate(returns)))
    return made
