"""What rollouts and parameters take: said before it is taken, and not more than they really take."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metarl.errors import UserError
from metarl.experiment import Environment, Experiment, Policy, Sampling
from metarl.experiment.builders import make_vector_env
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.sampling.memory import parameter_bytes, require_memory, rollout_bytes
from metarl.system.machine import available_memory
from metarl.training import prepare

ROOT = Path(__file__).parents[3]
POINT = Environment(id="envs:metarl/PointNav-v0", horizon=100)
HUGE = 10**9

PEAK = """
import numpy as np
from metarl.experiment.builders import initial_params, make_policy, make_vector_env
from metarl.experiment import Environment, Experiment
from metarl.parameters import expand
from metarl.policy_gradient.advantages import policy_gradient_batch
from metarl.sampling.memory import rollout_bytes
from metarl.sampling.rollout import rollout

def play(episodes, horizon):
    experiment = Experiment(env=Environment(id="envs:metarl/PointNav-v0", horizon=horizon))
    env = make_vector_env(experiment.env, 2 * episodes, 1)
    env.set_tasks(env.task_space.grid(2))
    policy = make_policy(experiment, env)
    generators = [np.random.default_rng(m) for m in range(2)]
    params = expand(initial_params(policy, experiment), 2)
    policy_gradient_batch(rollout(env, policy, params, generators, horizon), 0.9, 1)
    (peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return 1024 * int(peak.split()[1])

print(rollout_bytes(1600, 200, 2, 2), -play(2, 2) + play(800, 200))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from Linux's /proc")
def test_a_rollout_really_takes_what_is_said():
    process = subprocess.run([sys.executable, "-c", PEAK], cwd=ROOT, capture_output=True, text=True, check=True)
    said, took = map(int, process.stdout.split())
    assert 0.3 * took < said < took


def test_parameters_are_counted():
    policy = GaussianMLP(observation_size=3, action_size=2, hidden_sizes=(5, 4))
    params = policy.init(torch.Generator())
    count = sum(p.numel() for name, p in params.items() if name != "log_std")
    assert parameter_bytes(policy.layer_sizes) == 4 * count


def test_what_fits_is_not_refused():
    require_memory(1, "one", "no")
    with pytest.raises(UserError, match=r"two take at least 1.0e\+12 GB of memory, and .* GB are available: less"):
        require_memory(10**21, "two", "less")
    assert available_memory() is None or available_memory() > 2**20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": Sampling(tasks=HUGE)}, r"20,000,000,000 simulations \(tasks times episodes\).*fewer tasks"),
        ({"sampling": Sampling(episodes=10**20)}, r"simulations \(tasks times episodes\)"),
        ({"env": Environment(id=POINT.id, horizon=HUGE)}, r"env.horizon = 1,000,000,000 steps take at least"),
        ({"env": Environment(id=POINT.id, horizon=10**20)}, r"env.horizon = 100,000,000,000,000,000,000 steps"),
        ({"policy": Policy(hidden_sizes=(10**6, 10**6))}, r"hidden_sizes = \[1000000, 1000000\] take at least"),
        ({"policy": Policy(hidden_sizes=(10**20,))}, r"hidden_sizes = \[100000000000000000000\] take"),
    ],
)
def test_settings_that_no_machine_has_room_for_are_refused_before_anything_is_built(changes, message):
    with pytest.raises(UserError, match=message):
        prepare(Experiment(**{"env": POINT, **changes}))


def test_the_largest_rollout_that_fits_is_built():
    assert rollout_bytes(2000, 100, 2, 2) < 2**27
    assert make_vector_env(POINT, 2000, 1).num_envs == 2000
