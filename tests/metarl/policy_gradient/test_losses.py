"""Exact expectations on a decision process with 2 states, 2 actions and T = 3 undiscounted steps.

All 64 trajectories are enumerated along the episode axis. With the probability of each as its weight in
`valid`, the mean over steps is the exact expectation (1/T) sum_t E[...], and the expected return J can be
differentiated directly. Its Hessian, with pi_t short for pi(a_t|s_t) and Q_t for the value of a_t in s_t, is
H1 + H2 + H12 + H12^T:

    H1 = sum_t E[grad log pi_t grad log pi_t^T Q_t]    H2 = sum_t E[hess log pi_t Q_t]
    H12 = sum_t E[grad log pi_t grad Q_t^T]            as Q_t depends on the later policy

`dice` has all of it, `ratio` has H1 + H2, `reinforce` H2 alone. H12 vanishes where actions do not move the state:
grad Q_t is then the same for all actions, and the expectation of a score is 0.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from metarl.policy_gradient.losses import INNER_LOSSES, mean_over_steps

T = 3
ALPHA = 0.7
S, A = (  # (64, T) each: what happens in each trajectory
    torch.tensor(list(itertools.product([0, 1], repeat=2 * T))).view(-1, T, 2).unbind(-1)
)
THETA = torch.tensor([0.3, -0.8, -0.5, 0.4], dtype=torch.float64)  # logits of (state, action)


@dataclass(frozen=True)
class Process:
    start: Tensor
    """(s,)"""
    transition: Tensor
    """(s, a, s')"""
    reward: Tensor
    """(s, a)"""

    def log_probs(self, theta: Tensor) -> Tensor:
        """(1, 64, T)"""
        return theta.view(2, 2).log_softmax(-1)[S, A].unsqueeze(0)

    def probabilities(self, theta: Tensor) -> Tensor:
        """(64,), of the trajectories."""
        moves = self.transition[S[:, :-1], A[:, :-1], S[:, 1:]].prod(-1)
        return self.start[S[:, 0]] * moves * self.log_probs(theta).squeeze(0).sum(-1).exp()

    def expected_return(self, theta: Tensor) -> Tensor:
        return self.probabilities(theta) @ self.reward[S, A].sum(-1)

    def q(self, theta: Tensor) -> Tensor:
        """Q_t of each trajectory's steps, (64, T), by backward recursion."""
        pi, value, out = theta.view(2, 2).softmax(-1), torch.zeros(2, dtype=torch.float64), []
        for t in reversed(range(T)):
            q = self.reward + self.transition @ value  # (s, a)
            out.insert(0, q[S[:, t], A[:, t]])
            value = (pi * q).sum(-1)
        return torch.stack(out, -1)

    def value(self, theta: Tensor) -> Tensor:
        """V_t, (64, T): Q_t averaged over the action."""
        pi, value, out = theta.view(2, 2).softmax(-1), torch.zeros(2, dtype=torch.float64), []
        for t in reversed(range(T)):
            value = (pi * (self.reward + self.transition @ value)).sum(-1)
            out.insert(0, value[S[:, t]])
        return torch.stack(out, -1)

    def returns_to_go(self, theta: Tensor) -> Tensor:
        """(64, T): sampled, not averaged over the future."""
        return self.reward[S, A].flip(-1).cumsum(-1).flip(-1)

    def surrogate(self, loss: str, old: Tensor, advantages: Tensor) -> Callable[[Tensor], Tensor]:
        """theta -> minus T times the loss, all else held at the old policy, which drew everything."""
        valid = self.probabilities(old)[None, :, None].expand(1, -1, T)
        old_log_probs = self.log_probs(old)
        return lambda theta: (
            -T * INNER_LOSSES[loss](self.log_probs(theta), old_log_probs, advantages.unsqueeze(0), valid).sum()
        )


def expectation(process: Process, values: Tensor) -> Tensor:
    """sum_t E[values] of (64, T, ...) values at THETA."""
    return torch.einsum("e,et...->...", process.probabilities(THETA), values)


def scores(process: Process) -> Tensor:
    """grad log pi_t, (64, T, P)."""
    return jacobian(process.log_probs, THETA).squeeze(0)


START = torch.tensor([0.6, 0.4], dtype=torch.float64)
REWARD = torch.tensor([[1.0, -0.5], [0.2, 2.0]], dtype=torch.float64)
MOVING = torch.tensor([[[0.9, 0.1], [0.3, 0.7]], [[0.4, 0.6], [0.8, 0.2]]], dtype=torch.float64)
GENERAL = Process(START, MOVING, REWARD)
BANDIT = Process(START, MOVING[:, :1].expand(2, 2, 2), REWARD)  # actions do not move the state
ADVANTAGES = {
    "returns to go": lambda process: process.returns_to_go(THETA),
    "action values": lambda process: process.q(THETA),
    "advantages": lambda process: process.q(THETA) - process.value(THETA),
}

processes = pytest.mark.parametrize("process", [GENERAL, BANDIT], ids=["general", "bandit"])
advantages = pytest.mark.parametrize("advantage", ADVANTAGES.values(), ids=ADVANTAGES)


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def true_gradient(process: Process, theta: Tensor) -> Tensor:
    return jacobian(process.expected_return, theta)


@processes
def test_the_enumeration_is_complete(process):
    assert_equal(process.probabilities(THETA).sum(), torch.ones((), dtype=torch.float64))
    first = process.probabilities(THETA) @ process.q(THETA)[:, 0]
    assert_equal(first, process.expected_return(THETA))


@processes
@advantages
@pytest.mark.parametrize("loss", ["ratio", "reinforce", "dice"])
def test_the_gradient_is_the_policy_gradient(process, advantage, loss):
    surrogate = process.surrogate(loss, THETA, advantage(process))
    assert_equal(jacobian(surrogate, THETA), true_gradient(process, THETA))


@advantages
def test_ratio_has_the_true_hessian_where_actions_do_not_move_the_state(advantage):
    surrogate = BANDIT.surrogate("ratio", THETA, advantage(BANDIT))
    assert_equal(hessian(surrogate, THETA), hessian(BANDIT.expected_return, THETA))


@processes
@advantages
def test_ratio_lacks_the_dependence_of_later_values_on_the_policy(process, advantage):
    surrogate = process.surrogate("ratio", THETA, advantage(process))
    h12 = expectation(process, scores(process)[..., :, None] * jacobian(process.q, THETA)[..., None, :])
    assert_equal(hessian(process.expected_return, THETA) - hessian(surrogate, THETA), h12 + h12.mT)
    assert (h12.abs().max() > 0.01) == (process is GENERAL)


@processes
@advantages
def test_reinforce_lacks_the_outer_product_of_the_scores_too(process, advantage):
    estimates = advantage(process)
    ratio, reinforce = (hessian(process.surrogate(loss, THETA, estimates), THETA) for loss in ("ratio", "reinforce"))
    score = scores(process)
    h1 = expectation(process, score[..., :, None] * score[..., None, :] * estimates[..., None, None])
    assert_equal(ratio - reinforce, h1)
    assert h1.abs().max() > 0.1


@processes
@advantages
def test_dice_has_the_true_hessian(process, advantage):
    surrogate = process.surrogate("dice", THETA, advantage(process))
    assert_equal(hessian(surrogate, THETA), hessian(process.expected_return, THETA))


def test_dice_credits_later_steps_of_its_own_episode_only():
    """By hand, for two steps with ratios a, b in one episode: a A_1 + (a b - a) A_2, and nothing of padding."""
    old = torch.zeros(1, 2, 3)
    log_probs = torch.tensor([[[0.1, -0.3, 5.0], [0.2, 0.4, -7.0]]])
    advantages = torch.tensor([[[2.0, -1.0, 9.0], [0.5, 3.0, 9.0]]])
    valid = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]])
    a, b = log_probs[0, :, 0].exp(), log_probs[0, :, 1].exp()
    rewards = (a - 1) * advantages[0, :, 0] + (a * b - a) * advantages[0, :, 1]
    torch.testing.assert_close(INNER_LOSSES["dice"](log_probs, old, advantages, valid), -rewards.sum().view(1) / 4)


