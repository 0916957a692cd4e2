from dataclasses import replace

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from metarl.algorithms import memory
from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.meta_gradient import KLCurvature, adapt_and_linearize, linearize_at
from metarl.errors import NonFinite
from metarl.inner.sgd import SGD
from metarl.parameters import expand, flatten
from metarl.policy_gradient.gaussian_mlp import GaussianMLP, log_prob
from metarl.system.threads import set_threads
from metarl.types import Batch, Experience, Gaussian

M = 4


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    set_threads(1)
    yield
    set_threads(0)


@pytest.fixture
def data(policy, theta, collect):
    """data(inner): K support batches and the query, each drawn by the policies of its turn."""

    def data(inner, params=None):
        params, support = expand(params or theta, M), []
        for k in range(inner.steps):
            support.append(collect(params, seed=k, episodes=6, horizon=20))
            params = inner.descend(policy, params, support[-1])
        return Experience(tuple(support), params, collect(params, seed=inner.steps, episodes=6, horizon=20))

    return data


def measured(policy, inner, params, experience):
    """Mean surrogate and mean KL of the query's episodes at the parameters adapted from `params`."""
    adapted, query = expand(params, M), experience.query
    for batch in experience.support:
        adapted = inner.descend(policy, adapted, batch)

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


INNERS = {
    "no adaptation": SGD(steps=0),
    "ratio": SGD(step_size=0.3),
    "ratio, two steps": SGD(steps=2, step_size=0.3),
    "reinforce": SGD(step_size=0.3, loss="reinforce"),
    "dice": SGD(step_size=0.1, loss="dice"),
    "Meta-SGD": SGD(step_size=0.3, learned_step_sizes=True),
    "ANIL": SGD(step_size=0.3, last_layer_only=True),
}


@pytest.mark.parametrize("stride", [1, 5])
@pytest.mark.parametrize("inner", INNERS.values(), ids=INNERS)
def test_an_update_improves_the_adapted_policies_within_the_trust_region(policy, theta, data, stride, inner):
    algorithm, start = MAMLTRPO(inner=inner, curvature_stride=stride), inner.start(policy, theta)
    experience = data(inner, start)
    updated, _, metrics = algorithm.update(policy, start, {}, experience)
    before, zero = measured(policy, inner, start, experience)
    after, kl = measured(policy, inner, updated, experience)
    assert metrics["accepted"] == 1
    assert metrics["improvement"] == pytest.approx((after - before).item(), rel=1e-9)
    assert metrics["kl"] == pytest.approx(kl.item(), rel=1e-9)
    assert after > before
    assert abs(zero) < 1e-14
    assert 0 < kl <= algorithm.max_kl
    for name, p in updated.items():
        assert not torch.equal(p, start[name])


def test_the_trust_region_is_annealed_over_iterations(policy, theta, data):
    algorithm = MAMLTRPO(max_kl=0.02, final_max_kl=0.005, anneal_iterations=3)
    experience, state, metrics = data(algorithm.inner), {}, []
    for _ in range(5):
        _, state, metric = algorithm.update(policy, theta, state, experience)
        metrics.append(metric)
    assert [m["max_kl"] for m in metrics] == pytest.approx([0.02, 0.015, 0.01, 0.005, 0.005])
    assert all(0 < m["kl"] <= m["max_kl"] for m in metrics)
    assert metrics[0]["kl"] > 2 * metrics[-1]["kl"]
    with pytest.raises(ValueError, match="final_max_kl without anneal_iterations"):
        MAMLTRPO(final_max_kl=0.005)


@pytest.mark.parametrize(("first_order", "step_size"), [(False, 0.01), (False, 0.3), (True, 0.01)])
@pytest.mark.parametrize("tasks", [1, M])
def test_a_small_step_uses_the_whole_trust_region(policy, theta, data, first_order, step_size, tasks):
    """Gradient and curvature are both means over tasks, so the longest step has max_kl to second order."""
    inner = SGD(step_size=step_size)
    algorithm = MAMLTRPO(inner=inner, max_kl=1e-8, curvature_stride=1, cg_iterations=50, first_order=first_order)
    _, _, metrics = algorithm.update(policy, theta, {}, part(data(inner), slice(0, tasks)))
    assert metrics["backtracks"] <= 1
    share = metrics["kl"] / 1e-8 / 0.8 ** (2 * metrics["backtracks"])
    assert share == pytest.approx(1, rel=0.1 if first_order else 0.01)


