"""The proximal outer steps, against plain autograd and torch's own Adam."""

from dataclasses import replace

import pytest
import torch

from metarl.algorithms.maml_sgd import MAMLSGD
from metarl.algorithms.meta_gradient import adapt_and_linearize, meta_gradient
from metarl.algorithms.promp import MAMLPPO, ProMP, adapted_penalty
from metarl.errors import NonFinite
from metarl.inner.sgd import SGD
from metarl.parameters import expand, flatten, leaves
from metarl.policy_gradient.gaussian_mlp import kl_divergence, log_prob
from metarl.types import Experience

M, ALPHA = 3, 0.3
INNERS = {"one step": SGD(step_size=ALPHA), "two steps": SGD(steps=2, step_size=ALPHA)}
inners = pytest.mark.parametrize("inner", INNERS.values(), ids=INNERS)


@pytest.fixture
def experience(policy, theta, collect, inner):
    params, support = expand(theta, M), []
    for k in range(inner.steps):
        support.append(collect(params, seed=k))
        params = inner.descend(policy, params, support[-1])
    return Experience(tuple(support), params, collect(params, seed=inner.steps))


def mean(values, valid):
    return torch.stack([v[keep.bool()].mean() for v, keep in zip(values, valid, strict=True)]).mean()


def plain_objective(policy, theta, experience, clip, penalties):
    """The paper's objective, to be minimized, with all derivatives left to autograd."""
    params = {name: p.expand(M, *p.shape) for name, p in theta.items()}
    total = 0.0
    for batch, eta in zip(experience.support, penalties, strict=True):
        distribution = policy.distribution(params, batch.observations)
        total = total + eta * mean(kl_divergence(batch.policy, distribution), batch.valid)
        ratio = torch.exp(log_prob(distribution, batch.actions) - batch.log_probs)
        loss = -M * mean(ratio * batch.advantages, batch.valid)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {name: p - ALPHA * g for (name, p), g in zip(params.items(), grads, strict=True)}
    query = experience.query
    ratio = torch.exp(log_prob(policy.distribution(params, query.observations), query.actions) - query.log_probs)
    gain = torch.minimum(ratio * query.advantages, ratio.clamp(1 - clip, 1 + clip) * query.advantages)
    return total - mean(gain, query.valid)


@inners
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_an_update_is_adam_on_the_papers_objective(policy, theta, experience, inner, eta):
    settings = {"inner": inner, "epochs": 4, "step_size": 0.03, "clip_range": 0.1}
    algorithm = ProMP(kl_penalty=eta, **settings) if eta else MAMLPPO(**settings)
    updated, state, _ = algorithm.update(policy, theta, {}, experience)
    updated, *_ = algorithm.update(policy, updated, state, experience)  # Adam goes on
    at = leaves(theta)
    adam = torch.optim.Adam(at.values(), lr=0.03)
    for _ in range(8):
        adam.zero_grad()
        plain_objective(policy, at, experience, 0.1, [eta] * inner.steps).backward()
        adam.step()
    for name, p in at.items():
        torch.testing.assert_close(updated[name], p.detach(), rtol=1e-7, atol=1e-8)


@inners
def test_at_ratio_one_the_gradient_is_the_policy_gradient_after_adaptation(policy, theta, experience, inner):
    """Nothing is clipped and every KL is at its minimum, where the parameters are those that collected."""
    task = experience.by_chunk[1]
    _, gradient, kl = ProMP(inner=inner, target_kl=1.0).task_gradient(policy, theta, [100.0] * inner.steps, task)
    assert kl.item() == pytest.approx(0, abs=1e-9)
    adaptation = adapt_and_linearize(inner, policy, theta, 1, task.support)
    at = leaves(adaptation.adapted)
    score = log_prob(policy.distribution(at, task.query.observations), task.query.actions)
    loss = -(score * task.query.advantages)[task.query.valid.bool()].mean()
    grad = dict(zip(at, torch.autograd.grad(loss, list(at.values())), strict=True))
    torch.testing.assert_close(flatten(gradient), flatten(adaptation.vjp(grad)))


@inners
def test_maml_sgd_takes_one_step_along_the_same_gradient(policy, theta, experience, inner):
    updated, *_ = MAMLSGD(inner=inner, optimizer="sgd", step_size=0.01).update(policy, theta, {}, experience)
    adaptation = adapt_and_linearize(inner, policy, theta, M, experience.support)
    _, gradient = meta_gradient(policy, adaptation, lambda at: policy.outer_losses(at, experience.query))
    for name, p in theta.items():
        torch.testing.assert_close(updated[name], p - 0.01 * gradient[name].sum(0))


@inners
def test_to_first_order_the_gradient_is_that_at_the_adapted_point(policy, theta, experience, inner):
    adapted = leaves(adapt_and_linearize(inner, policy, theta, M, experience.support).adapted)
    losses = policy.outer_losses(adapted, experience.query).sum()
    grad = dict(zip(adapted, torch.autograd.grad(losses, list(adapted.values())), strict=True))
    settings = {"inner": inner, "first_order": True, "step_size": 0.01}
    updated, *_ = MAMLSGD(optimizer="sgd", **settings).update(policy, theta, {}, experience)
    for name, p in theta.items():
        torch.testing.assert_close(updated[name], p - 0.01 * grad[name].sum(0))
    for algorithm in (MAMLPPO(**settings), ProMP(kl_penalty=0, **settings)):
        _, gradient, _ = algorithm.task_gradient(policy, theta, [0.0] * inner.steps, experience.by_chunk[1])
        torch.testing.assert_close(gradient["w0"][0], grad["w0"][1])


