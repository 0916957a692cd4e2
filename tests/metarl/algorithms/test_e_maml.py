"""E-MAML's credit against the derivative of an expectation that is enumerated, and in the updates that use it.

A process of 2 states, 2 actions and at most T = 2 steps has 20 episodes: it ends at random after the first step. Each
episode is the support of one task; weighted by its probability, the sum over tasks is the expectation over what is
collected before adaptation, whose derivative with respect to theta is known by differentiating the sum itself.
"""

import itertools
from dataclasses import replace

import pytest
import torch

from metarl.algorithms import e_maml
from metarl.algorithms.maml_sgd import MAMLSGD
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.meta_gradient import adapt_and_linearize, meta_gradient
from metarl.inner.sgd import SGD
from metarl.parameters import expand, flatten, leaves, unflatten
from metarl.policy_gradient.advantages import policy_gradient_batch
from metarl.policy_gradient.losses import INNER_LOSSES
from metarl.types import Batch, Experience, Gaussian, Trajectories

T, ALPHA = 2, 1.5
FULL = [(*steps, 1) for steps in itertools.product([0, 1], repeat=2 * T)]
SHORT = [(s, a, 0, 0, 0) for s, a in itertools.product([0, 1], repeat=2)]
EPISODES = torch.tensor(FULL + SHORT)  # (20, s a s a and whether there is a second step)
S, A = EPISODES[:, :-1].view(-1, T, 2).unbind(-1)  # (20, T) each
VALID = torch.stack([torch.ones(20), EPISODES[:, -1]], -1).double()
START = torch.tensor([0.6, 0.4], dtype=torch.float64)
MOVES = torch.tensor([[[0.9, 0.1], [0.3, 0.7]], [[0.4, 0.6], [0.8, 0.2]]], dtype=torch.float64)  # (s, a, s')
END = torch.tensor([[0.8, 0.3], [0.6, 0.1]], dtype=torch.float64)  # (s, a): probability of an end after the first step
REWARDS = torch.tensor([[1.0, 0.5], [0.2, 2.0]], dtype=torch.float64)  # (s, a)
RETURNS_TO_GO = (REWARDS[S, A] * VALID).flip(-1).cumsum(-1).flip(-1)  # (20, T)
THETA = {"logits": torch.tensor([[0.3, -0.8], [-0.5, 0.4]], dtype=torch.float64)}


class Tabular:
    """A softmax over two actions in each of two states, (M, s, a); states and actions of a batch are numbers."""

    names = head = ("logits",)

    def log_probs(self, params, batch):
        tables = params["logits"].log_softmax(-1).expand(batch.num_tasks, 2, 2)
        m = torch.arange(batch.num_tasks)[:, None, None]
        return tables[m, batch.observations[..., 0].long(), batch.actions[..., 0].long()]

    def inner_losses(self, params, batch, loss):
        return INNER_LOSSES[loss](self.log_probs(params, batch), batch.log_probs, batch.advantages, batch.valid)

    def outer_losses(self, params, batch):
        return self.inner_losses(params, batch, "ratio")


def probabilities(logits):
    """Of the 20 episodes under one table (s, a)."""
    goes_on = (1 - END[S[:, 0], A[:, 0]]) * MOVES[S[:, 0], A[:, 0], S[:, 1]]
    rest = torch.where(VALID[:, 1] > 0, goes_on, END[S[:, 0], A[:, 0]])
    return START[S[:, 0]] * rest * (logits.log_softmax(-1)[S, A] * VALID).sum(-1).exp()


def expected_return(logits):
    return probabilities(logits) @ RETURNS_TO_GO[:, 0]


def no_gaussian(M, E):
    return Gaussian(torch.zeros(M, E, T, 1), torch.zeros(M, 1))


def every_episode():
    """The support of 20 tasks, an episode each."""
    states, actions = S[:, None, :, None], A[:, None, :, None]
    log_probs = THETA["logits"].log_softmax(-1)[S, A].unsqueeze(1)
    valid = VALID.unsqueeze(1)
    return Batch(states, actions, RETURNS_TO_GO.unsqueeze(1), valid, log_probs, no_gaussian(20, 1), torch.zeros(20))


def collected(tables, E=50_000):
    """E episodes of each of M tables (M, s, a), without chance: each of the 20 as often as expected, within 1."""
    quantiles = (torch.arange(E) + 0.5) / E
    drawn = torch.stack([torch.searchsorted(probabilities(table).cumsum(0), quantiles) for table in tables])
    states, actions, valid = S[drawn], A[drawn].unsqueeze(-1), VALID[drawn]
    observations = torch.cat([states, states[..., -1:]], -1).unsqueeze(-1).double()
    ends = torch.cat([valid[..., :1] - valid[..., 1:], valid[..., 1:]], -1)
    rewards = REWARDS[states, A[drawn]] * valid
    trajectories = Trajectories(observations, actions, rewards, 1 - ends, valid, no_gaussian(len(tables), E))
    batch = policy_gradient_batch(trajectories, gamma=1, lambda_=1)
    return replace(batch, log_probs=Tabular().log_probs({"logits": tables}, batch))


def true_gradient():
    """Of E[J(theta + alpha g(theta, D))] over D ~ theta, with g the policy gradient of one episode, a mean of steps."""
    at = THETA["logits"].clone().requires_grad_()
    total = 0.0
    for states, actions, valid, values, p in zip(S, A, VALID, RETURNS_TO_GO, probabilities(at), strict=True):
        objective = (at.log_softmax(-1)[states, actions] * values * valid).sum() / valid.sum()
        step = torch.autograd.grad(objective, at, create_graph=True)[0]
        total = total + p * expected_return(at + ALPHA * step)
    return torch.autograd.grad(total, at)[0]


