"""Tasks, policy and first parameters are functions of the settings, on a task space that tells who asked it."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv

from metarl.errors import UserError
from metarl.experiment import Environment, Evaluation, Experiment, Policy, Sampling
from metarl.experiment.builders import fixed_tasks, initial_params, make_policy, make_vector_env, training_tasks
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.seeding import Purpose


@dataclass(frozen=True)
class Space:
    """A task is its split, how it was asked for, and its number; there are five in each grid."""

    split: str = "nowhere"

    def restrict(self, split):
        return replace(self, split=split)

    def stratified(self, n, rng):
        return [(self.split, tuple(rng.bit_generator.seed_seq.entropy), i) for i in range(n)]

    def grid(self, n):
        return [(self.split, "grid", i % 5) for i in range(n)]


ENV = SimpleNamespace(
    task_space=Space(),
    single_observation_space=gymnasium.spaces.Box(-1, 1, (3,)),
    single_action_space=gymnasium.spaces.Box(-1, 1, (2,)),
)


@pytest.mark.parametrize("split", ["train", "iid"])
@pytest.mark.parametrize("iteration", [0, 1, 7])
def test_training_tasks_are_drawn_from_their_split_by_a_stream_of_the_iteration(split, iteration):
    experiment = Experiment(seed=3, sampling=Sampling(tasks=4, split=split), evaluation=Evaluation(split=split))
    stream = (3, Purpose.TASKS, iteration, 0, 0)
    assert training_tasks(ENV, experiment, iteration) == [(split, stream, i) for i in range(4)]


@pytest.mark.parametrize("split", ["held-out", "out-of-range", "train"])
def test_test_tasks_are_a_grid_over_their_split(split):
    assert fixed_tasks(ENV, split, 5) == [(split, "grid", i) for i in range(5)]


def test_a_test_task_is_not_counted_twice():
    with pytest.raises(UserError, match="6 iid tasks.*only 5"):
        fixed_tasks(ENV, "iid", 6)


def test_the_policy_has_all_its_settings():
    settings = {"hidden_sizes": (5, 4), "action_scale": 0.3, "initial_std": 0.6, "min_std": 0.2}
    settings |= {"normalize_observations": False}
    expected = GaussianMLP(observation_size=3, action_size=2, **settings)
    assert make_policy(Experiment(policy=Policy(**settings)), ENV) == expected


def test_the_first_parameters_are_a_function_of_the_seed():
    policy = GaussianMLP(observation_size=3, action_size=2, hidden_sizes=(4,))
    torch.manual_seed(0)
    one = initial_params(policy, Experiment(seed=1))
    torch.manual_seed(1)
    again, other = (initial_params(policy, Experiment(seed=seed)) for seed in (1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["w0"], other["w0"])


# -------------------------------------------------------------------------------- vector environments of others
class Plain(VectorEnv):
    """It takes no `nthread`."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.DISABLED}

    def __init__(self, num_envs, max_episode_steps, wind=0.0):
        self.num_envs, self.horizon, self.wind = num_envs, max_episode_steps, wind

    def set_tasks(self, tasks):
        pass


class Endless(Plain):
    """It has no time limit."""

    def __init__(self, num_envs):
        super().__init__(num_envs, 0)


class Threaded(Plain):
    """It takes whatever comes."""

    def __init__(self, **arguments):
        self.nthread = arguments.pop("nthread")
        super().__init__(**arguments)


@pytest.fixture
def ids():
    """Ids of the classes above."""
    names = {f"{kind.__name__}-v0": kind for kind in (Plain, Endless, Threaded)}
    for name, kind in names.items():
        gymnasium.register(name, vector_entry_point=kind)
    yield
    for name in names:
        gymnasium.registry.pop(name)


@pytest.mark.usefixtures("ids")
def test_a_vector_environment_need_not_take_a_number_of_threads():
    plain = make_vector_env(Environment(id="Plain-v0", horizon=5, options={"wind": 2.0}), 3, threads=2)
    assert (plain.num_envs, plain.horizon, plain.wind) == (3, 5, 2.0)
    assert make_vector_env(Environment(id="Threaded-v0", horizon=5), 3, threads=2).nthread == 2


@pytest.mark.usefixtures("ids")
def test_an_argument_that_it_does_not_take_is_named():
    with pytest.raises(UserError, match="Endless-v0'.*takes no argument 'max_episode_steps', only num_envs"):
        make_vector_env(Environment(id="Endless-v0", horizon=5), 3, threads=2)
    with pytest.raises(UserError, match="takes no argument 'rain', only num_envs, max_episode_steps, wind"):
        make_vector_env(Environment(id="Plain-v0", horizon=5, options={"rain": 1}), 3, threads=2)
