"""Meta-train a policy, test it on validation tasks, and record everything in one folder.

    metarl train CONFIG [--run-dir DIR] [--iterations N] [--algorithm NAME] [--FLAG VALUE …]
    metarl train --run-dir DIR --resume [--iterations N]
    torchrun --standalone --nproc-per-node R -m metarl train CONFIG [--run-dir DIR] …

CONFIG is a file or the name of a shipped config, such as demo or half_cheetah_vel/promp; metarl configs lists them.
Every setting can be given as a flag. --algorithm NAME and --algorithm.inner NAME choose another algorithm and inner
loop, with their own defaults. A resumed run gives the same numbers as one that never stopped. torchrun starts R
processes that share the tasks out, on one or several machines; the results do not depend on R. SIGUSR1 ends the run
after the current iteration, with exit status 0.
"""

import os
import platform
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from metarl import config, runs
from metarl.config import shipped
from metarl.config.settings import settings
from metarl.errors import Interrupted, UserError, end_undisturbed, exits_cleanly, shortened
from metarl.experiment import Experiment
from metarl.experiment.builders import check_can_be_filmed
from metarl.runs.console import TrainingProgress, command, shown
from metarl.runs.directory import State
from metarl.runs.metrics import truncate_metrics
from metarl.runs.publish import LEARNING, VIDEOS
from metarl.runs.tracking import Tracker
from metarl.sampling.protocols import family_name
from metarl.sampling.registry import full_id, import_module_of
from metarl.system import ranks
from metarl.training import Setup, prepare, train

STEP_SIZES = "step_size learning_rate max_kl"
INNER_STEP_SIZE = "The step size of the inner loop is --algorithm.inner.step-size, or learning-rate where it has one."
OUTER_STEP_SIZE = "The step size of the outer loop is --algorithm.step-size; of maml_trpo, --algorithm.max-kl."
ELSEWHERE = {
    **dict.fromkeys(("lr", "learning_rate"), STEP_SIZES),
    **dict.fromkeys(("alpha", "inner_lr", "fast_lr", "adapt_lr", "inner_step_size"), INNER_STEP_SIZE),
    **dict.fromkeys(("beta", "outer_lr", "meta_lr", "meta_step_size", "outer_step_size"), OUTER_STEP_SIZE),
    "discount": "gamma",
    "wandb": "W&B is --tracking.mode online, offline or disabled.",
    **dict.fromkeys(("device", "cuda", "gpu"), "Everything runs on the CPU, on as many --threads as there are cores."),
    **dict.fromkeys(
        ("num_envs", "n_envs", "num_workers", "batch_size", "n_steps"),
        "Every iteration plays --sampling.tasks times --sampling.episodes robots for --env.horizon steps.",
    ),
    **dict.fromkeys(
        ("total_timesteps", "timesteps", "max_steps", "total_steps", "epochs", "num_iterations", "n_iterations"),
        "The length of training is --iterations. Each takes tasks x episodes x horizon environment steps before "
        "adaptation, and as many after each adaptation step.",
    ),
    **dict.fromkeys(("env", "env_id", "env_name", "task"), "The family is --env.id, such as HalfCheetahVel."),
    **dict.fromkeys(("algo", "algorithm_name"), "The algorithm is --algorithm, such as promp."),
    **dict.fromkeys(("inner_steps", "num_steps", "adaptation_steps", "fast_batch_size"), "steps episodes"),
    **dict.fromkeys(("meta_batch_size", "num_tasks"), "The tasks of an iteration are --sampling.tasks."),
    **dict.fromkeys(("log_dir", "logdir", "output_dir", "output_folder", "save_dir"), "The folder is --run-dir."),
    **dict.fromkeys(("wandb_project", "project_name"), "It is --tracking.project."),
    **dict.fromkeys(("net_arch", "hidden", "hidden_size", "hidden_dim"), "hidden_sizes"),
}
"""Names of settings in other libraries -> what to use instead, in the form that `flags.refuse_unknown` takes."""


