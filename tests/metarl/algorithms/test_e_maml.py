"""E-MAML's credit against the derivative of an expectation that is enumerated, and in the updates that use it.

A process of 2 states, 2 actions and T = 2 steps has 16 episodes. Each is the support of one task; weighted by its
probability, the sum over tasks is the expectation over what is collected before adaptation, whose derivative with
respect to theta is known by differentiating the sum itself.
"""

import itertools

import pytest
import torch

from metarl.algorithms import e_maml
from metarl.algorithms.maml_sgd import MAMLSGD
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.meta_gradient import adapt_and_linearize, meta_gradient
from metarl.inner.sgd import SGD
from metarl.parameters import expand, flatten, leaves, unflatten
from metarl.types import Batch, Experience, Gaussian

T, ALPHA = 2, 1.5
S, A = torch.tensor(list(itertools.product([0, 1], repeat=2 * T))).view(-1, T, 2).unbind(-1)  # (16, T) each
START = torch.tensor([0.6, 0.4], dtype=torch.float64)
MOVES = torch.tensor([[[0.9, 0.1], [0.3, 0.7]], [[0.4, 0.6], [0.8, 0.2]]], dtype=torch.float64)  # (s, a, s')
REWARDS = torch.tensor([[1.0, -0.5], [0.2, 2.0]], dtype=torch.float64)  # (s, a)
RETURNS_TO_GO = REWARDS[S, A].flip(-1).cumsum(-1).flip(-1)  # (16, T)
THETA = {"logits": torch.tensor([[0.3, -0.8], [-0.5, 0.4]], dtype=torch.float64)}


class Tabular:
    """A softmax over two actions in each of two states, (M, s, a); states and actions of a batch are numbers."""

    names = head = ("logits",)

    def log_probs(self, params, batch):
        tables = params["logits"].log_softmax(-1).expand(batch.num_tasks, 2, 2)
        m = torch.arange(batch.num_tasks)[:, None, None]
        return tables[m, batch.observations[..., 0], batch.actions[..., 0]]

    def inner_losses(self, params, batch, loss):
        assert loss == "reinforce"
        return -(self.log_probs(params, batch) * batch.advantages).mean((1, 2))


def probabilities(logits):
    """Of the 16 episodes under one table (s, a)."""
    steps = MOVES[S[:, :-1], A[:, :-1], S[:, 1:]].prod(-1)
    return START[S[:, 0]] * steps * logits.log_softmax(-1)[S, A].sum(-1).exp()


def expected_return(logits):
    return probabilities(logits) @ REWARDS[S, A].sum(-1)


def every_episode():
    """The support of 16 tasks, an episode each."""
    states, actions = S[:, None, :, None], A[:, None, :, None]
    log_probs = THETA["logits"].log_softmax(-1)[S, A].unsqueeze(1)
    ones = torch.ones(16, 1, T, dtype=torch.float64)
    no_gaussian = Gaussian(torch.zeros(16, 1, T, 1), torch.zeros(16, 1))
    return Batch(states, actions, RETURNS_TO_GO.unsqueeze(1), ones, log_probs, no_gaussian, torch.zeros(16))


def true_gradient():
    """Of E[J(theta + alpha g(theta, D))] over D ~ theta, with g the policy gradient of one episode, a mean of steps."""
    at = THETA["logits"].clone().requires_grad_()
    total = 0.0
    for states, actions, values, p in zip(S, A, RETURNS_TO_GO, probabilities(at), strict=True):
        objective = (at.log_softmax(-1)[states, actions] * values).mean()
        step = torch.autograd.grad(objective, at, create_graph=True)[0]
        total = total + p * expected_return(at + ALPHA * step)
    return torch.autograd.grad(total, at)[0]


def test_with_its_credit_the_gradient_is_that_of_the_expectation():
    model, support = Tabular(), [every_episode()]
    adaptation = adapt_and_linearize(SGD(step_size=ALPHA, loss="reinforce"), model, THETA, 16, support)
    p = probabilities(THETA["logits"])

    def weighted_return(adapted):
        return p * torch.stack([expected_return(table) for table in adapted["logits"]])

    credit = weighted_return(adaptation.adapted)
    grads = e_maml.exploration_grads(model, adaptation, support, credit)
    _, with_credit = meta_gradient(model, adaptation, weighted_return, grads)
    _, without = meta_gradient(model, adaptation, weighted_return)
    torch.testing.assert_close(with_credit["logits"], true_gradient(), rtol=1e-10, atol=1e-12)
    assert (without["logits"] - true_gradient()).norm() > 0.2 * true_gradient().norm()


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
