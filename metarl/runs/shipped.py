"""Trained policies that are shipped with the package: run directories with one checkpoint, without optimizer state."""

from dataclasses import replace
from pathlib import Path

from metarl import config
from metarl.config.shipped import POLICIES, policies
from metarl.errors import UserError
from metarl.experiment import Experiment
from metarl.runs.directory import ABOUT, CONFIG, load, read_experiment, save
from metarl.system.files import write_atomically

COPIES = Path("runs", "shipped")
"""Where commands that write into a run directory copy a shipped policy to, below the current folder."""


def find(run_dir: Path | str) -> Path:
    """`run_dir` where it holds a run, or else the folder of the shipped policy of that name, which is only read."""
    path = Path(run_dir)
    return POLICIES / path if not (path / CONFIG).is_file() and path.as_posix() in policies() else path


def writable(run_dir: Path) -> Path:
    """`run_dir`, or a copy of the shipped policy of that name, runs/shipped/NAME, which is made where it is missing.

    Errors: UserError where there is another run in the place of the copy.
    """
    if (source := find(run_dir)) == run_dir:
        return run_dir
    copy = COPIES / run_dir
    if (copy / CONFIG).exists():
        if (copy / ABOUT).read_bytes() != (source / ABOUT).read_bytes():
            raise UserError(f"{copy} holds another run than the shipped policy {run_dir}. Move it, or name it instead.")
    else:
        for file in sorted(source.iterdir(), key=lambda file: file.name == CONFIG):  # it is last: then all is there
            write_atomically(copy / file.name, file.read_bytes())
    return copy


def ship(name: str) -> None:
    """Make the run runs/shipped/NAME, with its evaluations, the shipped policy of that name.

    For developers: see metarl/policies/README.md. The state of the optimizer stays behind; settings that belong to the
    machine get their defaults.
    """
    source, target = COPIES / name, POLICIES / name
    trained = read_experiment(source)
    state = load(source, trained)
    experiment = replace(trained, threads=Experiment.threads, tracking=Experiment().tracking)
    for file in (source / ABOUT, *source.glob("evaluation-*.json")):
        write_atomically(target / file.name, file.read_bytes())
    save(target, experiment, replace(state, algorithm_state={}))
    config.save(experiment, target / CONFIG)