def part(experience: Experience, tasks: slice) -> Experience:
    adapted = {name: p[tasks] for name, p in experience.adapted.items()}
    return Experience(tuple(b.tasks(tasks) for b in experience.support), adapted, experience.query.tasks(tasks))


def test_first_order_is_another_update(policy, theta, data):
    exact = MAMLTRPO(inner=SGD(step_size=0.3))
    experience = data(exact.inner)
    updates = [a.update(policy, theta, {}, experience)[0] for a in (exact, replace(exact, first_order=True))]
    assert not torch.allclose(*map(flatten, updates), rtol=1e-3)


def without_advantages(batch: Batch) -> Batch:
    return replace(batch, advantages=torch.zeros_like(batch.advantages))


def elsewhere(batch: Batch) -> Batch:
    """As if drawn by a policy so far off that no step comes within the trust region."""
    return replace(batch, policy=Gaussian(batch.policy.mean + 10, batch.policy.log_std))


@pytest.mark.parametrize("spoil", [without_advantages, elsewhere])
def test_a_failed_search_returns_the_very_same_parameters(policy, theta, data, spoil):
    algorithm = MAMLTRPO()
    experience = data(algorithm.inner)
    copies = {name: p.clone() for name, p in theta.items()}
    experience = replace(experience, query=spoil(experience.query))
    same, _, metrics = algorithm.update(policy, theta, {}, experience)
    assert same is theta
    assert metrics["accepted"] == 0
    for name, p in theta.items():
        assert torch.equal(p, copies[name])


@pytest.mark.parametrize("name", [0, 2])
def test_a_gradient_that_is_not_finite_is_named_and_refused(policy, theta, data, name):
    algorithm = MAMLTRPO()
    experience = data(algorithm.inner)
    advantages = experience.query.advantages.clone()
    advantages[name, 1, 0] = torch.inf
    experience = replace(experience, query=replace(experience.query, advantages=advantages))
    with pytest.raises(NonFinite, match=f"task {name} is not finite in .*log_std"):
        algorithm.update(policy, theta, {}, experience)


def test_the_number_of_threads_changes_nothing(policy, theta, data):
    algorithm = MAMLTRPO(inner=SGD(steps=2))
    results = []
    for threads in (1, 2):
        set_threads(threads)
        experience = data(algorithm.inner)
        updated, _, metrics = algorithm.update(policy, theta, {}, experience)
        adapted = algorithm.inner.descend(policy, expand(updated, M), experience.query)
        results.append((flatten(adapted), flatten(updated), metrics))
    set_threads(1)
    (adapted, updated, metrics), (adapted_2, updated_2, metrics_2) = results
    assert torch.equal(adapted, adapted_2)
    assert torch.equal(updated, updated_2)
    for name in ("kl", "improvement", "backtracks", "accepted"):
        assert metrics[name] == metrics_2[name]


def tensors(batch: Batch):
    own = [batch.observations, batch.actions, batch.advantages, batch.valid, batch.log_probs]
    return [*own, batch.policy.mean, batch.policy.log_std, batch.returns]


def test_the_inputs_stay(policy, theta, data):
    algorithm = MAMLTRPO(inner=SGD(steps=2))
    experience = data(algorithm.inner)
    batches = (*experience.support, experience.query)
    given = [*theta.values(), *experience.adapted.values(), *(x for batch in batches for x in tensors(batch))]
    copies = [x.clone() for x in given]
    updated, state, _ = algorithm.update(policy, theta, {}, experience)
    assert state == {"iteration": 1}
    for x, copy in zip(given, copies, strict=True):
        assert torch.equal(x, copy)
        assert not x.requires_grad
    assert list(updated) == list(theta)
    for name, p in updated.items():
        assert p.shape == theta[name].shape
        assert not p.requires_grad
        assert not torch.equal(p, theta[name])


def reordered(batch: Batch, order) -> Batch:
    o, a, adv, valid, log_probs, mean, log_std, returns = (x[order] for x in tensors(batch))
    return Batch(o, a, adv, valid, log_probs, Gaussian(mean, log_std), returns)


def test_the_order_of_the_tasks_does_not_matter(policy, theta, data):
    """Beyond rounding, which damping and few iterations keep the conjugate gradient from amplifying."""
    algorithm, order = MAMLTRPO(inner=SGD(steps=2), cg_damping=0.1, cg_iterations=4), [2, 0, 3, 1]
    experience = data(algorithm.inner)
    updated, *_ = algorithm.update(policy, theta, {}, experience)
    mixed = Experience(
        tuple(reordered(b, order) for b in experience.support),
        {name: p[order] for name, p in experience.adapted.items()},
        reordered(experience.query, order),
    )
    again, *_ = algorithm.update(policy, theta, {}, mixed)
    torch.testing.assert_close(flatten(again), flatten(updated), rtol=1e-9, atol=1e-10)


