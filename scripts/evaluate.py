"""Measure how a trained run adapts to tasks it never trained on, against a random initialization.

python scripts/evaluate.py RUN_DIR [--split held-out] [--tasks 40] [--steps 3] [--episodes 20] [--json FILE]
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from metarl import runs
from metarl.errors import exits_cleanly
from metarl.evaluation import evaluate
from metarl.experiment import Experiment
from metarl.files import write_atomically
from metarl.learner import fixed_tasks, initial_params, make_batch, make_policy
from metarl.report import META, RANDOM, Report
from metarl.runs import State
from metarl.threads import set_threads


@exits_cleanly
def main() -> None:
    """Parse, measure, tell."""
    arguments = parse()
    experiment = runs.read_experiment(arguments.run_dir)
    state = runs.load(arguments.run_dir, experiment)
    report = measure(arguments, experiment, state)
    Console().print(report.table())
    name = f"evaluation-{arguments.split}"
    picture, numbers = arguments.run_dir / f"{name}.png", arguments.json or arguments.run_dir / f"{name}.json"
    report.draw(picture)
    write_atomically(numbers, json.dumps(report.to_json(), indent=1).encode())
    print(f"picture   {picture}\nnumbers   {numbers}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="what train.py wrote")
    parser.add_argument(
        "--split", default="held-out", help="held-out, out-of-range, train or iid (default: %(default)s)"
    )
    parser.add_argument("--tasks", type=at_least(1), default=40, help="number of test tasks (default: %(default)s)")
    parser.add_argument("--steps", type=at_least(0), default=3, help="adaptation steps K (default: %(default)s)")
    parser.add_argument(
        "--episodes", type=at_least(1), default=20, help="episodes per task and step (default: %(default)s)"
    )
    parser.add_argument(
        "--later-steps",
        type=float,
        default=0.5,
        help="step size after the trained steps, as a share (default: %(default)s)",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of starts and exploration (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where the numbers go (default: into RUN_DIR)")
    return parser.parse_args()


def at_least(least: int) -> Callable[[str], int]:
    """A type of argument: an integer that is not less."""

    def integer(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return integer


def measure(arguments: argparse.Namespace, experiment: Experiment, state: State) -> Report:
    """Adapt the trained parameters and the run's own random initialization to the same tasks, in the same way."""
    set_threads(experiment.threads)
    env = make_batch(experiment.env, arguments.tasks * arguments.episodes, experiment.threads)
    policy, tasks = make_policy(experiment, env), fixed_tasks(env, arguments.split, arguments.tasks)
    random = initial_params(policy, experiment.seed)
    runs.check_shapes(arguments.run_dir / runs.CHECKPOINT, state.params, random)
    returns = {}
    with Progress(transient=True) as progress:
        bar = progress.add_task("adapting", total=2 * (arguments.steps + 1))
        for name, params in {META: state.params, RANDOM: random}.items():
            returns[name] = evaluate(
                env,
                tasks,
                policy,
                params,
                experiment.algorithm,
                experiment.sampling,
                horizon=experiment.env.horizon,
                steps=arguments.steps,
                later_steps=arguments.later_steps,
                seed=arguments.seed,
                after_each=lambda: progress.advance(bar),
            ).means
    about = {
        "run": str(arguments.run_dir),
        "environment": experiment.env.id,
        "algorithm": experiment.algorithm.name,
        "split": arguments.split,
        "episodes": arguments.episodes,
        "horizon": experiment.env.horizon,
        "later_steps": arguments.later_steps,
        "seed": arguments.seed,
        "training": {
            "seed": experiment.seed,
            "iterations": state.iteration,
            "environment_steps": state.environment_steps,
        },
        "versions": runs.versions(),
    }
    return Report(about, env.task_space, tasks, returns)


if __name__ == "__main__":
    main()
