import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.algorithms.trust_region import conjugate_gradient, trust_region_step
from metarl.system.timing import Stopwatch

SETTINGS = {"cg_iterations": 20, "cg_damping": 1e-6, "backtrack_ratio": 0.8, "max_backtracks": 15}


def positive_definite(size, seed):
    """A random symmetric matrix with eigenvalues in [0.1, 10], and a random vector."""
    rng = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=rng, dtype=torch.float64))
    eigenvalues = 10 ** (2 * torch.rand(size, generator=rng, dtype=torch.float64) - 1)
    return q * eigenvalues @ q.T, torch.randn(size, generator=rng, dtype=torch.float64)


problems = given(st.integers(1, 10), st.integers(0, 2**32))


@problems
def test_conjugate_gradient_is_a_direct_solve(size, seed):
    matrix, b = positive_definite(size, seed)
    x, image = conjugate_gradient(lambda v: matrix @ v, b, iterations=3 * size, tolerance=1e-26)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(image, matrix @ x, rtol=1e-7, atol=1e-7)


def test_conjugate_gradient_stops_at_the_tolerance_and_at_the_number_of_iterations():
    matrix, b = positive_definite(30, 0)
    products = []

    def product(v):
        products.append(v)
        return matrix @ v

    for iterations in (1, 4):
        products.clear()
        conjugate_gradient(product, b, iterations)
        assert len(products) == iterations
    products.clear()
    x, image = conjugate_gradient(product, b, 1000, tolerance=1e-4)
    torch.testing.assert_close(image, matrix @ x)
    assert len(products) < 30
    assert 0 < (matrix @ x - b).norm() <= 1e-2 * b.norm()
    assert not conjugate_gradient(product, torch.zeros(30), 10)[0].any()


@problems
def test_the_step_on_a_quadratic_model_is_the_natural_gradient(size, seed):
    """argmax g x subject to x H x / 2 <= delta is sqrt(2 delta / g H^-1 g) H^-1 g."""
    matrix, g = positive_definite(size, seed)
    step, metrics = trust_region_step(
        g,
        lambda v: matrix @ v,
        lambda x: (7 + g @ x, x @ matrix @ x / 2),
        torch.tensor(7.0),
        Stopwatch(),
        max_kl=0.02,
        **SETTINGS | {"cg_iterations": 40},
    )
    natural = torch.linalg.solve(matrix, g)
    expected = natural * torch.sqrt(0.04 / (g @ natural))
    torch.testing.assert_close(step, expected, rtol=1e-3, atol=1e-6)
    assert metrics["backtracks"] == 0
    assert metrics["accepted"] == 1
    assert metrics["kl"] == pytest.approx(0.02, rel=1e-3)
    assert metrics["improvement"] == pytest.approx((g @ step).item())


@problems
@settings(max_examples=50)
def test_an_accepted_step_improves_within_the_trust_region(size, seed):
    """Where the true surrogate and KL curve away from their models."""
    matrix, g = positive_definite(size, seed)
    strength = 10 ** torch.rand((), generator=torch.Generator().manual_seed(seed)).mul(4).item()

    def evaluate(x):
        return g @ x - strength * (x @ x) ** 2, (x @ matrix @ x / 2) * (1 + strength * x.norm())

    start, _ = evaluate(torch.zeros_like(g))
    step, metrics = trust_region_step(g, lambda v: matrix @ v, evaluate, start, Stopwatch(), max_kl=0.05, **SETTINGS)
    surrogate, kl = evaluate(step)
    if metrics["accepted"]:
        assert 0 < metrics["kl"] == kl <= 0.05
        assert 0 < metrics["improvement"] == surrogate - start
    else:
        assert not step.any()


def test_backtracking_takes_the_longest_step_of_its_grid_within_the_trust_region():
    """Where the KL is four times its model, half the longest step fits: 0.8^4, but not 0.8^3."""
    g = torch.tensor([1.0], dtype=torch.float64)
    step, metrics = trust_region_step(
        g, lambda v: v, lambda x: (g @ x, 4 * x @ x / 2), torch.tensor(0.0), Stopwatch(), max_kl=0.02, **SETTINGS
    )
    assert metrics["backtracks"] == 4
    assert step.item() == pytest.approx(0.2 * 0.8**4, rel=1e-4)


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda x: (-(x @ x), 0 * x.sum()),  # worse
        lambda x: (0 * x.sum(), 0 * x.sum()),  # no better
        lambda x: (x.sum(), 1 + x @ x),  # outside
        lambda x: (x.sum() * torch.nan, 0 * x.sum()),
        lambda x: (x.sum(), x.sum() * torch.nan),
    ],
)
def test_a_failed_search_is_no_step_at_all(evaluate):
    g = torch.ones(3, dtype=torch.float64)
    step, metrics = trust_region_step(g, lambda v: v, evaluate, torch.tensor(0.0), Stopwatch(), max_kl=0.01, **SETTINGS)
    assert torch.equal(step, torch.zeros_like(g))
    assert metrics["accepted"] == metrics["kl"] == metrics["improvement"] == 0
    assert metrics["backtracks"] == 15


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_a_gradient_without_direction_is_no_step(value):
    g = torch.full((3,), value)
    step, metrics = trust_region_step(
        g, lambda v: v, lambda x: (g @ x, x @ x), torch.tensor(0.0), Stopwatch(), max_kl=0.01, **SETTINGS
    )
    assert torch.equal(step, torch.zeros(3))
    assert metrics["accepted"] == 0
