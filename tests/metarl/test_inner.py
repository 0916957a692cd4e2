import pytest
import torch

from metarl import inner
from metarl.parameters import chunk, expand
from metarl.types import Batch, Gaussian

M = 3
losses = pytest.mark.parametrize("loss", ["ratio", "reinforce"])


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-13)


@losses
def test_a_step_of_size_zero_stays(policy, theta, collect, loss):
    params = expand(theta, M)
    adapted = inner.adapt(policy, params, collect(params, seed=0), 0.0, loss)
    for name, p in params.items():
        assert torch.equal(adapted[name], p)
        assert not adapted[name].requires_grad


@losses
def test_a_step_by_hand(policy, loss):
    """At mean 0 and std 1, d log pi / d mean = a and d log pi / d log_std = a^2 - 1: 1, 0, then 3, 8."""
    policy = type(policy)(observation_size=1, action_size=1, hidden_sizes=(), min_std=0)
    shared = {"w0": torch.zeros(1, 1), "b0": torch.zeros(1), "log_std": torch.zeros(1)}
    params = {name: p.double() for name, p in expand(shared, 1).items()}
    observations = torch.tensor([[[[2.0], [5.0], [9e9]]]], dtype=torch.float64)
    actions = torch.tensor([[[[1.0], [3.0], [7.0]]]], dtype=torch.float64)
    advantages = torch.tensor([[[4.0, -1.0, 6.0]]], dtype=torch.float64)
    valid = torch.tensor([[[1.0, 1.0, 0.0]]], dtype=torch.float64)
    drawn_from = Gaussian(torch.zeros_like(actions), torch.zeros(1, 1, dtype=torch.float64))
    log_probs = -(actions.squeeze(-1) ** 2 + torch.tensor(2 * torch.pi).log()) / 2
    batch = Batch(observations, actions, advantages, valid, log_probs, drawn_from)
    adapted = inner.adapt(policy, params, batch, 0.1, loss)
    # ascent along (A_1 d log pi_1 + A_2 d log pi_2) / 2
    assert adapted["w0"].item() == pytest.approx(0.1 * (4 * 1 * 2 - 1 * 3 * 5) / 2)
    assert adapted["b0"].item() == pytest.approx(0.1 * (4 * 1 - 1 * 3) / 2)
    assert adapted["log_std"].item() == pytest.approx(0.1 * (4 * 0 - 1 * 8) / 2)


@losses
def test_a_tasks_step_does_not_depend_on_the_tasks_beside_it(policy, theta, collect, loss):
    params = expand(theta, M)
    batch = collect(params, seed=0)
    together = inner.adapt(policy, params, batch, 0.5, loss)
    for m in range(M):
        task = slice(m, m + 1)
        alone = inner.adapt(policy, chunk(params, task), batch.tasks(task), 0.5, loss)
        for name, p in alone.items():
            assert_equal(together[name][task], p)
    assert not torch.allclose(together["b0"][0], together["b0"][1])


@losses
def test_the_gradient_is_that_of_the_loss(policy, theta, collect, loss):
    params = {name: p.clone() for name, p in expand(theta, M).items()}
    batch = collect(params, seed=0)
    gradient = inner.gradient(policy, inner.leaves(params), batch, loss)
    for name, index in [("w0", (1, 2, 3)), ("b1", (2, 0)), ("log_std", (0, 1))]:
        h, either = 1e-6, []
        for sign in (+1, -1):
            params[name][index] += sign * h
            either.append(inner.losses(policy, params, batch, loss)[index[0]])
            params[name][index] -= sign * h
        numeric = (either[0] - either[1]) / (2 * h)
        torch.testing.assert_close(gradient[name][index], numeric, rtol=1e-6, atol=1e-9)


@losses
def test_the_callers_parameters_stay(policy, theta, collect, loss):
    params = {name: p.clone() for name, p in expand(theta, M).items()}
    before = {name: p.clone() for name, p in params.items()}
    adapted = inner.adapt(policy, params, collect(params, seed=0), 0.5, loss)
    for name, p in params.items():
        assert torch.equal(p, before[name])
        assert not p.requires_grad
        assert not torch.equal(p, adapted[name])
