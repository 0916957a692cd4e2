"""Meta-train a policy, test it on held-out tasks, and record everything in one folder.

    python scripts/train.py configs/point_nav/maml_trpo.yaml [--run-dir DIR] [--iterations N] [--FLAG VALUE …]
    python scripts/train.py --run-dir DIR --resume [--iterations N]

Every setting can be given as a flag. A resumed run goes on exactly as if it had never stopped.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from metarl import config, runs
from metarl.errors import UserError, exits_cleanly
from metarl.experiment import Experiment
from metarl.runs.console import TrainingProgress, command, shown
from metarl.runs.directory import State
from metarl.runs.publish import LEARNING, VIDEOS
from metarl.runs.tracking import Tracker, requested_mode, truncate_metrics
from metarl.sampling.registry import import_module_of
from metarl.training import Setup, prepare, train


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Begin or continue a run, train it to its end, and say where it lies."""
    arguments, flags = parse(sys.argv[1:] if args is None else args)
    experiment, run_dir = chosen(arguments, flags)
    setup = prepare(experiment, resumes=arguments.resume and runs.has_checkpoint(run_dir))
    requested_mode(experiment.tracking.mode)
    with runs.locked(run_dir):
        if arguments.resume:
            state = continued(setup, run_dir)
        else:
            state = None
            runs.create(run_dir, experiment)
        with runs.open_tracker(run_dir, experiment) as tracker:
            try:
                with TrainingProgress(experiment.iterations, state.iteration if state else 0) as progress:
                    train(setup, run_dir, state, tracker, progress)
            except KeyboardInterrupt:
                print("\nThe last whole iteration is saved. Go on with")
                print(f"  {command('train', '--run-dir', shown(run_dir), '--resume')}")
                raise
    tell(run_dir, tracker)


def parse(args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The config file, if it comes first; this script's own options; and the flags that are settings."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--resume", action="store_true")
    first = [args[0]] if args and not args[0].startswith("-") else []
    arguments, flags = parser.parse_known_args(args[len(first) :])
    arguments.config = Path(first[0]) if first else None
    if "--help" in flags or "-h" in flags:
        base = config.load(arguments.config, Experiment) if arguments.config else Experiment()
        config.override(base, ["--help"], prog="train.py", description=__doc__)
    return arguments, flags


def chosen(arguments: argparse.Namespace, flags: list[str]) -> tuple[Experiment, Path]:
    """The settings and the folder of the run; nothing is written yet."""
    if arguments.resume:
        if arguments.run_dir is None:
            raise UserError("--resume needs the run to continue: --run-dir DIR")
        own = runs.read_experiment(arguments.run_dir)
        experiment = config.override(config.load(arguments.config, Experiment) if arguments.config else own, flags)
        if arguments.config or any(flag.startswith("--env.id") for flag in flags):
            import_module_of(experiment.env.id)
        return experiment, arguments.run_dir
    if arguments.config is None:
        raise UserError(
            "no config given: name one before all flags, as in train.py configs/demo.yaml. Most folders in configs/ "
            "are a family, with a file for each algorithm, such as configs/point_nav/promp.yaml."
        )
    experiment = config.override(config.load(arguments.config, Experiment), flags)
    import_module_of(experiment.env.id)
    run_dir = arguments.run_dir or runs.new_dir(f"{named(arguments.config)}-seed{experiment.seed}")
    runs.refuse_used(run_dir)
    return experiment, run_dir


def named(config_file: Path) -> str:
    """A config by its folder and its own name: half_cheetah_vel-promp."""
    folder = config_file.resolve().parent.name
    return config_file.stem if folder == "configs" else f"{folder}-{config_file.stem}"


def continued(setup: Setup, run_dir: Path) -> State | None:
    """A run that stopped, from after its last whole iteration; None if it never got to a checkpoint."""
    runs.read_id(run_dir)  # before anything is changed
    if not runs.has_checkpoint(run_dir):
        if runs.has_metrics(run_dir):
            raise UserError(f"{run_dir} has metrics but no {runs.CHECKPOINT}: it is lost. Start a new run.")
        print("there is no checkpoint yet: starting from the beginning")
        return None
    state = runs.load(run_dir, setup.experiment)
    runs.best_return(run_dir)  # damaged, it would stop the first test
    runs.check_fits(run_dir, state, setup.first_params, setup.test.as_data)
    if setup.experiment.iterations < state.iteration:
        raise UserError(
            f"iterations = {setup.experiment.iterations}: the run has done {state.iteration} already. Ask for more."
        )
    config.save(setup.experiment, run_dir / runs.CONFIG)
    truncate_metrics(run_dir / runs.METRICS, state.iteration - 1)
    return state


def tell(run_dir: Path, tracker: Tracker) -> None:
    """Where everything lies and how to look at it, with commands that can be pasted."""
    print(f"\nrun directory  {shown(run_dir)}")
    for picture in (run_dir / LEARNING, *sorted((run_dir / VIDEOS).glob("*.mp4"))):
        print(f"{'picture' if picture.suffix == '.png' else 'video':<14} {shown(picture)}")
    if tracker.wandb_dir:
        wandb = shown(Path(sys.executable).parent / "wandb")
        print(f"W&B run        {shown(tracker.wandb_dir)}")
        print(f"  look at it   {shlex.join([wandb, 'leet', shown(tracker.wandb_dir)])}")
        parts = sorted(tracker.wandb_dir.parent.glob("offline-run-*")) or [tracker.wandb_dir]  # each resume adds one
        print(f"  upload it    {shlex.join([wandb, 'sync', *map(shown, parts)])}")
    print(f"evaluate       {command('evaluate', shown(run_dir))}")
    print(f"film           {command('render', shown(run_dir))}")
