import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metarl.statistics import estimate, interquartile_mean


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 3.0], 2.0),
        ([100.0, 0.0, 3.0, -100.0], 1.5),
        # n = 5: the middle 2.5 values are 1/4 .. 3/4 of 5, so 3/4 of the second, the third, 3/4 of the fourth
        ([1000.0, 10.0, 20.0, 40.0, -1000.0], (0.75 * 10 + 20 + 0.75 * 40) / 2.5),
        # n = 6: half of the second and of the fifth
        ([0.0, 1.0, 2.0, 4.0, 8.0, 99.0], (0.5 * 1 + 2 + 4 + 0.5 * 8) / 3),
        # n = 7: a quarter of the second and of the sixth
        ([0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 99.0], (0.25 * 1 + 2 + 3 + 5 + 0.25 * 8) / 3.5),
    ],
)
def test_interquartile_mean_by_hand(x, expected):
    assert interquartile_mean(np.array(x)) == pytest.approx(expected)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12))
def test_interquartile_mean_is_the_middle_half_of_four_copies(x):
    """Four copies of each value make the quarters whole numbers of values."""
    copies = np.sort(np.repeat(x, 4))
    assert interquartile_mean(np.array(x)) == pytest.approx(copies[len(x) : 3 * len(x)].mean(), abs=1e-9)


def test_interquartile_mean_along_an_axis():
    x = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(interquartile_mean(x, axis=0), [interquartile_mean(x[:, i]) for i in range(3)])


@pytest.mark.parametrize("statistic", [np.mean, interquartile_mean])
def test_an_interval_contains_the_value_and_shrinks_with_the_number_of_tasks(statistic):
    x = np.random.default_rng(0).normal(size=1600)
    estimates = [estimate(x[:n], statistic) for n in (16, 100, 1600)]
    for n, e in zip((16, 100, 1600), estimates, strict=True):
        assert e.low < e.value < e.high
        assert e.value == statistic(x[:n])
    widths = np.array([e.high - e.low for e in estimates])
    np.testing.assert_allclose(widths[:-1] / widths[1:], [2.5, 4.0], rtol=0.3)  # as 1 / sqrt(n)


def test_an_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    estimates = [estimate(rng.normal(3.0, 2.0, size=40)) for _ in range(300)]
    covered = np.mean([e.low < 3.0 < e.high for e in estimates])
    assert 0.91 < covered < 0.98


def test_an_estimate_is_deterministic():
    x = np.random.default_rng(0).normal(size=20)
    assert estimate(x) == estimate(x.copy())
    assert str(estimate(np.array([2.0, 2.0]))) == "2.0 [2.0, 2.0]"