@pytest.mark.parametrize("inner", [SGD(step_size=ALPHA)])
def test_clipping_holds_back(policy, theta, experience, inner):
    settings = {"inner": inner, "epochs": 40, "step_size": 0.03}

    def shift(clip):
        updated, *_ = MAMLPPO(clip_range=clip, **settings).update(policy, theta, {}, experience)
        adapted, query = inner.descend(policy, expand(updated, M), experience.support[0]), experience.query
        ratio = torch.exp(policy.log_probs(adapted, query) - query.log_probs)
        return (ratio[query.valid.bool()] - 1).abs().mean()

    assert shift(0.02) < shift(0.2) < shift(0.9)


@pytest.mark.parametrize("inner", [SGD(step_size=ALPHA)])
def test_the_penalty_holds_back(policy, theta, experience, inner):
    def kl(eta):
        algorithm = ProMP(inner=inner, kl_penalty=eta, epochs=20, step_size=0.02)
        return algorithm.update(policy, theta, {}, experience)[2]["kl_before_step_1"]

    assert kl(10.0) < 0.5 * kl(1e-6)


@pytest.mark.parametrize(("kl", "expected"), [(0.0151, 1.0), (0.0149, 0.5), (0.0067, 0.5), (0.0066, 0.25)])
def test_the_penalty_is_doubled_or_halved_outside_its_band(kl, expected):
    assert adapted_penalty(0.5, kl, target=0.01) == expected


@pytest.mark.parametrize("inner", [SGD(steps=2, step_size=ALPHA)])
def test_each_step_has_a_penalty_of_its_own(policy, theta, experience, inner):
    """The KL before each step is reported as it is after the update, and each eta goes by its own."""
    algorithm = ProMP(inner=inner, adaptive_kl_penalty=True, kl_penalty=0.5, kl_target=0.01)
    updated, state, metrics = algorithm.update(policy, theta, {}, experience)
    at = expand(updated, M)
    for k, batch in enumerate(experience.support):
        kl = mean(kl_divergence(batch.policy, policy.distribution(at, batch.observations)), batch.valid).item()
        assert metrics[f"kl_before_step_{k + 1}"] == pytest.approx(kl)
        assert state["kl_penalties"][k] == adapted_penalty(0.5, kl, 0.01) == metrics[f"kl_penalty_{k + 1}"]
        at = inner.descend(policy, at, batch)
    fixed = replace(algorithm, adaptive_kl_penalty=False).update(policy, theta, {}, experience)[1]
    assert fixed["kl_penalties"] == [0.5, 0.5]


@pytest.mark.parametrize("inner", [SGD(step_size=ALPHA)])
@pytest.mark.parametrize("algorithm", [MAMLPPO(), ProMP(), MAMLSGD()])
def test_a_gradient_that_is_not_finite_is_named_and_refused(policy, theta, experience, inner, algorithm):
    log_probs = experience.query.log_probs.clone()
    log_probs[1, 1, 0] = torch.nan
    experience = replace(experience, query=replace(experience.query, log_probs=log_probs))
    with pytest.raises(NonFinite, match="task 1 is not finite in .*b1"):
        replace(algorithm, inner=inner).update(policy, theta, {}, experience)


@inners
def test_epochs_end_where_the_kl_is_above_its_target(policy, theta, experience, inner):
    """The parameters are those after the first epochs, as many as it takes to leave the target behind."""
    after, kls, measuring = [], [], MAMLPPO(inner=inner, step_size=0.03, target_kl=1e6)
    for epochs in range(1, 6):
        params, _, metrics = replace(measuring, epochs=epochs).update(policy, theta, {}, experience)
        after.append(params)
        kls.append(metrics["kl"])  # as measured before the last epoch
    assert kls[0] == pytest.approx(0, abs=1e-9)
    assert kls[:4] == sorted(kls[:4])
    stopping = replace(measuring, epochs=5, target_kl=(kls[2] + kls[3]) / 2)
    params, _, metrics = stopping.update(policy, theta, {}, experience)
    assert metrics["epochs"] == 3
    assert metrics["kl"] == pytest.approx(kls[3])
    assert torch.equal(flatten(params), flatten(after[2]))


@inners
def test_the_step_size_is_annealed_over_iterations(policy, theta, experience, inner):
    annealed = ProMP(inner=inner, step_size=0.03, final_step_size=0.01, anneal_iterations=2, epochs=1)
    params, state, metrics = theta, {}, []
    for _ in range(4):
        params, state, metric = annealed.update(policy, params, state, experience)
        metrics.append(metric["step_size"])
    assert metrics == pytest.approx([0.03, 0.02, 0.01, 0.01])
    first, _, _ = ProMP(inner=inner, step_size=0.03, epochs=1).update(policy, theta, {}, experience)
    again, _, _ = annealed.update(policy, theta, {}, experience)
    assert torch.equal(flatten(first), flatten(again))


def test_a_final_step_size_needs_a_number_of_iterations():
    with pytest.raises(ValueError, match="anneal_iterations"):
        MAMLPPO(final_step_size=1e-4)
