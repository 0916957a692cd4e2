"""Derivatives through adaptation against finite differences and double backward, in float64.

The functions that are differentiated are written here once more, with torch.distributions and plain autograd.
What was recorded at collection (log-probabilities, the old policy) is constant: support[k] was drawn by the k
times adapted policies, the query by the adapted ones.
"""

from dataclasses import replace

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from metarl import inner
from metarl.meta_gradient import (
    Fisher,
    KLCurvature,
    follow,
    relinearize,
    surrogate_and_kl,
    surrogate_gradient,
)
from metarl.parameters import expand, flatten, unflatten
from metarl.policies import GaussianMLP, log_prob
from metarl.types import Batch, Gaussian

M, ALPHA = 3, 0.4
losses = pytest.mark.parametrize("loss", ["ratio", "reinforce"])
steps = pytest.mark.parametrize("K", [1, 2, 3])


def collect_all(policy, theta, collect, K, loss):
    """K support batches and the query, each drawn by the policies of its turn."""
    params, support = expand(theta, M), []
    for k in range(K):
        support.append(collect(params, seed=k))
        params = inner.adapt(policy, params, support[-1], ALPHA, loss)
    return support, collect(params, seed=K)


def normal(policy, params, observations):
    p = policy.distribution(params, observations)
    return Independent(Normal(p.mean, p.log_std.exp()[:, None, None].expand_as(p.mean)), 1)


def means(values, valid):
    return torch.stack([v[keep.bool()].mean() for v, keep in zip(values, valid, strict=True)])


def plain_adaptation(policy, theta, support, loss):
    """theta -> theta_i with all derivatives left to autograd."""
    params = {name: p.expand(M, *p.shape) for name, p in theta.items()}
    for batch in support:
        log_probs = normal(policy, params, batch.observations).log_prob(batch.actions)
        weight = torch.exp(log_probs - batch.log_probs) if loss == "ratio" else log_probs
        total = -means(weight * batch.advantages, batch.valid).sum()
        grads = torch.autograd.grad(total, list(params.values()), create_graph=True)
        params = {name: p - ALPHA * g for (name, p), g in zip(params.items(), grads, strict=True)}
    return params


def plain_surrogate(policy, theta, support, query, loss):
    now = normal(policy, plain_adaptation(policy, theta, support, loss), query.observations)
    ratio = torch.exp(now.log_prob(query.actions) - query.log_probs)
    return means(ratio * query.advantages, query.valid).sum()


def plain_kl(policy, theta, support, query, loss):
    old = Independent(
        Normal(query.policy.mean, query.policy.log_std.exp()[:, None, None].expand_as(query.policy.mean)), 1
    )
    now = normal(policy, plain_adaptation(policy, theta, support, loss), query.observations)
    return means(kl_divergence(old, now), query.valid).sum()


def like(params, seed):
    """Random numbers with the names and shapes of `params`."""
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=rng, dtype=torch.float64) for name, p in params.items()}


def dot(a, b):
    return sum((a[name] * b[name]).sum() for name in a)


