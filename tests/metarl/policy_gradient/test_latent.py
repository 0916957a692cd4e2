"""The latent variable: its draws, its gradient, and the derivatives through an adaptation that moves it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from metarl.algorithms.meta_gradient import adapt_and_linearize, mean_kl, meta_gradient
from metarl.inner.sgd import LOG_STEP_SIZE, SGD
from metarl.parameters import expand, flatten, unflatten
from metarl.policy_gradient.advantages import episode_advantages
from metarl.policy_gradient.gaussian_mlp import LATENT_MEAN, LATENT_WEIGHTS, GaussianMLP, log_prob
from metarl.sampling.rollout import draw_latents
from metarl.types import Batch, Latents

L, M, E, T = 2, 3, 5, 4
POLICY = GaussianMLP(observation_size=3, action_size=2, hidden_sizes=(4,), initial_std=0.7, min_std=0.3, latent_size=L)


@pytest.fixture
def theta():
    rng = torch.Generator().manual_seed(0)
    return {name: (p + 0.3 * torch.randn(p.shape, generator=rng)).double() for name, p in POLICY.init(rng).items()}


def generators(seed=0, tasks=M):
    return [np.random.default_rng([seed, m]) for m in range(tasks)]


def batch(params, seed=0, explore=True):
    """Episodes that `params`, (M, ...), drew; the first one of each task is short."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(M, E, *shape, generator=rng, dtype=torch.float64)

    observations = normal(T, 3)
    latents = None
    if explore:
        mean = params[LATENT_MEAN].detach()
        latents = Latents(mean.unsqueeze(1) + normal(L), mean, normal(1)[..., 0])
    drawn_from = POLICY.distribution(params, observations, latents)
    actions = drawn_from.mean + drawn_from.log_std.exp()[:, None, None] * normal(T, 2)
    valid = torch.ones(M, E, T, dtype=torch.float64)
    valid[:, 0, 2:] = 0
    log_probs = log_prob(drawn_from, actions)
    returns = torch.zeros(M)
    whole = Batch(observations, actions, normal(T), valid, log_probs, drawn_from, returns, latents)
    return replace(whole, policy=replace(drawn_from, mean=drawn_from.mean.detach()), log_probs=log_probs.detach())


# --------------------------------------------------------------------------------------------------- draws
def test_draws_are_stratified_and_differ_by_task(theta):
    params = expand(theta, M)
    drawn = draw_latents(POLICY, params, generators(), 50)
    share = Normal(drawn.mean.unsqueeze(1), 1.0).cdf(drawn.values)  # of the distribution below each draw
    strata = (50 * share).floor().sort(dim=1).values
    assert torch.equal(strata, torch.arange(50.0).view(1, 50, 1).expand(M, 50, L).double())
    assert not torch.equal(drawn.values[0], drawn.values[1])
    order = (50 * share).floor()
    assert not torch.equal(order[..., 0], order[..., 1])  # the dimensions are shuffled independently


def test_draws_of_a_task_do_not_depend_on_the_other_tasks(theta):
    alone = draw_latents(POLICY, expand(theta, 1), generators(tasks=3)[2:], E)
    assert torch.equal(alone.values[0], draw_latents(POLICY, expand(theta, M), generators(), E).values[2])


def test_each_draw_is_standard_normal(theta):
    """The first episode's, over many streams: the strata are in random order."""
    params = {LATENT_MEAN: torch.zeros(4000, L)}
    first = draw_latents(POLICY, params, generators(tasks=4000), 3).values[:, 0]
    assert abs(first.mean()) < 0.05
    assert abs(first.std() - 1) < 0.04
    assert abs((first < -1).double().mean() - Normal(0.0, 1.0).cdf(torch.tensor(-1.0))) < 0.02


def test_a_policy_without_a_latent_draws_none():
    assert draw_latents(replace(POLICY, latent_size=0), {}, generators(), E) is None


# ------------------------------------------------------------------------------------------------- network
def test_without_a_draw_it_is_the_mean(theta):
    params = expand(theta, M)
    observations = torch.randn(M, E, 3, dtype=torch.float64)
    z = theta[LATENT_MEAN].expand(M, E, L)
    assert torch.equal(POLICY.mean(params, observations), POLICY.mean(params, observations, z))
    assert not torch.allclose(POLICY.mean(params, observations), POLICY.mean(params, observations, z + 1))


def test_each_episode_acts_by_its_own_latent(theta):
    params, drawn = expand(theta, M), batch(expand(theta, M))
    together = POLICY.distribution(params, drawn.observations, drawn.latents).mean
    for e in range(E):
        z = drawn.latents.values[:, e : e + 1].expand(M, T, L)
        torch.testing.assert_close(together[:, e], POLICY.mean(params, drawn.observations[:, e], z))


def test_it_starts_with_the_influence_of_all_observations_together():
    policy = replace(POLICY, observation_size=20, hidden_sizes=(1000,))
    params = policy.init(torch.Generator().manual_seed(6))
    without = replace(policy, latent_size=0).init(torch.Generator().manual_seed(6))
    assert all(torch.equal(p, params[name]) for name, p in without.items())
    assert torch.equal(params[LATENT_MEAN], torch.zeros(L))
    assert set(policy.names) == set(params)
    of_observations, of_latent = (params[name].square().sum(0).mean() for name in ("w0", LATENT_WEIGHTS))
    assert 0.9 < of_latent / of_observations < 1.1


