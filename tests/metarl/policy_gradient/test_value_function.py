import pytest
import torch

from metarl.policy_gradient.value_function import features, fit, predict

M, E, T, O = 3, 6, 20, 2  # noqa: E741


@pytest.fixture
def observations():
    return torch.randn(M, E, T, O, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def coefficients():
    return torch.randn(M, 2 * O + 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_features_by_hand():
    observations = torch.zeros(1, 1, 51, 2)
    observations[0, 0, 50] = torch.tensor([3.0, -1000.0])
    row = features(observations)[0, 0, 50]
    expected = torch.tensor([3, -10, 9, 100, 0.5, 0.25, 0.125, 1], dtype=torch.float64)
    torch.testing.assert_close(row, expected)


def test_a_linear_value_function_is_recovered_for_each_task(observations, coefficients):
    x = features(observations)
    targets = predict(x, coefficients)
    fitted = fit(x, targets, torch.ones(M, E, T), ridge=1e-12)
    torch.testing.assert_close(predict(x, fitted), targets, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(fitted, coefficients, rtol=1e-4, atol=1e-4)
    alone = fit(x[1:2], targets[1:2], torch.ones(1, E, T), ridge=1e-12)
    torch.testing.assert_close(fitted[1:2], alone, rtol=1e-6, atol=1e-6)


def test_fit_is_ridge_regression(observations, coefficients):
    """The gradient of |X w - y|^2 + ridge |w|^2 vanishes."""
    x, ridge = features(observations), 3.0
    targets = torch.randn(M, E, T, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    w = fit(x, targets, torch.ones(M, E, T), ridge).requires_grad_()
    loss = (predict(x, w) - targets).square().sum() + ridge * w.square().sum()
    assert torch.autograd.grad(loss, w)[0].abs().max() < 1e-9


def test_invalid_steps_do_not_count(observations, coefficients):
    x = features(observations)
    targets = predict(x, coefficients)
    valid = torch.ones(M, E, T)
    valid[:, ::2, T // 2 :] = 0
    expected = fit(x, targets, valid)
    garbage = torch.where(valid.bool(), 0.0, 1e8)
    torch.testing.assert_close(fit(x + garbage[..., None], targets - garbage, valid), expected, rtol=0, atol=0)
    assert not torch.allclose(fit(x, targets, torch.ones(M, E, T)), expected, rtol=1e-12, atol=0)


def test_ridge_is_raised_until_singular_equations_are_solvable():
    x = torch.ones(1, 4, 25, 2, dtype=torch.float64)  # two equal columns
    targets = torch.full((1, 4, 25), 6.0, dtype=torch.float64)
    w = fit(x, targets, torch.ones(1, 4, 25), ridge=1e-20)
    torch.testing.assert_close(predict(x, w), targets, rtol=1e-2, atol=0)


def test_no_valid_step_gives_zero_values(observations):
    x = features(observations)
    assert not fit(x, torch.ones(M, E, T), torch.zeros(M, E, T)).any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["features", "targets"])
def test_numbers_that_are_not_finite_are_refused(observations, where, bad):
    x, targets = features(observations), torch.zeros(M, E, T, dtype=torch.float64)
    (x if where == "features" else targets)[1, 2, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        fit(x, targets, torch.ones(M, E, T))
