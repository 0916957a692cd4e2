import pytest
import torch

from metarl.inner import PPO, SGD
from metarl.inner.sgd import gradient
from metarl.parameters import expand, leaves, select
from metarl.policy_gradient.gaussian_mlp import log_prob
from metarl.types import Batch, Gaussian

M = 3
losses = pytest.mark.parametrize("loss", ["ratio", "reinforce", "dice"])


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-13)


@losses
def test_a_step_of_size_zero_stays(policy, theta, collect, loss):
    params = expand(theta, M)
    adapted = SGD(loss=loss).descend(policy, params, collect(params, seed=0), scale=0.0)
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
    batch = Batch(observations, actions, advantages, valid, log_probs, drawn_from, torch.zeros(1))
    adapted = SGD(step_size=0.1, loss=loss).descend(policy, params, batch)
    # ascent along (A_1 d log pi_1 + A_2 d log pi_2) / 2
    assert adapted["w0"].item() == pytest.approx(0.1 * (4 * 1 * 2 - 1 * 3 * 5) / 2)
    assert adapted["b0"].item() == pytest.approx(0.1 * (4 * 1 - 1 * 3) / 2)
    assert adapted["log_std"].item() == pytest.approx(0.1 * (4 * 0 - 1 * 8) / 2)


@losses
def test_a_tasks_step_does_not_depend_on_the_tasks_beside_it(policy, theta, collect, loss):
    params = expand(theta, M)
    batch = collect(params, seed=0)
    together = SGD(step_size=0.5, loss=loss).descend(policy, params, batch)
    for m in range(M):
        task = slice(m, m + 1)
        alone = SGD(step_size=0.5, loss=loss).descend(policy, select(params, task), batch.tasks(task))
        for name, p in alone.items():
            assert_equal(together[name][task], p)
    assert not torch.allclose(together["b0"][0], together["b0"][1])


@losses
def test_the_gradient_is_that_of_the_loss(policy, theta, collect, loss):
    params = {name: p.clone() for name, p in expand(theta, M).items()}
    batch = collect(params, seed=0)
    grad = gradient(policy, leaves(params), batch, loss)
    for name, index in [("w0", (1, 2, 3)), ("b1", (2, 0)), ("log_std", (0, 1))]:
        h, either = 1e-6, []
        for sign in (+1, -1):
            params[name][index] += sign * h
            either.append(policy.inner_losses(params, batch, loss)[index[0]])
            params[name][index] -= sign * h
        numeric = (either[0] - either[1]) / (2 * h)
        torch.testing.assert_close(grad[name][index], numeric, rtol=1e-6, atol=1e-9)


@losses
def test_the_callers_parameters_stay(policy, theta, collect, loss):
    params = {name: p.clone() for name, p in expand(theta, M).items()}
    before = {name: p.clone() for name, p in params.items()}
    adapted = SGD(step_size=0.5, loss=loss).descend(policy, params, collect(params, seed=0))
    for name, p in params.items():
        assert torch.equal(p, before[name])
        assert not p.requires_grad
        assert not torch.equal(p, adapted[name])


@losses
def test_layers_that_do_not_adapt_stay_bit_for_bit(policy, theta, collect, loss):
    params = expand(theta, M)
    adapted = SGD(loss=loss, last_layer_only=True).descend(policy, params, collect(params, seed=0))
    assert [name for name, p in adapted.items() if not torch.equal(p, params[name])] == ["w1", "b1"]
    everything = SGD(loss=loss).descend(policy, params, collect(params, seed=0))
    for name in ("w1", "b1"):
        assert torch.equal(adapted[name], everything[name])


def test_a_learned_step_size_scales_its_own_parameter(policy, theta, collect):
    learned, plain = SGD(step_size=0.2, learned_step_sizes=True), SGD(step_size=0.2)
    start = learned.start(policy, theta)
    params = expand(start | {"log_step_size.b1": torch.log(torch.tensor([0.1, 0.6], dtype=torch.float64))}, M)
    batch = collect(params, seed=0)
    adapted, expected = learned.descend(policy, params, batch), plain.descend(policy, expand(theta, M), batch)
    for name in ("w0", "b0", "w1", "log_std"):
        assert_equal(adapted[name], expected[name])
    taken, whole = adapted["b1"] - params["b1"], expected["b1"] - params["b1"]
    assert_equal(taken, whole * torch.tensor([0.5, 3.0], dtype=torch.float64))
    for name, p in params.items():
        if name.startswith("log_step_size."):
            assert torch.equal(adapted[name], p)
    assert learned.start(policy, theta).keys() - theta.keys() == {f"log_step_size.{name}" for name in theta}
    assert plain.start(policy, theta) is theta


def test_step_sizes_cannot_be_learned_without_steps():
    with pytest.raises(ValueError, match="steps = 0"):
        SGD(steps=0, learned_step_sizes=True)


def test_ppo_by_hand(policy, theta, collect):
    """Epochs of torch's own Adam on each task's clipped surrogate, written out."""
    params, settings = expand(theta, M), PPO(epochs=4, learning_rate=0.05, clip_range=0.1)
    batch = collect(params, seed=0)
    adapted = settings.descend(policy, params, batch)
    for m in range(M):
        own = {name: p[m].clone().requires_grad_() for name, p in params.items()}
        adam = torch.optim.Adam(own.values(), lr=0.05)
        for _ in range(4):
            one = batch.tasks(slice(m, m + 1))
            log_probs = log_prob(policy.distribution(own, one.observations), one.actions)
            ratio, keep = torch.exp(log_probs - one.log_probs), one.valid.bool()
            gain = torch.minimum(ratio * one.advantages, ratio.clamp(0.9, 1.1) * one.advantages)
            adam.zero_grad()
            (-gain[keep].mean()).backward()
            adam.step()
        for name, p in own.items():
            torch.testing.assert_close(adapted[name][m], p.detach(), rtol=1e-9, atol=1e-10)


def test_ppo_remembers_nothing_between_steps(policy, theta, collect):
    params = expand(theta, M)
    batch = collect(params, seed=0)
    once = PPO().descend(policy, params, batch)
    again = PPO().descend(policy, params, batch)
    for name, p in once.items():
        assert torch.equal(again[name], p)
