"""Compare a run with PPO of Stable-Baselines3 on the same held-out tasks, at equal environment steps on each.

    metarl baseline RUN_DIR [--pretrained RUN_DIR] [--oracle RUN_DIR] [--tasks 20] [--steps 3]
                            [--rollouts 50] [--workers N]

One rollout of PPO is the data of one adaptation step: E episodes. PPO starts from scratch, from the meta-learned policy
and, with --pretrained, from one that was trained on all tasks without adaptation; each task is learned by itself. With
--oracle, a policy that sees the goal, it is counted how many steps each needs to 90% of what that one reaches. Tasks
that are done stay in RUN_DIR/baselines; called again, only the others are learned. What comes out:
RUN_DIR/baseline.json, which metarl report shows, and RUN_DIR/figures/baseline.png.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Annotated

import tyro
from pydantic import Field

from metarl import baselines, config, runs
from metarl.baselines import PPOJob, PPOResult, SampleEfficiency, Setup
from metarl.config.settings import settings
from metarl.errors import Interrupted, UserError, end_undisturbed, exits_cleanly
from metarl.files import write_atomically
from metarl.inner.sb3 import SB3PPO
from metarl.machine import available_cores
from metarl.report import baseline_record
from metarl.runs.console import PartProgress, show, shown
from metarl.runs.tracking import requested_mode
from metarl.seeding import SEEDS
from metarl.threads import set_threads

WIDTH = 100
"""Letters of a line of text."""


@settings
class Options:
    """The command line."""

    run_dir: Annotated[tyro.conf.Positional[Path], {"metavar": "RUN_DIR"}]
    """What train wrote, of a run that adapts."""
    pretrained: Path | None = None
    """Of a run with algorithm.inner.steps 0."""
    oracle: Path | None = None
    """Of one that also has env.options.goal_visible true."""
    split: str | None = None
    """held-out, out-of-range, train or iid (default: the run's)"""
    tasks: Annotated[int | None, {"aliases": ["--goals"]}] = Field(None, ge=1)
    """Test tasks (default: 20, or all where fewer exist)."""
    steps: int = Field(3, ge=1)
    """Adaptation steps K"""
    rollouts: int = Field(50, ge=1)
    """Of PPO on each task"""
    episodes: int | None = Field(None, ge=1)
    """E, per step and rollout (default: the run's, 20 as a rule)."""
    workers: int | None = Field(None, ge=1)
    """Tasks at a time (default: as many as cores)."""
    seed: int = Field(0, ge=0, lt=SEEDS)
    """Of starts and exploration"""
    learning_rate: float = 1e-3
    """Of PPO"""
    epochs: int = Field(10, ge=1)
    """Of PPO"""
    minibatches: int | None = Field(None, ge=1)
    """Of PPO (default: of at most 64 steps each)."""
    reward_scale: float | None = None
    """Of PPO (default: brings discounted returns to about 1)."""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Parse, check, measure, print the results."""
    arguments = config.options(Options, args, command="baseline", description=__doc__)
    named = ("pretrained", "oracle", "split", "tasks", "episodes", "steps", "seed")
    setup = baselines.prepare(arguments.run_dir, **{name: getattr(arguments, name) for name in named})
    ppo = settings(arguments, setup)
    requested_mode(setup.run.experiment.tracking.mode)
    set_threads(setup.run.experiment.threads)
    with runs.locked(arguments.run_dir):
        adapted, oracle = setup.adapt(), setup.ask_oracle()
        if arguments.reward_scale is None:
            ppo = replace(ppo, reward_scale=setup.reward_scale(adapted))
        jobs = baselines.ppo_jobs(setup, ppo)
        learn(jobs, arguments.workers or available_cores())
        found = {label: [job.read() for job in own] for label, own in jobs.items()}
        results = baselines.gather(setup, adapted, oracle, found, baselines.points(ppo.steps))
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
    """How PPO learns. Errors: UserError for what makes no sense."""
    minibatches = arguments.minibatches or baselines.minibatches(setup.steps_each)
    if setup.steps_each % minibatches or setup.steps_each // minibatches < 2:
        raise UserError(
            f"--minibatches {minibatches} cannot share the {setup.steps_each} steps of a rollout evenly, two or more "
            "to each: choose a number that divides them"
        )
    data: dict[str, float] = {
        "steps": arguments.rollouts,
        "minibatches": minibatches,
        "epochs": arguments.epochs,
        "learning_rate": arguments.learning_rate,
    }
    if arguments.reward_scale is not None:
        data |= {"reward_scale": arguments.reward_scale}
    return config.from_dict(data, SB3PPO, source="the command line")


def learn(jobs: Mapping[str, Sequence[PPOJob]], workers: int) -> None:
    """Learn the tasks that are not done, with a bar."""
    every = [job for own in jobs.values() for job in own]
    waiting = [job for job in every if not job.file.exists()]
    try:
        with PartProgress("tasks learned by PPO", len(every), len(every) - len(waiting)) as progress:
            baselines.run_jobs(waiting, workers, progress.advance)
    except KeyboardInterrupt as error:
        end_undisturbed()
        print("\nThe tasks that are done are kept. Call again to go on.")
        raise Interrupted.after_telling(error) from None


def tell(setup: Setup, results: SampleEfficiency, ppo: SB3PPO) -> None:
    """The table, what it says in words, and what is missing."""
    show(results.table(setup.title))
    for remark in results.remarks:
        print(fill(remark, WIDTH))
    print(f"Environment steps of training before: {setup.trained_before}.")
    how = f"{ppo.minibatches} minibatches, {ppo.epochs} epochs, learning rate {ppo.learning_rate:g}"
    print(f"PPO: {how}, rewards times {ppo.reward_scale:g}.")
    for name in ("pretrained", "oracle"):
        if getattr(setup, name) is None:
            advice = baselines.advice(setup.run.experiment, name)
            print(fill(f"Without --{name}, its curve is left out: {advice}.", WIDTH))


def publish(setup: Setup, learned: Mapping[str, Sequence[PPOResult]], picture: Path) -> None:
    """Add PPO's own metrics, the mean over tasks, and the picture to the run in W&B; offline, as one more part."""
    run = setup.run
    at = {"iteration": run.state.iteration, "environment_steps": run.state.environment_steps}
    with runs.open_tracker(run.folder, run.experiment) as tracker:
        for label, found in learned.items():
            for steps, metrics in baselines.mean_metrics(label, found).items():
                tracker.log(metrics, **at | {"environment_steps": at["environment_steps"] + steps})
        tracker.image("figures/baseline", picture, "return against environment steps on the new task", **at)
        tracker.summary(at)
    if tracker.wandb_dir:
        print(f"W&B run   {tracker.wandb_dir}")
