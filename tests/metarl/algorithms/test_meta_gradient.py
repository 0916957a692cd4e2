"""Derivatives through adaptation against finite differences and double backward, in float64.

The functions that are differentiated are written here once more, with torch.distributions and plain autograd.
What was recorded at collection (log-probabilities, the old policy) is constant: support[k] was drawn by the k
times adapted policies, the query by the adapted ones.
"""

from dataclasses import replace

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from metarl.algorithms.meta_gradient import (
    Fisher,
    KLCurvature,
    adapt_and_linearize,
    linearize_at,
    meta_gradient,
    surrogate_and_kl,
)
from metarl.inner.sgd import LOG_STEP_SIZE, SGD
from metarl.parameters import expand, flatten, leaves, unflatten
from metarl.policy_gradient.gaussian_mlp import GaussianMLP, log_prob
from metarl.types import Batch, Gaussian

M, ALPHA = 3, 0.4
KINDS = {
    "ratio": {},
    "reinforce": {"loss": "reinforce"},
    "dice": {"loss": "dice"},
    "Meta-SGD": {"learned_step_sizes": True},
    "ANIL": {"last_layer_only": True},
    "Meta-SGD of the last layer": {"learned_step_sizes": True, "last_layer_only": True},
}
kinds = pytest.mark.parametrize("sgd", [SGD(step_size=ALPHA, **kind) for kind in KINDS.values()], ids=KINDS)
steps = pytest.mark.parametrize("K", [1, 2, 3])


@pytest.fixture
def theta(policy, theta, sgd):
    """theta, and step sizes that differ where they are learned."""
    start = sgd.start(policy, theta)
    return {name: p + 0.3 * noise if name.startswith(LOG_STEP_SIZE) else p for name, p, noise in with_noise(start)}


def with_noise(params):
    return [(name, p, noise) for (name, p), noise in zip(params.items(), like(params, 7).values(), strict=True)]


def collect_all(policy, theta, collect, K, sgd):
    """K support batches and the query, each drawn by the policies of its turn."""
    params, support = expand(theta, M), []
    for k in range(K):
        support.append(collect(params, seed=k))
        params = sgd.descend(policy, params, support[-1])
    return support, collect(params, seed=K)


def normal(policy, params, observations):
    p = policy.distribution(params, observations)
    return Independent(Normal(p.mean, p.log_std.exp()[:, None, None].expand_as(p.mean)), 1)


def means(values, valid):
    return torch.stack([v[keep.bool()].mean() for v, keep in zip(values, valid, strict=True)])


def plain_weights(loss, log_probs, batch):
    """What multiplies the advantages: (M, E, T)."""
    ratio = torch.exp(log_probs - batch.log_probs)
    if loss == "dice":
        product = ratio.cumprod(-1)
        return product - torch.cat([torch.ones_like(product[..., :1]), product[..., :-1]], -1)
    return ratio if loss == "ratio" else log_probs


def plain_adaptation(policy, theta, support, sgd):
    """theta -> theta_i with all derivatives left to autograd."""
    params = {name: p.expand(M, *p.shape) for name, p in theta.items()}
    adapted = ["w1", "b1"] if sgd.last_layer_only else ["w0", "b0", "w1", "b1", "log_std"]
    for batch in support:
        log_probs = normal(policy, params, batch.observations).log_prob(batch.actions)
        total = -means(plain_weights(sgd.loss, log_probs, batch) * batch.advantages, batch.valid).sum()
        grads = torch.autograd.grad(total, [params[name] for name in adapted], create_graph=True)
        alphas = [params[LOG_STEP_SIZE + name].exp() if sgd.learned_step_sizes else ALPHA for name in adapted]
        moved = {name: params[name] - alpha * g for name, alpha, g in zip(adapted, alphas, grads, strict=True)}
        params = params | moved
    return params


def plain_surrogate(policy, theta, support, query, sgd):
    now = normal(policy, plain_adaptation(policy, theta, support, sgd), query.observations)
    ratio = torch.exp(now.log_prob(query.actions) - query.log_probs)
    return means(ratio * query.advantages, query.valid).sum()