@pytest.fixture
def adapted_to_every_episode():
    """The model, the adaptation to each of the 20 episodes, and these episodes."""
    model, support = Tabular(), [every_episode()]
    return model, adapt_and_linearize(SGD(step_size=ALPHA, loss="reinforce"), model, THETA, 20, support), support


def test_with_its_credit_the_gradient_is_that_of_the_expectation(adapted_to_every_episode):
    model, adaptation, support = adapted_to_every_episode
    p = probabilities(THETA["logits"])
    assert p.sum().item() == pytest.approx(1, abs=1e-12)

    def weighted_return(adapted):
        return p * torch.stack([expected_return(table) for table in adapted["logits"]])

    credit = weighted_return(adaptation.adapted)
    grads = e_maml.exploration_grads(model, adaptation, support, credit)
    _, with_credit = meta_gradient(model, adaptation, weighted_return, grads)
    _, without = meta_gradient(model, adaptation, weighted_return)
    torch.testing.assert_close(with_credit["logits"].sum(0), true_gradient(), rtol=1e-10, atol=1e-12)
    assert (without["logits"].sum(0) - true_gradient()).norm() > 0.2 * true_gradient().norm()


def test_returns_have_the_unit_of_the_surrogate_where_episodes_end_early(adapted_to_every_episode):
    """The same with the surrogate and the returns of batches: neither knows J, but both have the same unit."""
    model, adaptation, support = adapted_to_every_episode
    tables = adaptation.adapted["logits"].detach()
    query = collected(tables)
    unit = torch.stack([expected_return(table) for table in tables]) / query.returns  # of the task's advantages
    weights = probabilities(THETA["logits"]) * unit

    def surrogate(adapted):
        return -weights * model.outer_losses(adapted, query)

    grads = e_maml.exploration_grads(model, adaptation, support, weights * query.returns)
    _, gradient = meta_gradient(model, adaptation, surrogate, grads)
    torch.testing.assert_close(gradient["logits"].sum(0), true_gradient(), rtol=1e-3, atol=1e-4)


def test_credit_is_given_for_a_return_above_that_of_the_other_tasks():
    """Whose last task has no step that counts."""
    returns, none = torch.tensor([1.0, 2.0, 6.0, 0.0]), torch.zeros(4, 1, 2)
    valid = torch.ones_like(none).index_fill(0, torch.tensor(3), 0)
    query = Batch(*(torch.zeros(4, 1, 2, n) for n in (1, 1)), none, valid, none, GAUSSIAN, returns)
    experience = Experience((), {"w": torch.zeros(4, 1)}, query)
    expected = [0.5 * (1 - 4), 0.5 * (2 - 3.5), 0.5 * (6 - 1.5), 0]
    assert torch.cat(e_maml.exploration_credits(0.5, experience)).tolist() == expected
    assert e_maml.exploration_credits(0.0, experience) == [None] * 4


GAUSSIAN = Gaussian(torch.zeros(4, 1, 2, 1), torch.zeros(4, 1))
M, INNER = 3, SGD(steps=2, step_size=0.3, loss="reinforce")


@pytest.fixture
def experience(policy, theta, collect):
    params, support = expand(theta, M), []
    for k in range(INNER.steps):
        support.append(collect(params, seed=k))
        params = INNER.descend(policy, params, support[-1])
    return Experience(tuple(support), params, collect(params, seed=INNER.steps))


def credited_surrogate(policy, params, experience, weight):
    """Mean over tasks of the surrogate, plus the credit times the log-probability of all support episodes."""
    returns, adapted, total = experience.query.returns, expand(params, M), 0.0
    others = (returns.sum() - returns) / (M - 1)
    for batch in experience.support:
        log_ratio = (policy.log_probs(adapted, batch) - batch.log_probs) * batch.valid
        total = total + weight * (returns - others) * log_ratio.sum((1, 2))
        adapted = INNER.descend(policy, adapted, batch)
    return (total - policy.outer_losses(adapted, experience.query)).mean()


def test_maml_sgd_follows_the_gradient_of_the_credited_surrogate(policy, theta, experience):
    algorithm = MAMLSGD(inner=INNER, optimizer="sgd", step_size=1.0, exploration_credit=0.01)
    updated, *_ = algorithm.update(policy, theta, {}, experience)
    h, at = 1e-5, flatten(theta)

    def value(vector):
        return credited_surrogate(policy, leaves(unflatten(vector, theta)), experience, 0.01).detach()

    basis = h * torch.eye(len(at), dtype=torch.float64)
    numeric = torch.stack([(value(at + e) - value(at - e)) / (2 * h) for e in basis])
    torch.testing.assert_close(flatten(updated) - at, M * numeric, rtol=1e-5, atol=1e-7)


def test_maml_trpo_improves_the_credited_surrogate(policy, theta, experience):
    algorithm = MAMLTRPO(inner=INNER, exploration_credit=0.01)
    updated, _, metrics = algorithm.update(policy, theta, {}, experience)
    before, after = (credited_surrogate(policy, params, experience, 0.01).item() for params in (theta, updated))
    assert metrics["accepted"] == 1
    assert metrics["improvement"] == pytest.approx(after - before, rel=1e-9)
    plain, *_ = MAMLTRPO(inner=INNER).update(policy, theta, {}, experience)
    assert credited_surrogate(policy, plain, experience, 0.01) < after
    assert not torch.allclose(flatten(plain), flatten(updated), rtol=1e-3)


def test_the_policy_that_collected_the_episodes_is_the_zero_of_its_credit(policy, theta, experience):
    values = e_maml.exploration_term(
        policy, expand(theta, M), experience.support[0], torch.ones(M, dtype=torch.float64)
    )
    assert values.abs().max() < 1e-12
