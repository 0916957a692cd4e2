"""Estimates of memory against peaks that were measured, and settings whose numbers are too large."""

import pytest

from metarl.algorithms import MAMLPPO, MAMLSGD, MAMLTRPO, ProMP, Reptile
from metarl.algorithms.memory import iteration_bytes
from metarl.experiment import Experiment, Sampling
from metarl.inner import PPO, SB3A2C, SB3PPO, SGD
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.system.machine import available_memory
from metarl.training import warn_of_memory

POLICY = GaussianMLP(17, 6, (64, 64))


@pytest.mark.parametrize(
    ("algorithm", "sizes", "measured"),
    [
        (MAMLTRPO(), (100, 20, 100), 689),
        (MAMLTRPO(), (400, 20, 100), 1541),
        (MAMLTRPO(), (400, 50, 200), 5394),
        (ProMP(), (400, 20, 100), 1228),
        (Reptile(), (400, 20, 100), 1372),
    ],
)
def test_the_estimate_is_near_what_was_measured(algorithm, sizes, measured):
    """In MiB, for the sizes of HalfCheetahVel, as the README of the algorithms has them."""
    assert 0.9 * measured < iteration_bytes(algorithm, POLICY, *sizes) / 2**20 < 1.3 * measured


def test_a_run_that_does_not_fit_is_told_before_it_begins(recwarn):
    small = Experiment()
    warn_of_memory(small, POLICY)
    assert not recwarn.list
    large = Experiment(sampling=Sampling(tasks=10**6, episodes=1000))
    if available_memory() is not None:
        with pytest.warns(UserWarning, match=r"1000000 tasks.*needs about .* GiB of memory, and .* are available"):
            warn_of_memory(large, POLICY)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Reptile, "step_size", 1e308),
        (Reptile, "final_step_size", 1e308),
        (MAMLPPO, "step_size", 1e38),
        (MAMLSGD, "step_size", 1e38),
        (ProMP, "kl_penalty", 1e300),
        (MAMLTRPO, "max_kl", 1e300),
        (MAMLTRPO, "curvature_stride", 10**20),
        (ProMP, "epochs", 10**9),
        (PPO, "epochs", 10**9),
        (SB3PPO, "epochs", 10**9),
        (SB3A2C, "learning_rate", 1e38),
        (SGD, "steps", 10**9),
        (SGD, "step_size", 1e308),
    ],
)
def test_numbers_far_beyond_use_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=f"{name}\n.*less than or equal to"):
        kind(**{name: value})