def plain_kl(policy, theta, support, query, sgd):
    old = Independent(
        Normal(query.policy.mean, query.policy.log_std.exp()[:, None, None].expand_as(query.policy.mean)), 1
    )
    now = normal(policy, plain_adaptation(policy, theta, support, sgd), query.observations)
    return means(kl_divergence(old, now), query.valid).sum()


def gradient_after(policy, adaptation, query):
    """The surrogate, summed over tasks, and its gradient."""
    values, grads = meta_gradient(policy, adaptation, lambda adapted: -policy.outer_losses(adapted, query))
    return values.sum(), summed(grads)


def summed(params):
    """The sum over tasks of parameters (M, ...)."""
    return {name: p.sum(0) for name, p in params.items()}


def like(params, seed):
    """Random numbers with the names and shapes of `params`."""
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=rng, dtype=torch.float64) for name, p in params.items()}


def dot(a, b):
    return sum((a[name] * b[name]).sum() for name in a)


def assert_close(actual, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


@kinds
@steps
def test_the_meta_gradient_is_the_derivative_of_the_surrogate(policy, theta, collect, K, sgd):
    support, query = collect_all(policy, theta, collect, K, sgd)
    adaptation = adapt_and_linearize(sgd, policy, theta, M, support)
    value, gradient = gradient_after(policy, adaptation, query)

    def surrogate(vector):
        at = leaves(unflatten(vector, theta))
        return plain_surrogate(policy, at, support, query, sgd).detach()

    at, h = flatten(theta), 1e-4
    basis = h * torch.eye(len(at), dtype=torch.float64)
    ahead, twice = (torch.stack([surrogate(at + k * e) - surrogate(at - k * e) for e in basis]) for k in (1, 2))
    numeric = (8 * ahead - twice) / (12 * h)  # of fourth order: dice bends sharply
    assert_close(value, surrogate(at))
    assert_close(flatten(gradient), numeric, rtol=1e-6, atol=1e-8)


@kinds
@steps
def test_the_adapted_parameters_are_those_that_collected_the_query(policy, theta, collect, K, sgd):
    support, query = collect_all(policy, theta, collect, K, sgd)
    adapted = adapt_and_linearize(sgd, policy, theta, M, support).adapted
    plain = plain_adaptation(policy, leaves(theta), support, sgd)
    for name, p in plain.items():
        assert_close(adapted[name], p.detach())
    surrogate, kl = surrogate_and_kl(policy, adapted, query)
    assert_close(surrogate, means(query.advantages, query.valid))
    assert kl.abs().max() < 1e-14


@kinds
@steps
def test_jvp_is_the_derivative_of_the_adaptation_and_vjp_its_adjoint(policy, theta, collect, K, sgd):
    support, _ = collect_all(policy, theta, collect, K, sgd)
    adaptation = adapt_and_linearize(sgd, policy, theta, M, support)
    direction, h = like(theta, 0), 2e-5

    def adapted(k):
        params = expand({name: p + k * h * direction[name] for name, p in theta.items()}, M)
        for batch in support:
            params = sgd.descend(policy, params, batch)
        return params

    pushforward = adaptation.jvp(expand(direction, M))
    back, near, far, farther = (adapted(k) for k in (-2, -1, 1, 2))
    for name, p in pushforward.items():
        numeric = (8 * (far[name] - near[name]) - (farther[name] - back[name])) / (12 * h)
        assert_close(p, numeric, rtol=1e-5, atol=1e-7)

    u, w = like(expand(theta, M), 1), like(expand(theta, M), 2)
    assert_close(dot(adaptation.jvp(u), w), dot(u, adaptation.vjp(w)))
    if K > 1:  # a product of different symmetric matrices is not symmetric
        assert abs(dot(adaptation.jvp(u), w) - dot(u, adaptation.jvp(w))) > 1e-4


@kinds
@steps
def test_kl_curvature_is_the_hessian_of_the_kl_after_adaptation(policy, theta, collect, K, sgd):
    support, query = collect_all(policy, theta, collect, K, sgd)
    curvature = KLCurvature(policy, adapt_and_linearize(sgd, policy, theta, M, support), query)
    at = leaves(theta)
    grad = torch.autograd.grad(plain_kl(policy, at, support, query, sgd), list(at.values()), create_graph=True)
    assert max(s.abs().max() for s in grad) < 1e-12
    for seed in range(3):
        v = like(theta, seed)
        along = sum((s * v[name]).sum() for name, s in zip(theta, grad, strict=True))
        product = torch.autograd.grad(along, list(at.values()), retain_graph=True)
        for actual, expected in zip(summed(curvature.product(v)).values(), product, strict=True):
            assert_close(actual, expected, rtol=1e-8, atol=1e-10)


def test_fisher_is_the_expected_outer_product_of_scores():
    """In one state o with mean w o + b: (o, 1) (o, 1)^T / std^2 in (w, b), and 2 in log_std."""
    policy = GaussianMLP(observation_size=1, action_size=1, hidden_sizes=(), min_std=0)
    params = {name: torch.tensor(p) for name, p in {"w0": [[[0.3]]], "b0": [[0.1]], "log_std": [[-0.5]]}.items()}
    observation = torch.full((1, 1, 1, 1), 3.0)
    drawn_from = policy.distribution(params, observation)
    one = torch.ones(1, 1, 1)
    fisher = Fisher(policy, params, Batch(observation, drawn_from.mean, one, one, one, drawn_from, torch.zeros(1)))
    columns = [flatten(fisher.product(unflatten(e, params))) for e in torch.eye(3)]
    precision = torch.exp(torch.tensor(1.0))
    expected = torch.zeros(3, 3)
    expected[:2, :2] = precision * torch.tensor([[9.0, 3.0], [3.0, 1.0]])
    expected[2, 2] = 2
    assert_close(torch.stack(columns), expected, rtol=1e-5, atol=1e-6)


@kinds
def test_tasks_together_are_tasks_one_by_one(policy, theta, collect, sgd):
    support, query = collect_all(policy, theta, collect, 2, sgd)
    v = like(theta, 0)

    def results(support, query):
        adaptation = adapt_and_linearize(sgd, policy, theta, query.num_tasks, support)
        _, gradient = gradient_after(policy, adaptation, query)
        return torch.stack([flatten(gradient), flatten(summed(KLCurvature(policy, adaptation, query).product(v)))])

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


@kinds
def test_padding_has_no_influence(policy, theta, collect, sgd):
    support, query = collect_all(policy, theta, collect, 2, sgd)
    v, moved = like(theta, 0), {name: p + 0.02 * like(theta, 1)[name] for name, p in theta.items()}

    def results(support, query):
        adaptation = adapt_and_linearize(sgd, policy, theta, M, support)
        surrogate, gradient = gradient_after(policy, adaptation, query)
        curvature = summed(KLCurvature(policy, adaptation, query).product(v))
        after = adapt_and_linearize(sgd, policy, moved, M, support).adapted
        return [surrogate, flatten(gradient), flatten(curvature), *surrogate_and_kl(policy, after, query)]

    clean = results(support, query)
    spoiled = results([with_garbage(b, 100) for b in support], with_garbage(query, 100))
    for actual, expected in zip(spoiled, clean, strict=True):
        assert_close(actual, expected)


@kinds
def test_the_first_order_gradient_is_the_querys_at_the_adapted_parameters(policy, theta, collect, sgd):
    support, query = collect_all(policy, theta, collect, 2, sgd)
    exact = adapt_and_linearize(sgd, policy, theta, M, support)
    first_order = adapt_and_linearize(sgd, policy, theta, M, support, first_order=True)
    for name, p in exact.adapted.items():
        assert torch.equal(first_order.adapted[name], p)

    own = grad_of_the_surrogate(policy, exact.adapted, query)
    _, gradient = gradient_after(policy, first_order, query)
    for name, expected in own.items():
        assert_close(gradient[name], expected.sum(0))
    assert not torch.allclose(flatten(gradient), flatten(gradient_after(policy, exact, query)[1]), rtol=1e-2)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("sgd", [SGD(step_size=ALPHA, learned_step_sizes=True)])
def test_a_learned_step_size_goes_by_how_the_surrogate_slopes_along_its_step(policy, theta, collect, sgd, first_order):
    """For theta_i = theta - alpha g_i: dS/d log alpha = -sum_i alpha g_i dS_i/dtheta_i, entry by entry."""
    support, query = collect_all(policy, theta, collect, 1, sgd)
    adaptation = adapt_and_linearize(sgd, policy, theta, M, support, first_order=first_order)
    _, gradient = gradient_after(policy, adaptation, query)
    for name, grad in grad_of_the_surrogate(policy, adaptation.adapted, query).items():
        moved = adaptation.adapted[name] - theta[name]  # -alpha g_i
        assert_close(gradient[LOG_STEP_SIZE + name], (moved * grad).sum(0))


def grad_of_the_surrogate(policy, adapted, query):
    """Of each task, at its adapted parameters."""
    at = leaves({name: adapted[name] for name in ("w0", "b0", "w1", "b1", "log_std")})
    ratio = torch.exp(log_prob(policy.distribution(at, query.observations), query.actions) - query.log_probs)
    grad = torch.autograd.grad(means(ratio * query.advantages, query.valid).sum(), list(at.values()))
    return dict(zip(at, grad, strict=True))


@kinds
def test_without_adaptation_the_tasks_share_theta(policy, theta, collect, sgd):
    query = collect(expand(theta, M), seed=0)
    adaptation = adapt_and_linearize(sgd, policy, theta, M, [])
    v = expand(like(theta, 0), M)
    assert flatten(adaptation.jvp(v)).equal(flatten(v))
    at = leaves(theta)
    surrogate = plain_surrogate(policy, at, [], query, sgd)
    plain = torch.autograd.grad(surrogate, list(at.values()), materialize_grads=True)
    for actual, expected in zip(gradient_after(policy, adaptation, query)[1].values(), plain, strict=True):
        assert_close(actual, expected)


@kinds
def test_linearized_on_the_same_batches_nothing_changes(policy, theta, collect, sgd):
    support, _ = collect_all(policy, theta, collect, 2, sgd)
    adaptation = adapt_and_linearize(sgd, policy, theta, M, support)
    again, v = linearize_at(sgd, policy, [adaptation], support), like(expand(theta, M), 0)
    for name, p in adaptation.jvp(v).items():
        assert_close(again.jvp(v)[name], p, rtol=0, atol=0)
    for name, p in adaptation.adapted.items():
        assert torch.equal(again.adapted[name], p)


@kinds
@pytest.mark.parametrize("first_order", [False, True])
def test_linearized_together_tasks_are_what_they_were_alone(policy, theta, collect, sgd, first_order):
    support, query = collect_all(policy, theta, collect, 2, sgd)
    cuts, v = (slice(0, 2), slice(2, 3)), like(theta, 0)
    parts = [
        adapt_and_linearize(
            sgd, policy, theta, cut.stop - cut.start, [b.tasks(cut) for b in support], first_order=first_order
        )
        for cut in cuts
    ]
    together = linearize_at(sgd, policy, parts, support, first_order=first_order)
    expected = adapt_and_linearize(sgd, policy, theta, M, support, first_order=first_order)
    assert_close(flatten(together.adapted), flatten(expected.adapted))
    products = [
        flatten(summed(KLCurvature(policy, adaptation, query).product(v))) for adaptation in (together, expected)
    ]
    assert_close(*products)


@pytest.mark.parametrize("sgd", [SGD(step_size=ALPHA, loss=loss) for loss in ("ratio", "reinforce")])
def test_linearized_on_a_subsample_the_curvature_points_the_same_way(policy, theta, collect, sgd):
    """Compared in what adaptation adds, J v - v, since J itself is near the identity."""
    batch = collect(expand(theta, M), seed=0, episodes=240, horizon=50)
    reward = -(batch.actions - batch.observations[..., :2]).square().sum(-1)
    batch = replace(batch, advantages=reward - reward.mean())
    adaptation = adapt_and_linearize(sgd, policy, theta, M, [batch])
    thin = linearize_at(sgd, policy, [adaptation], [batch.every(5)])
    v = like(expand(theta, M), 0)
    full, rough = (flatten(a.jvp(v)) - flatten(v) for a in (adaptation, thin))
    assert not torch.equal(full, rough)
    assert torch.cosine_similarity(full, rough, dim=0) > 0.9
    assert 0.8 < rough.norm() / full.norm() < 1.25