def assert_close(actual, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


@losses
@steps
def test_the_meta_gradient_is_the_derivative_of_the_surrogate(policy, theta, collect, K, loss):
    support, query = collect_all(policy, theta, collect, K, loss)
    adaptation = follow(policy, theta, M, support, ALPHA, loss)
    value, gradient = surrogate_gradient(policy, adaptation, query)

    def surrogate(vector):
        leaves = inner.leaves(unflatten(vector, theta))
        return plain_surrogate(policy, leaves, support, query, loss).detach()

    at, h = flatten(theta), 1e-5
    basis = h * torch.eye(len(at), dtype=torch.float64)
    numeric = torch.stack([(surrogate(at + e) - surrogate(at - e)) / (2 * h) for e in basis])
    assert_close(value, surrogate(at))
    assert_close(flatten(gradient), numeric, rtol=1e-6, atol=1e-8)


@losses
@steps
def test_the_adapted_parameters_are_those_that_collected_the_query(policy, theta, collect, K, loss):
    support, query = collect_all(policy, theta, collect, K, loss)
    adapted = follow(policy, theta, M, support, ALPHA, loss).adapted
    plain = plain_adaptation(policy, inner.leaves(theta), support, loss)
    for name, p in plain.items():
        assert_close(adapted[name], p.detach())
    surrogate, kl = surrogate_and_kl(policy, adapted, query)
    assert_close(surrogate, means(query.advantages, query.valid))
    assert kl.abs().max() < 1e-14


@losses
@steps
def test_push_is_the_derivative_of_adaptation_and_pull_its_adjoint(policy, theta, collect, K, loss):
    support, _ = collect_all(policy, theta, collect, K, loss)
    adaptation = follow(policy, theta, M, support, ALPHA, loss)
    direction, h = like(theta, 0), 1e-5

    def adapted(sign):
        params = expand({name: p + sign * h * direction[name] for name, p in theta.items()}, M)
        for batch in support:
            params = inner.adapt(policy, params, batch, ALPHA, loss)
        return params

    pushed = adaptation.push(expand(direction, M))
    for name, p in pushed.items():
        assert_close(p, (adapted(+1)[name] - adapted(-1)[name]) / (2 * h), rtol=1e-5, atol=1e-7)

    u, w = like(expand(theta, M), 1), like(expand(theta, M), 2)
    assert_close(dot(adaptation.push(u), w), dot(u, adaptation.pull(w)))
    if K > 1:  # a product of different symmetric matrices is not symmetric
        assert abs(dot(adaptation.push(u), w) - dot(u, adaptation.push(w))) > 1e-4


@losses
@steps
def test_kl_curvature_is_the_hessian_of_the_kl_after_adaptation(policy, theta, collect, K, loss):
    support, query = collect_all(policy, theta, collect, K, loss)
    curvature = KLCurvature(policy, follow(policy, theta, M, support, ALPHA, loss), query)
    at = inner.leaves(theta)
    slope = torch.autograd.grad(plain_kl(policy, at, support, query, loss), list(at.values()), create_graph=True)
    assert max(s.abs().max() for s in slope) < 1e-12
    for seed in range(3):
        v = like(theta, seed)
        along = sum((s * v[name]).sum() for name, s in zip(theta, slope, strict=True))
        product = torch.autograd.grad(along, list(at.values()), retain_graph=True)
        for actual, expected in zip(curvature.product(v).values(), product, strict=True):
            assert_close(actual, expected, rtol=1e-8, atol=1e-10)


def test_fisher_is_the_expected_outer_product_of_scores():
    """In one state o with mean w o + b: (o, 1) (o, 1)^T / std^2 in (w, b), and 2 in log_std."""
    policy = GaussianMLP(observation_size=1, action_size=1, hidden_sizes=(), min_std=0)
    params = {name: torch.tensor(p) for name, p in {"w0": [[[0.3]]], "b0": [[0.1]], "log_std": [[-0.5]]}.items()}
    observation = torch.full((1, 1, 1, 1), 3.0)
    drawn_from = policy.distribution(params, observation)
    one = torch.ones(1, 1, 1)
    fisher = Fisher(policy, params, Batch(observation, drawn_from.mean, one, one, one, drawn_from))
    columns = [flatten(fisher.product(unflatten(e, params))) for e in torch.eye(3)]
    precision = torch.exp(torch.tensor(1.0))
    expected = torch.zeros(3, 3)
    expected[:2, :2] = precision * torch.tensor([[9.0, 3.0], [3.0, 1.0]])
    expected[2, 2] = 2
    assert_close(torch.stack(columns), expected, rtol=1e-5, atol=1e-6)


@losses
def test_tasks_together_are_tasks_one_by_one(policy, theta, collect, loss):
    support, query = collect_all(policy, theta, collect, 2, loss)
    v = like(theta, 0)

    def results(support, query):
        adaptation = follow(policy, theta, query.num_tasks, support, ALPHA, loss)
        _, gradient = surrogate_gradient(policy, adaptation, query)
        return torch.stack([flatten(gradient), flatten(KLCurvature(policy, adaptation, query).product(v))])

    alone = [results([b.tasks(slice(m, m + 1)) for b in support], query.tasks(slice(m, m + 1))) for m in range(M)]
    assert_close(results(support, query), sum(alone))


def with_garbage(batch: Batch, size: float) -> Batch:
    """The batch with large numbers in all padded steps."""
    padded = batch.valid == 0

    def spoil(x):
        noise = size * torch.randn(x.shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype)
        return torch.where(padded if x.ndim == 3 else padded.unsqueeze(-1), noise, x)

    fields = ("observations", "actions", "advantages", "log_probs")
    drawn_from = Gaussian(spoil(batch.policy.mean), batch.policy.log_std)
    return replace(batch, policy=drawn_from, **{name: spoil(getattr(batch, name)) for name in fields})


@losses
def test_padding_has_no_influence(policy, theta, collect, loss):
    support, query = collect_all(policy, theta, collect, 2, loss)
    v, moved = like(theta, 0), {name: p + 0.02 * like(theta, 1)[name] for name, p in theta.items()}

    def results(support, query):
        adaptation = follow(policy, theta, M, support, ALPHA, loss)
        surrogate, gradient = surrogate_gradient(policy, adaptation, query)
        curvature = KLCurvature(policy, adaptation, query).product(v)
        after = follow(policy, moved, M, support, ALPHA, loss).adapted
        return [surrogate, flatten(gradient), flatten(curvature), *surrogate_and_kl(policy, after, query)]

    clean = results(support, query)
    spoiled = results([with_garbage(b, 100) for b in support], with_garbage(query, 100))
    for actual, expected in zip(spoiled, clean, strict=True):
        assert_close(actual, expected)


@losses
def test_the_first_order_gradient_is_the_querys_at_the_adapted_parameters(policy, theta, collect, loss):
    support, query = collect_all(policy, theta, collect, 2, loss)
    exact = follow(policy, theta, M, support, ALPHA, loss)
    first_order = follow(policy, theta, M, support, ALPHA, loss, first_order=True)
    for name, p in exact.adapted.items():
        assert torch.equal(first_order.adapted[name], p)

    at = inner.leaves(exact.adapted)
    ratio = torch.exp(log_prob(policy.distribution(at, query.observations), query.actions) - query.log_probs)
    own = torch.autograd.grad(means(ratio * query.advantages, query.valid).sum(), list(at.values()))
    _, gradient = surrogate_gradient(policy, first_order, query)
    for actual, expected in zip(gradient.values(), own, strict=True):
        assert_close(actual, expected.sum(0))
    assert not torch.allclose(flatten(gradient), flatten(surrogate_gradient(policy, exact, query)[1]), rtol=1e-2)


@losses
def test_without_adaptation_the_tasks_share_theta(policy, theta, collect, loss):
    query = collect(expand(theta, M), seed=0)
    adaptation = follow(policy, theta, M, [], ALPHA, loss)
    v = expand(like(theta, 0), M)
    assert flatten(adaptation.push(v)).equal(flatten(v))
    at = inner.leaves(theta)
    plain = torch.autograd.grad(plain_surrogate(policy, at, [], query, loss), list(at.values()))
    for actual, expected in zip(surrogate_gradient(policy, adaptation, query)[1].values(), plain, strict=True):
        assert_close(actual, expected)


@losses
def test_relinearized_on_the_same_batches_nothing_changes(policy, theta, collect, loss):
    support, _ = collect_all(policy, theta, collect, 2, loss)
    adaptation = follow(policy, theta, M, support, ALPHA, loss)
    again, v = relinearize(policy, adaptation, support, loss), like(expand(theta, M), 0)
    for name, p in adaptation.push(v).items():
        assert_close(again.push(v)[name], p, rtol=0, atol=0)
    for name, p in adaptation.adapted.items():
        assert torch.equal(again.adapted[name], p)


@losses
def test_relinearized_on_a_subsample_the_curvature_points_the_same_way(policy, theta, collect, loss):
    """Compared in what adaptation adds, J v - v, since J itself is near the identity."""
    batch = collect(expand(theta, M), seed=0, episodes=240, horizon=50)
    reward = -(batch.actions - batch.observations[..., :2]).square().sum(-1)
    batch = replace(batch, advantages=reward - reward.mean())
    adaptation = follow(policy, theta, M, [batch], ALPHA, loss)
    thin = relinearize(policy, adaptation, [batch.every(5)], loss)
    v = like(expand(theta, M), 0)
    full, rough = (flatten(a.push(v)) - flatten(v) for a in (adaptation, thin))
    assert not torch.equal(full, rough)
    assert torch.cosine_similarity(full, rough, dim=0) > 0.9
    assert 0.8 < rough.norm() / full.norm() < 1.25
