"""Compare a run with PPO of Stable-Baselines3 on the same held-out tasks, at equal environment steps on each.

    metarl baseline RUN_DIR [--pretrained RUN_DIR] [--rl2 RUN_DIR] [--oracle RUN_DIR] [--tasks 20] [--steps 3]
                            [--rollouts 50] [--tune 4] [--workers N]

PPO learns each task separately: from a random initialization, from the meta-learned policy and, with --pretrained, from
a policy that was trained on all tasks without adaptation. A rollout of PPO has as many episodes as an adaptation step.
Each method has the settings that are best for it on validation tasks: step size and whole or half later steps; PPO its
learning rate and, from scratch, its action scale. With --oracle, a policy that observes its task, the table has the
steps that each method needs to reach 90% of the oracle's return. Finished tasks are kept in RUN_DIR/baselines and are
not learned again. The output is RUN_DIR/baseline.json, which metarl report shows, and RUN_DIR/figures/baseline.png.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Annotated

import numpy as np
import tyro
from pydantic import Field

from metarl import baselines, config, runs
from metarl.baselines import PPOJob, PPOResult, SampleEfficiency, Setup
from metarl.config.settings import settings
from metarl.errors import Interrupted, UserError, end_undisturbed, exits_cleanly
from metarl.experiment.tuning import Candidate, Tuned, choose
from metarl.inner.sb3 import SB3PPO
from metarl.results import baseline_record
from metarl.runs.console import PartProgress, show, shown
from metarl.runs.wandb_run import requested_mode
from metarl.seeding import SEEDS
from metarl.system.files import write_atomically
from metarl.system.machine import available_cores
from metarl.system.threads import set_threads

WIDTH = 100
"""Characters in a line of text."""


@settings
class Options:
    """The command line."""

    run_dir: Annotated[tyro.conf.Positional[Path], {"metavar": "RUN_DIR"}]
    """The directory of a run that adapts (algorithm.inner.steps at least 1)."""
    pretrained: Path | None = None
    """The directory of a run with algorithm.inner.steps 0."""
    rl2: Path | None = None
    """The directory of a run of metarl rl2 on the same test tasks."""
    oracle: Path | None = None
    """The directory of a run with algorithm.inner.steps 0 and env.options goal_visible: true."""
    split: str | None = None
    """held-out, validation, out-of-range, train or iid (default: held-out, if the family has it)"""
    tasks: int | None = Field(None, ge=1)
    """Number of test tasks (default: 20, or all if there are fewer)."""
    steps: int = Field(3, ge=1, le=1_000)
    """Adaptation steps K"""
    rollouts: int = Field(50, ge=1)
    """Rollouts of PPO on each task"""
    episodes: int | None = Field(None, ge=1)
    """Episodes per adaptation step and per rollout (default: the run's setting, usually 20)."""
    workers: int | None = Field(None, ge=1)
    """Tasks learned at a time (default: the number of cores)."""
    seed: int = Field(0, ge=0, lt=SEEDS)
    """Seed of initial states and exploration"""
    tune: int = Field(4, ge=0)
    """Number of validation tasks that settings are chosen on; 0: none are chosen"""
    learning_rate: float | None = None
    """Learning rate of PPO (default: chosen on validation tasks; 0.001 with --tune 0)."""
    action_scale: float | None = Field(None, gt=0)
    """Action scale of PPO from scratch (default: chosen on validation tasks; that of the run with --tune 0)."""
    epochs: int = Field(10, ge=1)
    """Epochs of PPO on each rollout"""
    minibatches: int | None = Field(None, ge=1)
    """Minibatches of PPO in each epoch (default: so many that each has at most 64 steps)."""
    reward_scale: float | None = None
    """Factor of the rewards that PPO learns from (default: one with which discounted returns are about 1)."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Measure all methods, print the table, write the numbers and the figure."""
    arguments = config.options(Options, args, command="baseline", description=__doc__)
    arguments = replace(arguments, run_dir=runs.writable(arguments.run_dir))
    named = ("pretrained", "oracle", "split", "tasks", "episodes", "steps", "seed", "tune")
    options = {name: getattr(arguments, name) for name in named}
    setup = baselines.prepare(arguments.run_dir, recurrent=arguments.rl2, **options)
    ppo = settings(arguments, setup)
    requested_mode(setup.run.experiment.tracking.mode)
    set_threads(setup.run.experiment.threads)
    with runs.locked(arguments.run_dir):
        tuned = setup.tune()
        adapted, oracle = setup.adapt(tuned), setup.ask_oracle()
        if arguments.reward_scale is None:
            ppo = replace(ppo, reward_scale=setup.reward_scale(adapted))
        workers = arguments.workers or available_cores()
        flags = arguments.learning_rate, arguments.action_scale
        candidates = {label: baselines.ppo_candidates(setup, label, *flags) for label in setup.starts}
        tuned |= tune_ppo(setup, ppo, candidates, workers)
        jobs = {
            label: baselines.ppo_jobs(setup, label, ppo, tuned[label].chosen if label in tuned else own[0])
            for label, own in candidates.items()
        }
        learn([job for own in jobs.values() for job in own], workers, "tasks learned by PPO")
        found = {label: [job.read() for job in own] for label, own in jobs.items()}
        results = baselines.gather(setup, adapted, oracle, found, baselines.points(ppo.steps), tuned)
        numbers, picture = arguments.run_dir / baseline_record.FILE, arguments.run_dir / "figures" / "baseline.png"
        about = {**setup.about, "ppo": config.to_dict(ppo)}
        content = json.dumps(results.to_json(about), indent=1, allow_nan=False).encode()
        results.draw(picture, setup.title)
        tell(setup, results, ppo)
        if not numbers.exists() or numbers.read_bytes() != content:
            publish(setup, found, picture)
            write_atomically(numbers, content)  # last, so that what is there is published
        print(f"picture   {shown(picture)}\nnumbers   {shown(numbers)}")


def settings(arguments: Options, setup: Setup) -> SB3PPO:
    """The settings of PPO. Errors: UserError where the minibatches do not divide a rollout."""
    minibatches = arguments.minibatches or baselines.minibatches(setup.steps_each)
    if setup.steps_each % minibatches or setup.steps_each // minibatches < 2:
        raise UserError(
            f"--minibatches {minibatches} does not divide the {setup.steps_each} steps of a rollout into equal parts "
            "of two or more: choose a divisor"
        )
    data: dict[str, float] = {
        "steps": arguments.rollouts,
        "minibatches": minibatches,
        "epochs": arguments.epochs,
        "learning_rate": baselines.LEARNING_RATE,
    }
    optional = {"learning_rate": arguments.learning_rate, "reward_scale": arguments.reward_scale}
    data |= {name: value for name, value in optional.items() if value is not None}
    return config.from_dict(data, SB3PPO, source="the command line")


def tune_ppo(
    setup: Setup, ppo: SB3PPO, candidates: Mapping[str, Sequence[Candidate]], workers: int
) -> dict[str, Tuned]:
    """Label -> the settings of PPO that are best on the validation tasks, of methods with several candidates."""
    jobs = {
        label: [(candidate, baselines.ppo_jobs(setup, label, ppo, candidate, setup.tuned_on)) for candidate in own]
        for label, own in candidates.items()
        if len(own) > 1
    }
    every = [job for own in jobs.values() for _, of_candidate in own for job in of_candidate]
    learn(every, workers, "validation tasks learned by PPO")
    tuned = {}
    for label, own in jobs.items():
        measured = [(candidate, np.stack([job.read().returns for job in of_it])) for candidate, of_it in own]
        if found := choose(measured, setup.tuned_split, len(setup.tuned_on)):
            tuned[label] = found
    return tuned


def learn(jobs: Sequence[PPOJob], workers: int, what: str) -> None:
    """Let PPO learn the tasks that are not finished, and show the progress."""
    waiting = [job for job in jobs if not job.file.exists()]
    try:
        with PartProgress(what, len(jobs), len(jobs) - len(waiting)) as progress:
            baselines.run_jobs(waiting, workers, progress.advance)
    except KeyboardInterrupt as error:
        end_undisturbed()
        print("\nFinished tasks are kept. Call again to learn the others.")
        raise Interrupted.after_telling(error) from None


def tell(setup: Setup, results: SampleEfficiency, ppo: SB3PPO) -> None:
    """Print the table, its conclusions, and how to add the baselines that are missing."""
    show(results.table(setup.title))
    for remark in results.remarks:
        print(fill(remark, WIDTH))
    print(f"Environment steps of training before the test tasks: {setup.trained_before}.")
    print(f"PPO: {ppo.minibatches} minibatches, {ppo.epochs} epochs, rewards times {ppo.reward_scale:g}.")
    for name in ("pretrained", "oracle"):
        if getattr(setup, name) is None:
            advice = baselines.advice(setup.run.experiment, name)
            print(fill(f"Without --{name}, its curve is left out: {advice}.", WIDTH))


def publish(setup: Setup, learned: Mapping[str, Sequence[PPOResult]], picture: Path) -> None:
    """Add the picture and PPO's metrics (means over tasks) to the run in W&B; offline, as a further part of the run."""
    run = setup.run
    at = {"iteration": run.state.iteration, "environment_steps": run.state.environment_steps}
    with runs.open_tracker(run.folder, run.experiment) as tracker:
        for label, found in learned.items():
            for steps, metrics in baselines.mean_metrics(label, found).items():
                tracker.log(metrics, **at | {"environment_steps": at["environment_steps"] + steps})
        tracker.media("figures/baseline", picture, "return against environment steps on the new task", **at)
        tracker.summary(at)
    if tracker.wandb_dir:
        print(f"W&B run   {tracker.wandb_dir}")