KEPT = {"all": memory.KEPT_GRAPHS, "some": 20_000, "none": 0}


def curvatures(policy, theta, experience, **settings):
    algorithm = MAMLTRPO(**settings)
    adaptations = [algorithm._gradient(policy, theta, task, None).adaptation for task in experience.by_chunk]
    return algorithm._curvatures(policy, adaptations, experience)


@pytest.mark.parametrize(
    ("kept", "expected"), [("all", [True] * M), ("some", [True, False, False, False]), ("none", [False] * M)]
)
def test_graphs_beyond_the_bound_are_built_at_every_call(monkeypatch, policy, theta, data, kept, expected):
    monkeypatch.setattr(memory, "KEPT_GRAPHS", KEPT[kept])
    groups = curvatures(policy, theta, data(SGD()), curvature_stride=1)
    assert [group() is group() for group in groups] == expected


@pytest.mark.parametrize("kept", ["some", "none"])
@pytest.mark.parametrize("inner", INNERS.values(), ids=INNERS)
def test_the_bound_changes_no_bit(monkeypatch, policy, theta, data, kept, inner):
    algorithm, start = MAMLTRPO(inner=inner, curvature_stride=2), inner.start(policy, theta)
    experience = data(inner, start)
    expected, *_ = algorithm.update(policy, start, {}, experience)
    monkeypatch.setattr(memory, "KEPT_GRAPHS", KEPT[kept])
    updated, *_ = algorithm.update(policy, start, {}, experience)
    assert torch.equal(flatten(updated), flatten(expected))


def test_no_graph_outlives_the_gradient(policy, theta, data):
    algorithm = MAMLTRPO(inner=SGD(steps=2))
    task = algorithm._gradient(policy, theta, data(algorithm.inner).by_chunk[0], None)
    held = [*task.adaptation.points, *(step.grad for step in task.adaptation.steps), task.gradient]
    assert not any(p.requires_grad for params in held for p in params.values())
    assert [(step.at, step.graph) for step in task.adaptation.steps] == [({}, {})] * 2


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(
    ("hidden_sizes", "inner"),
    [
        ((64, 64), SGD()),
        ((64, 64), SGD(loss="dice")),
        ((32, 32, 32), SGD(steps=2)),
        ((256,), SGD(loss="reinforce")),
        ((), SGD()),
    ],
)
def test_graphs_take_no_more_than_estimated(hidden_sizes, inner, first_order):
    """Summed over the tensors that autograd saves, each once, but for the episodes."""
    policy, tasks, saved, held = GaussianMLP(17, 6, hidden_sizes), 2, {}, []
    rng = torch.Generator().manual_seed(0)
    theta = policy.init(rng)
    batch = collected(policy, expand(theta, tasks), rng)

    def save(tensor):
        held.append(tensor)
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    parts = [adapt_and_linearize(inner, policy, theta, tasks, [batch] * inner.steps)]
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        adaptation = linearize_at(inner, policy, parts, [batch] * inner.steps, first_order=first_order)
        KLCurvature(policy, adaptation, batch)
    episodes = {tensor.untyped_storage().data_ptr() for tensor in tensors(batch)}
    taken = sum(size for place, size in saved.items() if place not in episodes)
    steps = 0 if first_order else inner.steps
    estimated = memory.curvature_graph_bytes(policy, steps, tasks, batch.valid.numel())
    assert taken <= estimated
    if hidden_sizes:
        assert taken > 0.7 * estimated


def collected(policy, params, rng):
    """Random episodes of two tasks, 20 of 50 steps each, in the usual precision."""
    observations = torch.randn(2, 20, 50, policy.observation_size, generator=rng)
    drawn_from = policy.distribution(params, observations)
    noise, advantages = (torch.randn(2, 20, 50, *size, generator=rng) for size in ((policy.action_size,), ()))
    actions = drawn_from.mean + drawn_from.log_std.exp()[:, None, None] * noise
    log_probs, valid = log_prob(drawn_from, actions), torch.ones(2, 20, 50)
    return Batch(observations, actions, advantages, valid, log_probs, drawn_from, torch.zeros(2))
