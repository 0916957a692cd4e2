from dataclasses import replace

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from metarl import inner
from metarl.algorithms.maml import MAML
from metarl.parameters import expand, flatten
from metarl.threads import set_threads
from metarl.types import Batch, Gaussian

M = 4


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    set_threads(1)
    yield
    set_threads(0)


@pytest.fixture
def data(policy, theta, collect):
    """data(algorithm): K support batches and the query, each drawn by the policies of its turn."""

    def data(algorithm):
        params, support = expand(theta, M), []
        for k in range(algorithm.inner_steps):
            support.append(collect(params, seed=k, episodes=6, horizon=20))
            params = algorithm.adapt(policy, params, support[-1])
        return support, collect(params, seed=algorithm.inner_steps, episodes=6, horizon=20)

    return data


def measured(policy, algorithm, params, support, query):
    """Mean surrogate and mean KL of the query's episodes at the parameters adapted from `params`."""
    adapted = expand(params, M)
    for batch in support:
        adapted = inner.adapt(policy, adapted, batch, algorithm.inner_step_size, algorithm.inner_loss)

    def normal(p):
        return Independent(Normal(p.mean, p.log_std.exp()[:, None, None].expand_as(p.mean)), 1)

    now = normal(policy.distribution(adapted, query.observations))
    ratio = torch.exp(now.log_prob(query.actions) - query.log_probs)
    kl = kl_divergence(normal(query.policy), now)
    tasks = [
        torch.stack([(ratio * query.advantages)[m][keep].mean(), kl[m][keep].mean()])
        for m, keep in enumerate(query.valid.bool())
    ]
    return torch.stack(tasks).mean(0)


@pytest.mark.parametrize("K", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 5])
@pytest.mark.parametrize("loss", ["ratio", "reinforce"])
def test_an_update_improves_the_adapted_policies_within_the_trust_region(policy, theta, data, K, stride, loss):
    algorithm = MAML(inner_steps=K, inner_loss=loss, curvature_stride=stride, inner_step_size=0.3)
    support, query = data(algorithm)
    updated, metrics = algorithm.update(policy, theta, support, query)
    before, zero = measured(policy, algorithm, theta, support, query)
    after, kl = measured(policy, algorithm, updated, support, query)
    assert metrics["accepted"] == 1
    assert metrics["improvement"] == pytest.approx((after - before).item(), rel=1e-9)
    assert metrics["kl"] == pytest.approx(kl.item(), rel=1e-9)
    assert after > before
    assert abs(zero) < 1e-14
    assert 0 < kl <= algorithm.max_kl


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("tasks", [1, M])
def test_a_small_step_uses_the_whole_trust_region(policy, theta, data, first_order, tasks):
    """Gradient and curvature are both means over tasks, so the longest step has max_kl to second order."""
    algorithm = MAML(max_kl=1e-6, curvature_stride=1, cg_iterations=50, inner_step_size=0.01, first_order=first_order)
    support, query = data(algorithm)
    chosen = slice(0, tasks)
    _, metrics = algorithm.update(policy, theta, [b.tasks(chosen) for b in support], query.tasks(chosen))
    assert metrics["backtracks"] <= 1
    share = metrics["kl"] / 1e-6 / 0.8 ** (2 * metrics["backtracks"])
    assert share == pytest.approx(1, rel=0.1 if first_order else 0.01)


def test_first_order_is_another_update(policy, theta, data):
    exact = MAML(inner_step_size=0.3)
    support, query = data(exact)
    updates = [flatten(a.update(policy, theta, support, query)[0]) for a in (exact, replace(exact, first_order=True))]
    assert not torch.allclose(*updates, rtol=1e-3)


def without_advantages(batch: Batch) -> Batch:
    return replace(batch, advantages=torch.zeros_like(batch.advantages))


def elsewhere(batch: Batch) -> Batch:
    """As if drawn by a policy so far off that no step comes within the trust region."""
    return replace(batch, policy=Gaussian(batch.policy.mean + 10, batch.policy.log_std))


@pytest.mark.parametrize("spoil", [without_advantages, elsewhere])
def test_a_failed_search_returns_the_very_same_parameters(policy, theta, data, spoil):
    algorithm = MAML()
    support, query = data(algorithm)
    copies = {name: p.clone() for name, p in theta.items()}
    same, metrics = algorithm.update(policy, theta, support, spoil(query))
    assert same is theta
    assert metrics["accepted"] == 0
    for name, p in theta.items():
        assert torch.equal(p, copies[name])


def test_the_number_of_threads_changes_nothing(policy, theta, data):
    algorithm = MAML(inner_steps=2)
    results = []
    for threads in (1, 2):
        set_threads(threads)
        support, query = data(algorithm)
        updated, metrics = algorithm.update(policy, theta, support, query)
        results.append((flatten(algorithm.adapt(policy, expand(updated, M), query)), flatten(updated), metrics))
    set_threads(1)
    (adapted, updated, metrics), (adapted_2, updated_2, metrics_2) = results
    assert torch.equal(adapted, adapted_2)
    assert torch.equal(updated, updated_2)
    for name in ("kl", "improvement", "backtracks", "accepted"):
        assert metrics[name] == metrics_2[name]


def tensors(batch: Batch):
    own = [batch.observations, batch.actions, batch.advantages, batch.valid, batch.log_probs]
    return [*own, batch.policy.mean, batch.policy.log_std]


def test_the_inputs_stay(policy, theta, data):
    algorithm = MAML(inner_steps=2)
    support, query = data(algorithm)
    given = [*theta.values(), *(x for batch in (*support, query) for x in tensors(batch))]
    copies = [x.clone() for x in given]
    updated, _ = algorithm.update(policy, theta, support, query)
    for x, copy in zip(given, copies, strict=True):
        assert torch.equal(x, copy)
        assert not x.requires_grad
    assert list(updated) == list(theta)
    for name, p in updated.items():
        assert p.shape == theta[name].shape
        assert not p.requires_grad
        assert not torch.equal(p, theta[name])


def reordered(batch: Batch, order) -> Batch:
    o, a, adv, valid, log_probs, mean, log_std = (x[order] for x in tensors(batch))
    return Batch(o, a, adv, valid, log_probs, Gaussian(mean, log_std))


def test_the_order_of_the_tasks_does_not_matter(policy, theta, data):
    """Beyond rounding, which damping and few iterations keep the conjugate gradient from amplifying."""
    algorithm, order = MAML(inner_steps=2, cg_damping=0.1, cg_iterations=4), [2, 0, 3, 1]
    support, query = data(algorithm)
    updated, _ = algorithm.update(policy, theta, support, query)
    again, _ = algorithm.update(policy, theta, [reordered(b, order) for b in support], reordered(query, order))
    torch.testing.assert_close(flatten(again), flatten(updated), rtol=1e-9, atol=1e-10)


def test_adapt_is_one_inner_step_of_every_task(policy, theta, collect):
    algorithm = MAML(inner_step_size=0.3, inner_loss="reinforce")
    batch = collect(expand(theta, M), seed=0)
    expected = inner.adapt(policy, expand(theta, M), batch, 0.3, "reinforce")
    for name, p in algorithm.adapt(policy, expand(theta, M), batch).items():
        torch.testing.assert_close(p, expected[name], rtol=1e-11, atol=1e-13)
