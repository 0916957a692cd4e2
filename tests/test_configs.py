"""Every config in the repository means something."""

from dataclasses import replace
from pathlib import Path

import pytest

from metarl import config
from metarl.baselines.rl2 import RL2
from metarl.commands import configs as listing
from metarl.commands import results
from metarl.experiment import Experiment
from metarl.experiment.builders import fixed_tasks, make_policy, make_vector_env, training_tasks
from metarl.few_shot.training import FewShot

CONFIGS = Path(__file__).parents[1] / "configs"


OTHER = ("sinusoid", "sweeps", "rl2")


def configs(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (CONFIGS / folder).rglob("*.yaml"))


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


@pytest.mark.parametrize("path", [p for p in configs(".") if p.parent.name not in OTHER], ids=name)
def test_a_config_builds_what_it_names(path):
    experiment = config.load(path, Experiment)
    env = make_vector_env(experiment.env, 2, threads=1)
    env.set_tasks(training_tasks(env, replace(experiment, sampling=replace(experiment.sampling, tasks=2)), 0))
    assert (
        len(fixed_tasks(env, experiment.evaluation.split, experiment.evaluation.tasks)) == experiment.evaluation.tasks
    )
    assert make_policy(experiment, env).observation_size == env.reset(seed=0)[0].shape[1]
    env.close()


@pytest.mark.parametrize("path", configs("sinusoid"), ids=name)
def test_a_config_of_few_shot_regression_builds_what_it_names(path):
    assert config.load(path, FewShot).iterations > 0


@pytest.mark.parametrize("path", configs("rl2"), ids=name)
def test_a_config_of_rl2_is_tested_like_the_others_of_its_family(path):
    own, like = config.load(path, RL2), config.load(CONFIGS / path.stem / "promp.yaml", Experiment)
    assert own.env == like.env
    assert (own.evaluation.split, own.evaluation.tasks) == (like.evaluation.split, like.evaluation.tasks)


def test_each_config_has_a_line_of_its_own_in_the_listing(capsys):
    listing.main([])
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.split()[0] for line in lines] == sorted(
        (n.removesuffix(".yaml") for n in map(name, configs("."))), key=lambda n: ("/" in n, n)
    )
    descriptions = [line.split(maxsplit=1)[1] for line in lines]
    assert all(len(line) <= 100 for line in lines)
    assert {*map(descriptions.count, descriptions)} <= {1}


FAMILIES = ("half_cheetah_vel", "half_cheetah_dir", "half_cheetah_params", "point_nav", "reacher_goal")
"""Folders whose configs are to be compared."""


@pytest.mark.parametrize("folder", FAMILIES)
def test_the_configs_of_a_family_cost_the_same_number_of_environment_steps(folder):
    """Within one iteration, and those with annealing end with it."""
    cost = {}
    for path in configs(folder):
        experiment = config.load(path, Experiment)
        cost[path.stem] = experiment.iterations * results.steps_per_iteration(experiment)
        anneal = getattr(experiment.algorithm, "anneal_iterations", 0)
        assert anneal in (0, experiment.iterations), path.stem
    assert max(cost.values()) < 1.03 * min(cost.values()), cost
