"""That meta-learning learns: held-out tasks are solved better after an adaptation step than before it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metarl import config
from metarl.experiment import Evaluation, Experiment, Sampling, Tracking
from metarl.experiment.builders import fixed_tasks, initial_params, make_policy, make_vector_env
from metarl.experiment.evaluation import evaluate
from metarl.runs.console import TrainingProgress
from metarl.runs.directory import create, read_id
from metarl.runs.tracking import Tracker
from metarl.statistics import Estimate, estimate
from metarl.training import prepare, train
from metarl.types import Params

CONFIGS = Path(__file__).parents[1] / "configs"


def trained(experiment: Experiment, run_dir: Path) -> Params:
    create(run_dir, experiment)
    tracker = Tracker.open(run_dir, {}, mode="disabled", project="", group=None, name=None, run_id=read_id(run_dir))
    progress = TrainingProgress(experiment.iterations, 0)
    return train(prepare(experiment), run_dir, None, tracker, progress).params


def returns_on_held_out_tasks(experiment: Experiment, params: Params | None) -> np.ndarray:
    """(tasks, 2): before and after one step, from `params` or (None) from the random initialization."""
    env = make_vector_env(experiment.env, 20 * 10, experiment.threads)
    policy = make_policy(experiment, env)
    params = params or initial_params(policy, experiment)
    tasks = fixed_tasks(env, "held-out", 20)
    return evaluate(env, policy, params, experiment, tasks, steps=1).means


def gain(means: np.ndarray) -> Estimate:
    """The mean gain, with its interval over the tasks: each of them takes the place of a seed."""
    return estimate((means[:, 1] - means[:, 0])[:, None])


def short(name: str, seed: int, iterations: int, tasks: int) -> Experiment:
    experiment = config.load(CONFIGS / name, Experiment)
    return replace(
        experiment,
        seed=seed,
        iterations=iterations,
        sampling=Sampling(tasks=tasks),
        evaluation=Evaluation(every=iterations, tasks=2, episodes=1, videos=0),
        tracking=Tracking(mode="disabled"),
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_point_navigation(tmp_path, seed):
    experiment = short("point_nav/maml_trpo.yaml", seed, iterations=12, tasks=10)
    before = returns_on_held_out_tasks(experiment, None)
    after = returns_on_held_out_tasks(experiment, trained(experiment, tmp_path / "run"))
    assert gain(after).low > 5
    assert gain(after).low > gain(before).high


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_half_cheetah_velocity(tmp_path, seed):
    experiment = short("half_cheetah_vel/maml_trpo.yaml", seed, iterations=40, tasks=20)
    before = returns_on_held_out_tasks(experiment, None)
    after = returns_on_held_out_tasks(experiment, trained(experiment, tmp_path / "run"))
    assert gain(after).low > 0
    assert gain(after).low > gain(before).high
    assert after[:, 1].mean() > before[:, 1].mean() + 10