def adapted(process: Process, loss: str, theta: Tensor) -> Tensor:
    """theta + alpha times the expected gradient of the surrogate whose trajectories come from THETA."""
    surrogate = process.surrogate(loss, THETA, process.q(THETA) - process.value(THETA))
    return theta + ALPHA * torch.autograd.grad(surrogate(theta), theta, create_graph=True)[0]


def meta_gradient(process: Process, query: Process, loss: str) -> Tensor:
    """Of the query's surrogate after one step, with expectations over both rounds of trajectories."""
    theta = THETA.clone().requires_grad_()
    after = adapted(process, loss, theta)
    old = after.detach()
    surrogate = query.surrogate("ratio", old, query.q(old) - query.value(old))
    return torch.autograd.grad(surrogate(after), theta)[0]


def true_meta_gradient(process: Process, query: Process) -> Tensor:
    theta = THETA.clone().requires_grad_()
    gradient = torch.autograd.grad(process.expected_return(theta), theta, create_graph=True)[0]
    return torch.autograd.grad(query.expected_return(theta + ALPHA * gradient), theta)[0]


def test_the_meta_gradient_through_ratio_is_unbiased_where_actions_do_not_move_the_state():
    assert_equal(meta_gradient(BANDIT, GENERAL, "ratio"), true_meta_gradient(BANDIT, GENERAL))


def test_the_meta_gradient_through_reinforce_lacks_the_outer_product():
    """The bias is alpha E[sum_t grad log pi_t grad log pi_t^T A_t] times the gradient after adaptation."""
    advantage, score = BANDIT.q(THETA) - BANDIT.value(THETA), scores(BANDIT)
    h1 = expectation(BANDIT, score[..., :, None] * score[..., None, :] * advantage[..., None, None])
    after = THETA + ALPHA * true_gradient(BANDIT, THETA)
    bias = ALPHA * h1 @ true_gradient(GENERAL, after)
    assert_equal(meta_gradient(BANDIT, GENERAL, "reinforce") + bias, true_meta_gradient(BANDIT, GENERAL))
    assert bias.norm() > 0.05 * true_meta_gradient(BANDIT, GENERAL).norm()


def test_the_meta_gradient_through_dice_is_unbiased():
    assert_equal(meta_gradient(GENERAL, GENERAL, "dice"), true_meta_gradient(GENERAL, GENERAL))
    for biased in ("ratio", "reinforce"):
        wrong = meta_gradient(GENERAL, GENERAL, biased) - true_meta_gradient(GENERAL, GENERAL)
        assert wrong.norm() > 0.01 * true_meta_gradient(GENERAL, GENERAL).norm()


def test_mean_over_steps_counts_each_tasks_own_valid_steps():
    values = torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]], [[7.0, 8.0, 9.0]]])
    valid = torch.tensor([[[1.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]])
    torch.testing.assert_close(mean_over_steps(values, valid), torch.tensor([2.0, 4.0, 0.0]))
