"""Measure how a trained policy adapts to tasks that it was not trained on, compared with a random initialization.

    metarl evaluate RUN_DIR [--split held-out] [--tasks 40] [--steps 3] [--episodes 20] [--tune 10] [--checkpoint best]

Returns are measured before adaptation and after each step, for the stochastic policy, whose episodes the next step
learns from (with a latent variable, from further ones), and for the deterministic policy, which takes the mean action,
from the same initial states. With --tune,
the trained policy and the random initialization each have the step size that is best for them on validation tasks. The
output is a table, RUN_DIR/evaluation-SPLIT.json, and a picture beside it.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field
from rich.console import Console

from metarl import config, runs
from metarl.config.settings import settings
from metarl.errors import UserError, exits_cleanly
from metarl.experiment import Evaluation, Experiment
from metarl.experiment.builders import fixed_tasks, initial_params, make_policy, make_vector_env
from metarl.experiment.evaluation import evaluate
from metarl.experiment.tuning import adaptation_candidates, adapting_with, tune_adaptation
from metarl.meta_policy import CHECKPOINTS
from metarl.results import records
from metarl.results.evaluation import draw_evaluation, evaluation_table
from metarl.results.records import META, RANDOM, Checkpoint, Record, Training
from metarl.runs.console import PartProgress
from metarl.runs.directory import State
from metarl.seeding import SEEDS
from metarl.system.files import write_atomically
from metarl.system.threads import set_threads


@settings
class Options:
    """The command line."""

    run_dir: Annotated[tyro.conf.Positional[Path], {"metavar": "RUN_DIR"}]
    """A run directory that metarl train wrote, or the name of a shipped policy, which is copied to runs/shipped."""
    checkpoint: Checkpoint = "latest"
    """latest, or best: the one with the highest return after adaptation in the tests during training. On those test
    tasks, best is biased upwards"""
    split: str | None = None
    """held-out, validation, out-of-range, train or iid (default: held-out, if the family has it)"""
    tasks: int | None = Field(None, ge=1)
    """Number of test tasks (default: the run's setting, usually 40)."""
    steps: int = Field(3, ge=0)
    """Adaptation steps K"""
    episodes: int | None = Field(None, ge=1)
    """Episodes per task and adaptation step (default: the run's setting, usually 20)."""
    later_steps: float | None = Field(None, gt=0)
    """Factor of the step size in steps beyond those of training (default: the run's setting, usually 0.5)."""
    tune: int = Field(0, ge=0)
    """Number of validation tasks to choose the step size on, and whether later steps are whole or half (default: 0, all
    as in the run's settings). A family without a validation split chooses on training tasks"""
    seed: int = Field(0, ge=0, lt=SEEDS)
    """Seed of initial states and exploration"""
    json: Path | None = None
    """File for the numbers; the picture has the same name (default: RUN_DIR/evaluation-SPLIT.json)."""
    replace: bool = False
    """Replace an evaluation that had other tasks, steps, episodes, later steps or another seed"""


@exits_cleanly
def main(args: Sequence[str] | None = None) -> None:
    """Evaluate a run, print the table, write the numbers and the picture."""
    arguments = config.options(Options, args, command="evaluate", description=__doc__)
    arguments = replace(arguments, run_dir=runs.writable(arguments.run_dir))
    experiment = runs.read_experiment(arguments.run_dir)
    state = runs.load(arguments.run_dir, experiment, CHECKPOINTS[arguments.checkpoint])
    experiment = replace(experiment, evaluation=requested(arguments, experiment.evaluation))
    numbers = arguments.json or records.file_of(arguments.run_dir, experiment.evaluation.split, arguments.checkpoint)
    if numbers.suffix == ".png":
        raise UserError(f"--json {numbers}: the picture goes there. Choose another ending, such as .json")
    if numbers.is_dir():
        raise UserError(f"{numbers} is a folder: name a file for the numbers with --json")
    if not arguments.replace:
        check_nothing_is_lost(numbers, experiment.evaluation, arguments)
    record = measure(arguments, experiment, state)
    Console().print(evaluation_table(record))
    write_atomically(numbers, json.dumps(record.to_json(), indent=1, allow_nan=False).encode())
    picture = numbers.with_suffix(".png")
    draw_evaluation(record, picture)
    print(f"picture   {picture}\nnumbers   {numbers}")


def requested(arguments: Options, own: Evaluation) -> Evaluation:
    """The evaluation settings of the run, changed by flags."""
    names = ("split", "tasks", "steps", "episodes", "later_steps")
    named = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    data = config.to_dict(own) | {"split": own.reported} | named
    return config.from_dict(data, Evaluation, source="the command line")


def check_nothing_is_lost(numbers: Path, test: Evaluation, arguments: Options) -> None:
    """Raise UserError where the file holds an evaluation that was made in another way."""
    try:
        found = records.read(numbers)
    except UserError:  # there is none, or none that can be read
        return
    names = ("tasks", "steps", "episodes", "later_steps")
    now = {name: getattr(test, name) for name in names} | {"seed": arguments.seed, "tune": bool(arguments.tune)}
    then = {name: getattr(found, name) for name in (*names, "seed")}
    then |= {"tasks": len(found.tasks), "tune": bool(found.tuned)}
    if wrong := [f"{name} = {then[name]}, not {now[name]}" for name in now if then[name] != now[name]]:
        raise UserError(
            f"{numbers} holds an evaluation with {'; '.join(wrong)}. Keep both with --json FILE, or replace it with "
            "--replace."
        )


def measure(arguments: Options, experiment: Experiment, state: State) -> Record:
    """Adapt the trained parameters and the initialization that they were trained from to the same tasks."""
    set_threads(experiment.threads)
    test = experiment.evaluation
    env = make_vector_env(experiment.env, test.tasks * test.episodes, experiment.threads)
    policy, tasks = make_policy(experiment, env), fixed_tasks(env, test.split, test.tasks)
    random = initial_params(policy, experiment)
    runs.check_shapes(arguments.run_dir / CHECKPOINTS[arguments.checkpoint], state.params, random)
    results, tuned = {}, {}
    candidates = len(adaptation_candidates(experiment, test.steps)) if arguments.tune else 0
    with PartProgress("rounds of episodes", 2 * (1 + candidates) * (test.steps + 1)) as progress:
        common: dict[str, Any] = {"steps": test.steps, "seed": arguments.seed, "after_each": progress.advance}
        for name, params in {META: state.params, RANDOM: random}.items():
            chosen = {}
            if candidates and (found := tune_adaptation(policy, params, experiment, tasks=arguments.tune, **common)):
                tuned[name], chosen = found, found.chosen
            own, scale = adapting_with(experiment, chosen)
            results[name] = evaluate(env, policy, params, own, tasks, scale=scale, deterministic=True, **common)
    return Record(
        run=str(arguments.run_dir),
        environment=experiment.env.id,
        algorithm=experiment.algorithm.name,
        split=test.split,
        episodes=test.episodes,
        horizon=experiment.env.horizon,
        later_steps=test.later_steps,
        seed=arguments.seed,
        checkpoint=arguments.checkpoint,
        training=Training(seed=experiment.seed, iterations=state.iteration, environment_steps=state.environment_steps),
        versions=runs.versions(),
        tasks=tuple(dict(env.task_space.to_dict(task)) for task in tasks),
        units=dict(env.task_space.units),
        returns={name: result.means for name, result in results.items()},
        deterministic={name: result.deterministic_means for name, result in results.items()},
        noise={name: result.noise for name, result in results.items()},
        tuned=tuned,
    )
