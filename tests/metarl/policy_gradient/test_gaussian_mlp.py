import math
from dataclasses import replace

import pytest
import torch
from torch import distributions

from metarl.parameters import expand, select
from metarl.policy_gradient.gaussian_mlp import GaussianMLP, kl_divergence, log_prob
from metarl.types import Gaussian

M, E, T, A = 3, 2, 4, 5


def gaussian(seed):
    rng = torch.Generator().manual_seed(seed)
    mean = torch.randn(M, E, T, A, generator=rng, dtype=torch.float64)
    return Gaussian(mean, torch.randn(M, A, generator=rng, dtype=torch.float64))


def independent_normal(policy):
    std = policy.log_std.exp()[:, None, None].expand_as(policy.mean)
    return distributions.Independent(distributions.Normal(policy.mean, std), 1)


def stacked(policy, seed=0):
    """Another set of parameters for each task, in float64."""
    rng = torch.Generator().manual_seed(seed)
    sets = [policy.init(rng) for _ in range(M)]
    return {
        name: torch.stack([s[name] + torch.randn(s[name].shape, generator=rng) for s in sets]).double()
        for name in sets[0]
    }


def test_log_prob_is_that_of_independent_normals():
    policy, actions = gaussian(0), gaussian(1).mean
    torch.testing.assert_close(log_prob(policy, actions), independent_normal(policy).log_prob(actions))


def test_kl_divergence_is_that_of_independent_normals():
    p, q = gaussian(0), gaussian(1)
    expected = distributions.kl_divergence(independent_normal(p), independent_normal(q))
    torch.testing.assert_close(kl_divergence(p, q), expected)
    assert not kl_divergence(p, p).any()


def test_stacked_parameters_act_as_each_task_alone(policy):
    params = stacked(policy)
    observations = torch.randn(M, E, T, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = policy.distribution(params, observations)
    for m in range(M):
        own = {name: p[m] for name, p in params.items()}  # no task axis
        alone = policy.distribution(own, observations[m : m + 1])
        torch.testing.assert_close(together.mean[m], alone.mean[0])
        torch.testing.assert_close(together.log_std[m], alone.log_std[0])


def test_shared_parameters_act_alike_on_all_tasks(policy, theta):
    observations = torch.randn(M, E, T, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shared, copies = (policy.distribution(p, observations) for p in (theta, expand(theta, M)))
    torch.testing.assert_close(shared.mean, copies.mean)
    torch.testing.assert_close(shared.log_std, copies.log_std)


def test_mean_is_the_tanh_network():
    policy = GaussianMLP(observation_size=1, action_size=1, hidden_sizes=(2,))
    params = {
        "w0": torch.tensor([[0.5, -1.0]]),
        "b0": torch.tensor([0.1, 0.2]),
        "w1": torch.tensor([[2.0], [3.0]]),
        "b1": torch.tensor([-0.3]),
        "log_std": torch.zeros(1),
    }
    expected = 2 * math.tanh(0.5 * 0.4 + 0.1) + 3 * math.tanh(-0.4 + 0.2) - 0.3
    assert policy.mean(params, torch.tensor([[[0.4]]])).item() == pytest.approx(expected, rel=1e-6)


def test_initial_parameters_are_a_function_of_the_generator():
    policy = GaussianMLP(observation_size=7, action_size=2, hidden_sizes=(30, 20), initial_std=0.5)
    params, again, other = (policy.init(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    for layer, (fan_in, fan_out) in enumerate([(7, 30), (30, 20), (20, 2)]):
        w, limit = params[f"w{layer}"], math.sqrt(6 / (fan_in + fan_out))
        assert w.shape == (fan_in, fan_out)
        assert 0.8 * limit < w.abs().max() <= limit
        assert torch.equal(w, again[f"w{layer}"])
        assert not torch.equal(w, other[f"w{layer}"])
        assert not params[f"b{layer}"].any()
    torch.testing.assert_close(policy.log_std(params).exp(), torch.full((2,), 0.5), rtol=0.01, atol=0)


def test_the_floor_of_the_standard_deviation_holds_and_lets_it_recover():
    policy = GaussianMLP(observation_size=1, action_size=5, min_std=0.1)
    floor = math.log(0.1)
    raw = torch.tensor([-1e6, floor - 10, floor - 3, floor, 5.0], dtype=torch.float64, requires_grad=True)
    bent = policy.log_std({"log_std": raw})
    assert (bent >= floor).all()
    assert (bent.diff() > 0).all()
    gradient = torch.autograd.grad(bent.sum(), raw)[0]
    assert (gradient[1:] > 1e-5).all()  # ten below: the standard deviation would have been e^-10 of the floor
    assert bent[-1].item() == pytest.approx(5.0, abs=1e-3)  # far above, the floor does not bend
    assert gradient[-1].item() == pytest.approx(1.0, abs=1e-3)


def test_without_a_floor_the_parameter_is_the_logarithm(policy, theta):
    assert replace(policy, min_std=0.0).log_std(theta) is theta["log_std"]


def test_the_floor_can_be_unbent():
    policy = GaussianMLP(observation_size=1, action_size=4, min_std=0.1)
    raw = torch.tensor([math.log(0.1) - 6, -2.0, 0.0, 50.0], dtype=torch.float64)
    torch.testing.assert_close(policy.raw_log_std(policy.log_std({"log_std": raw})), raw)
    below = policy.log_std({"log_std": policy.raw_log_std(torch.tensor([-5.0, -math.inf, math.log(0.1)]))})
    torch.testing.assert_close(below.exp(), torch.full((3,), 0.1001), rtol=1e-5, atol=0)
    assert torch.equal(replace(policy, min_std=0.0).raw_log_std(raw), raw)


def test_the_ratio_is_one_at_the_sampling_parameters(policy, collect):
    params = stacked(policy)
    batch = collect(params, seed=0)
    for m in range(M):  # worked on alone, after having been collected together
        task = slice(m, m + 1)
        alone = policy.distribution(select(params, task), batch.tasks(task).observations)
        ratio = torch.exp(log_prob(alone, batch.tasks(task).actions) - batch.tasks(task).log_probs)
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=1e-12, atol=0)