@settings
class Options:
    """The options that are no settings of the experiment."""

    config: Annotated[tyro.conf.Positional[str], {"metavar": "CONFIG"}] = ""
    """A file, or the name of a shipped config such as demo or half_cheetah_vel/promp."""
    run_dir: Path | None = None
    """Where the run goes (default: a new folder in runs)."""
    resume: bool = False
    """Continue the run in --run-dir"""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Start or resume a run, train to the end, and print where the results are."""
    with asked_to_stop() as asked, ranks.joined():
        arguments, flags = config.known_options(Options, args)
        arguments = after_restart(arguments)
        experiment, name = chosen(arguments, flags)
        check_same_everywhere(experiment)
        given, resume = arguments.run_dir, arguments.resume
        setup = prepare(experiment, resumes=resume and given is not None and runs.has_checkpoint(given))
        runs.check_tracking(experiment.tracking)
        run_dir = ranks.from_first(lambda: given or runs.new_dir(f"{name}-seed{experiment.seed}"))
        with runs.locked(run_dir) if ranks.is_first() else nullcontext():
            state = ranks.from_first(lambda: continued(setup, run_dir) if resume else begun(setup, run_dir))
            check_shared(run_dir)
            with (
                says_how_to_go_on(run_dir),
                runs.open_tracker(run_dir, experiment) if ranks.is_first() else Tracker(run_dir, None) as tracker,
                TrainingProgress(experiment.iterations, state.iteration if state else 0) as progress,
            ):
                state = train(setup, run_dir, state, tracker, progress, asked)
        if ranks.is_first():
            if state.iteration < experiment.iterations:
                tell_how_to_go_on(run_dir)
            else:
                tell(run_dir, experiment, tracker)


def after_restart(options: Options) -> Options:
    """The options, with --resume where torchrun has started all ranks again after one was lost.

    Errors: UserError where a restart would not find the run.
    """
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) and not options.run_dir:
        raise UserError("torchrun --max-restarts without --run-dir: name the folder in which a restart finds the run")
    restarts = ranks.from_all(int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0))
    again = options.run_dir is not None and (options.run_dir / runs.CONFIG).exists()
    return replace(options, resume=ranks.from_first(lambda: options.resume or (any(restarts) and again)))


def check_same_everywhere(experiment: Experiment) -> None:
    """Raise UserError where a rank has other settings, or other versions, than rank 0."""
    own = experiment, {**runs.versions(), "platform": "", "cpu": torch.backends.cpu.get_cpu_capability()}
    (first, its_versions), *others = ranks.from_all(own)
    for rank, (other, versions) in enumerate(others, 1):
        different = {f"setting {name}": pair for name, pair in config.difference(first, other).items()}
        different |= {name: (its_versions[name], own) for name, own in versions.items() if own != its_versions[name]}
        if different:
            lines = [f"{name}: {shortened(str(a))} and {shortened(str(b))}" for name, (a, b) in different.items()]
            raise UserError("\n  ".join([f"rank 0 and rank {rank} differ, and would not compute the same:", *lines]))


def check_shared(run_dir: Path) -> None:
    """Raise UserError where a rank does not see the run directory of rank 0, in which a restart has to find the run."""
    here = Path(run_dir / runs.ABOUT)
    seen = ranks.from_all((platform.node(), here.read_bytes() if here.exists() else None))
    for rank, (machine, content) in enumerate(seen):
        if content != seen[0][1]:
            raise UserError(
                f"rank {rank} on {machine} does not see the run in {run_dir.absolute()} that rank 0 on {seen[0][0]} "
                "writes: name a folder of a file system that all machines share, --run-dir /SHARED/FOLDER"
            )


def begun(setup: Setup, run_dir: Path) -> None:
    """Create the run directory."""
    runs.create(run_dir, setup.experiment)


def chosen(options: Options, flags: Sequence[str]) -> tuple[Experiment, str]:
    """The settings, and the name that the directory of a new run begins with."""
    if options.resume:
        if options.run_dir is None:
            raise UserError("--resume needs the run to continue: --run-dir DIR")
        runs.read_id(options.run_dir)  # before anything is changed
        base = _base(options.config) if options.config else runs.read_experiment(options.run_dir)
        experiment = changed(base, flags)
        if options.config or any(flag.startswith("--env.id") for flag in flags):
            import_module_of(experiment.env.id)
        return experiment, ""
    if not options.config and not {"-h", "--help"} & {*flags}:
        raise UserError(
            "no config given: name one before all flags, as in metarl train demo. metarl configs lists the shipped "
            "ones; their names are FAMILY/ALGORITHM, such as point_nav/promp."
        )
    base = _base(options.config)
    experiment = changed(base, flags)
    import_module_of(experiment.env.id)
    if options.run_dir:
        runs.refuse_used(options.run_dir)
    return experiment, named(options.config, base, experiment)


def _base(name: str) -> Experiment:
    """The settings in a config; the defaults where `name` is empty."""
    return config.load(shipped.find(name), Experiment) if name else Experiment()


def changed(base: Experiment, flags: Sequence[str]) -> Experiment:
    """The settings, changed by flags."""
    made = config.override(base, flags, prog="metarl train", description=__doc__, hints=ELSEWHERE, options=Options)
    return replace(made, env=replace(made.env, id=full_id(made.env.id)))


def named(name: str, base: Experiment, experiment: Experiment) -> str:
    """FOLDER-FILE of the config, as in half_cheetah_vel-promp; FAMILY-ALGORITHM where flags changed one of these."""
    same = (base.env.id, base.algorithm.name) == (experiment.env.id, experiment.algorithm.name)
    if not (name and same):
        return f"{family_name(experiment.env.id)}-{experiment.algorithm.name}"
    file = shipped.find(name).resolve()
    return file.stem if file.parent.name == "configs" else f"{file.parent.name}-{file.stem}"


def continued(setup: Setup, run_dir: Path) -> State | None:
    """The state after the last finished iteration of a run; None where it has no checkpoint yet."""
    if not runs.has_checkpoint(run_dir):
        if runs.has_metrics(run_dir):
            raise UserError(f"{run_dir} has metrics but no {runs.CHECKPOINT}: it cannot be resumed. Start a new run.")
        runs.check_same(run_dir, runs.read_experiment(run_dir), setup.experiment)
        config.save(setup.experiment, run_dir / runs.CONFIG)
        print("there is no checkpoint yet: starting from the beginning")
        return None
    state = runs.load(run_dir, setup.experiment)
    if runs.is_of_first_version(run_dir):
        print(
            "This run was begun by metarl-suite 0.1.0: its policy goes on without normalized observations, and its "
            "tasks are drawn in strata from here on."
        )
    runs.best_return(run_dir)  # a damaged file would stop the first test
    runs.check_fits(run_dir, state, setup.first_params, setup.test.as_data)
    if setup.experiment.iterations < state.iteration:
        raise UserError(
            f"iterations = {setup.experiment.iterations}: the run has done {state.iteration} already. Ask for more."
        )
    config.save(setup.experiment, run_dir / runs.CONFIG)
    truncate_metrics(run_dir / runs.METRICS, state.iteration - 1)
    return state


@contextmanager
def says_how_to_go_on(run_dir: Path) -> Generator[None]:
    """On an interrupt, print the command that resumes the run, after the tracker has finished."""
    try:
        yield
    except KeyboardInterrupt as error:
        end_undisturbed()
        tell_how_to_go_on(run_dir)
        raise Interrupted.after_telling(error) from None


def tell_how_to_go_on(run_dir: Path) -> None:
    """Print the command that resumes the run."""
    print("\nThe last finished iteration is saved. Go on with")
    print(f"  {command('train', '--run-dir', shown(run_dir), '--resume')}")


@contextmanager
def asked_to_stop() -> Generator[Callable[[], bool]]:
    """A function that says whether the process has got SIGUSR1, by which a scheduler announces the end of its time."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGUSR1, before)


def tell(run_dir: Path, experiment: Experiment, tracker: Tracker) -> None:
    """Print where the results are, and the commands that show more of them."""
    print(f"\nrun directory  {shown(run_dir)}")
    for picture in (*run_dir.glob(LEARNING), *sorted((run_dir / VIDEOS).glob("task-*.mp4"))):
        print(f"{'picture' if picture.suffix == '.png' else 'video':<14} {shown(picture)}")
    if tracker.wandb_dir:
        wandb = shown(Path(sys.executable).parent / "wandb")
        print(f"W&B run        {shown(tracker.wandb_dir)}")
        print(f"  look at it   {shlex.join([wandb, 'leet', shown(tracker.wandb_dir)])}")
        parts = sorted(tracker.wandb_dir.parent.glob("offline-run-*")) or [tracker.wandb_dir]  # each resume adds one
        print(f"  upload it    {shlex.join([wandb, 'sync', *map(shown, parts)])}")
    print(f"evaluate       {command('evaluate', shown(run_dir))}")
    with suppress(UserError):
        check_can_be_filmed(experiment.env.id)
        print(f"film           {command('render', shown(run_dir))}")