# ----------------------------------------------------------------------------------------------- gradients
def test_the_gradient_of_its_mean_is_that_of_the_expected_return(theta):
    """With returns c z + d z_0^2 the expected return is c mean + d (mean_0^2 + 1): its gradient is c + 2 d mean_0."""
    params, c, d = {name: p.float() for name, p in expand(theta, M).items()}, torch.tensor([2.0, -1.0]), 0.5
    drawn = draw_latents(POLICY, params, generators(), 20_000)
    returns = drawn.values @ c + d * drawn.values[..., 0].square()
    none = torch.zeros(M, 20_000, 1)
    latents = replace(drawn, advantages=returns - returns.mean(1, keepdim=True))
    observations = torch.zeros(M, 20_000, 1, 3)
    at = {name: p.clone().requires_grad_() for name, p in params.items()}
    drawn_from = POLICY.distribution(params, observations, drawn)
    episodes = Batch(
        observations, torch.zeros(M, 20_000, 1, 2), none, none + 1, none, drawn_from, none[:, 0, 0], latents
    )
    for loss in ("ratio", "reinforce"):
        (grad,) = torch.autograd.grad(POLICY.inner_losses(at, episodes, loss).sum(), at[LATENT_MEAN])
        expected = c + torch.stack([2 * d * params[LATENT_MEAN][:, 0], torch.zeros(M)], -1)
        torch.testing.assert_close(-grad, expected, atol=0.03, rtol=0)


def test_the_loss_is_that_of_actions_plus_that_of_the_latents(theta):
    """Written once more with torch.distributions, at other parameters than those that drew."""
    params = expand(theta, M)
    drawn = batch(params)
    moved = {name: p + 0.1 for name, p in params.items()}
    p = POLICY.distribution(moved, drawn.observations, drawn.latents)
    actions = Independent(Normal(p.mean, p.log_std.exp()[:, None, None].expand_as(p.mean)), 1)
    z = [Independent(Normal(mean.unsqueeze(1), 1.0), 1) for mean in (moved[LATENT_MEAN], params[LATENT_MEAN])]
    log_ratio = z[0].log_prob(drawn.latents.values) - z[1].log_prob(drawn.latents.values)
    of_actions = torch.exp(actions.log_prob(drawn.actions) - drawn.log_probs) * drawn.advantages
    expected = [
        -of_actions[m][drawn.valid[m].bool()].mean() - (log_ratio[m].exp() * drawn.latents.advantages[m]).mean()
        for m in range(M)
    ]
    torch.testing.assert_close(POLICY.inner_losses(moved, drawn, "ratio"), torch.stack(expected))
    kl = torch.stack(
        [
            torch.distributions.kl_divergence(Normal(a, 1.0), Normal(b, 1.0)).sum()
            for a, b in zip(params[LATENT_MEAN], moved[LATENT_MEAN], strict=True)
        ]
    )
    without = replace(drawn, latents=replace(drawn.latents, mean=moved[LATENT_MEAN]))
    torch.testing.assert_close(mean_kl(POLICY, moved, drawn), mean_kl(POLICY, moved, without) + kl)


@pytest.mark.parametrize("kind", [{}, {"loss": "reinforce"}, {"learned_step_sizes": True}, {"last_layer_only": True}])
@pytest.mark.parametrize("K", [1, 2])
def test_the_meta_gradient_is_that_of_finite_differences(theta, kind, K):
    sgd = SGD(step_size=0.3, latent_step_size=0.7, **kind)
    theta = sgd.start(POLICY, theta)
    params, support = expand(theta, M), []
    for k in range(K):
        support.append(batch(params, seed=k))
        params = sgd.descend(POLICY, params, support[-1])
    query = batch(params, seed=K, explore=False)

    def adaptation(at):
        return adapt_and_linearize(sgd, POLICY, at, M, support)

    def outer(at):
        return POLICY.outer_losses(at, query)

    values, by_task = meta_gradient(POLICY, adaptation(theta), outer)
    grad = {name: g.sum(0) for name, g in by_task.items()}
    assert LATENT_MEAN in grad
    assert (LOG_STEP_SIZE + LATENT_MEAN in grad) == bool(kind.get("learned_step_sizes"))
    flat = flatten(theta)
    direction = torch.randn(flat.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    direction /= direction.norm()
    ahead, behind = (
        outer(adaptation(unflatten(flat + sign * 1e-5 * direction, theta)).adapted).sum() for sign in (1, -1)
    )
    torch.testing.assert_close(flatten(grad) @ direction, (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(values, outer(params))


def test_its_mean_has_a_step_size_of_its_own(theta):
    params = expand(theta, M)
    small, large = (SGD(latent_step_size=size).descend(POLICY, params, batch(params)) for size in (0.5, 2.0))
    for name in theta:
        moved, further = small[name] - params[name], large[name] - params[name]
        torch.testing.assert_close(further, 4 * moved if name == LATENT_MEAN else moved)


def test_returns_of_episodes_are_standardized_and_diverged_ones_left_out():
    returns = torch.tensor([[1.0, 2.0, 3.0, torch.nan], [5.0, 5.0, 5.0, 5.0]])
    advantages = episode_advantages(returns)
    torch.testing.assert_close(advantages[0], torch.tensor([-(1.5**0.5), 0.0, 1.5**0.5, 0.0]))
    torch.testing.assert_close(advantages[1], torch.zeros(4))
