"""Statistics of observations: those of all data together, whatever its parts, and never of padding."""

import numpy as np
import pytest
import torch

from metarl.errors import NonFinite
from metarl.parameters import expand
from metarl.policy_gradient import normalizer
from metarl.policy_gradient.gaussian_mlp import GaussianMLP
from metarl.policy_gradient.normalizer import COUNT, MEAN, STD, Moments, initial, normalized, updated

SCALES = torch.tensor([1e-3, 1.0, 300.0])


def data(n, seed=0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * SCALES + 2 * SCALES


def seen(params, observations):
    """The statistics after these observations (n, O), which the policy saw as they normalized them before."""
    z = normalized(params, observations)
    return updated(params, [Moments.of(z, torch.ones(len(z)))])


def test_statistics_are_those_of_all_observations_and_of_one_of_a_unit():
    params, parts = initial(3), [data(1000, 1), data(20, 2), data(3000, 3)]
    for part in parts:
        params = seen(params, part)
    everything = torch.cat(parts)
    n = len(everything)
    mean = everything.sum(0) / (n + 1)
    variance = (1 + ((everything - mean) ** 2).sum(0) + mean**2) / (n + 1)
    torch.testing.assert_close(params[MEAN].double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(params[STD].double(), variance.sqrt(), rtol=1e-5, atol=1e-6)
    assert params[COUNT] == n + 1


def test_parts_joined_are_the_moments_of_the_whole():
    parts = [data(n, n) for n in (5, 1, 200)]
    joined = Moments.joined([Moments.of(part, torch.ones(len(part))) for part in parts])
    whole = Moments.of(torch.cat(parts), torch.ones(206))
    assert joined.count == 206
    torch.testing.assert_close(joined.mean, whole.mean)
    torch.testing.assert_close(joined.variance, whole.variance)


def test_padding_does_not_count():
    observations, valid = data(12).view(2, 6, 3), torch.ones(2, 6)
    valid[1, 2:] = 0
    observations[1, 2:] = torch.nan
    assert Moments.of(observations, valid).count == 8
    assert torch.isfinite(Moments.of(observations, valid).variance).all()
    nothing = Moments.of(observations, torch.zeros(2, 6))
    assert updated(initial(3), [nothing])[COUNT] == 1


def test_what_is_seen_then_has_zero_mean_and_unit_deviation():
    z = normalized(seen(initial(3), data(5000)), data(5000))
    np.testing.assert_allclose(z.mean(0)[1:], 0, atol=0.01)
    np.testing.assert_allclose(z.std(0)[1:], 1, atol=0.02)


def test_a_constant_observation_becomes_zero_and_nothing_blows_up():
    params = seen(initial(3), torch.full((10_000, 3), 5.0, dtype=torch.float64))
    for _ in range(5):
        params = seen(params, torch.full((10_000, 3), 5.0, dtype=torch.float64))
    z = normalized(params, torch.full((1, 3), 5.0))
    assert torch.isfinite(z).all()
    assert z.abs().max() < 0.1


def test_an_entry_that_never_moves_in_long_training_cannot_explode():
    params = initial(3)
    still = Moments(200_000, torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    for _ in range(1000):
        params = updated(params, [still])
    assert params[COUNT] == normalizer.LARGEST_COUNT
    assert normalized(params, torch.full((1, 3), 0.01)).max() <= 10.001


def test_few_samples_keep_a_spread():
    assert seen(initial(3), torch.zeros(2, 3, dtype=torch.float64))[STD].min() > 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_what_is_no_number_is_refused_with_its_place(value):
    observations = data(10)
    observations[3, 1] = value
    with pytest.raises(NonFinite, match=r"too large or undefined.*entries \[1\]"):
        seen(initial(3), observations)


def test_without_statistics_nothing_changes():
    params = {"w0": torch.ones(3, 1)}
    assert updated(params, [Moments.of(data(4), torch.ones(4))]) is params
    observations = data(4)
    assert normalized(params, observations) is observations


def test_each_task_has_the_same_statistics():
    params = seen(initial(3), data(100))
    z = normalized(expand(params, 2), torch.stack([data(4), data(4)]).float())
    assert torch.equal(z[0], z[1])
    torch.testing.assert_close(z[0], normalized(params, data(4).float()))


def test_commands_are_those_of_the_mean_at_normalized_observations():
    policy = GaussianMLP(observation_size=3, action_size=2, hidden_sizes=(4,), normalize_observations=True)
    params = seen(policy.init(torch.Generator().manual_seed(0)), data(100))
    one, observations = expand(params, 1), data(5).float().unsqueeze(0)
    z = (observations - params[MEAN]) / params[STD]
    torch.testing.assert_close(policy.command(one, observations), (0.1 * policy.mean(one, z)).clamp(-1, 1))
    assert policy.acting(params).keys() == {*policy.names, *normalizer.NAMES}
