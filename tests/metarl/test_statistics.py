"""Statistics against numbers by hand, identities, brute force, and the coverage of their intervals."""

import json
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metarl.seeding import Purpose, stream
from metarl.statistics import (
    RESAMPLES,
    UNDEFINED,
    Estimate,
    estimate,
    interquartile_mean,
    mean,
    mean_between,
    over_tasks,
    paired_gain,
    performance_profile,
    plain,
    probability_of_improvement,
    shown_as,
    student,
    summary,
    worst_decile,
)

RETURNS = np.array([[1.0, 3.0, 9.0], [2.0, 8.0, 7.0], [0.0, 4.0, 5.0], [4.0, 4.0, 10.0]])
"""(tasks, K+1) of one seed."""


def normal(*size, seed=0):
    return np.random.default_rng(seed).normal(size=size)


# ------------------------------------------------------------------------------------------------ aggregates
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


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([7.0], 7.0),
        ([5.0, 3.0, 4.0], 3.0),
        (np.arange(10.0), 0.0),
        (np.arange(15.0), (0 + 0.5 * 1) / 1.5),  # a tenth of 15 is the lowest and half of the next
        (np.arange(20.0)[::-1], 0.5),
        (np.arange(40.0), 1.5),
    ],
)
def test_worst_decile_by_hand(x, expected):
    assert worst_decile(np.array(x)) == pytest.approx(expected)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12))
def test_parts_are_whole_numbers_of_values_in_copies(x):
    """Four copies of each value make the quarters whole numbers of values, ten copies the tenths."""
    copies = np.sort(np.repeat(x, 4))
    assert interquartile_mean(np.array(x)) == pytest.approx(copies[len(x) : 3 * len(x)].mean(), abs=1e-9)
    assert worst_decile(np.array(x)) == pytest.approx(np.sort(np.repeat(x, 10))[: len(x)].mean(), abs=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_the_mean_is_made_of_the_means_below_and_above(x, share):
    x = np.array(x)
    parts = share * mean_between(x, 0, share) + (1 - share) * mean_between(x, share, 1)
    assert parts == pytest.approx(x.mean(), abs=1e-9)


@pytest.mark.parametrize("statistic", [mean, interquartile_mean, worst_decile])
def test_a_statistic_is_along_its_axis_and_leaves_out_what_is_undefined(statistic):
    x = normal(5, 30)
    np.testing.assert_allclose(statistic(x, axis=0), [statistic(x[:, i]) for i in range(30)])
    x[1, [3, 8]], x[2, 1:], x[3] = np.nan, np.nan, np.nan
    np.testing.assert_allclose(
        statistic(x), [statistic(row[~np.isnan(row)]) if i != 3 else np.nan for i, row in enumerate(x)]
    )


# ------------------------------------------------------------------------------------------------- intervals
@pytest.mark.parametrize("statistic", [mean, interquartile_mean, worst_decile])
def test_one_seed_has_no_interval_but_the_spread_over_tasks(statistic):
    x = normal(40)
    for found in (estimate(x, statistic), estimate(x[None], statistic)):
        assert found.value == statistic(x)
        assert np.isnan([found.low, found.high]).all()
        assert found.spread == pytest.approx(x.std(ddof=1))
        assert found.band == pytest.approx((found.value - found.spread, found.value + found.spread))
    assert str(Estimate(-34.0, spread=15.2)) == "-34.0 (tasks ±15.2)"
    assert str(estimate(np.array([7.0]))) == "7.0"  # of one task there is no spread


def test_many_tasks_do_not_make_one_seed_surer():
    """The spread stays as wide as the tasks are different; an interval over tasks would shrink."""
    few, many = (estimate(normal(n)).spread for n in (100, 10_000))
    assert few == pytest.approx(many, rel=0.2)


def test_an_interval_over_tasks_is_of_the_mean_of_these_runs():
    x = np.array([1.0, 2.0, 6.0, np.nan])
    half = 4.303 * np.sqrt(7) / np.sqrt(3)
    found = over_tasks(x)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half))


def test_what_stands_beside_a_value_in_words():
    assert shown_as(5, 3) == "95% interval over seeds"
    assert shown_as(1, 1) == "spread over tasks (standard deviation), one seed"
    assert shown_as(1, 4) == "95% interval over seeds; of one seed the spread over tasks (standard deviation)"


def test_from_ten_seeds_on_the_bootstrap_is_drawn_from_its_own_stream_whatever_else_was_drawn():
    np.random.seed(1)
    torch.manual_seed(1)
    x = normal(12, 5)
    runs = x.mean(1)
    drawn = runs[stream(0, Purpose.BOOTSTRAP).integers(12, size=(RESAMPLES, 12))]
    t = [(row.mean() - runs.mean()) / (row.std(ddof=1) / np.sqrt(12)) for row in drawn]
    low, high = runs.mean() - np.quantile(t, [0.975, 0.025]) * runs.std(ddof=1) / np.sqrt(12)
    for _ in range(2):
        found = estimate(x)
        assert (found.value, found.low, found.high) == pytest.approx((x.mean(), low, high))
    same = estimate(np.full((12, 3), 2.0))
    assert (same.value, same.low, same.high) == (2, 2, 2)


def test_the_interval_of_runs_is_students_by_hand():
    """A run is one number: that of two runs is their mean +- 12.706 times half their difference."""
    x = np.array([[1.0, 2.0, 6.0], [3.0, 5.0, 10.0]])
    gain = paired_gain(x, x + np.array([[0, 0, 6], [1, 2, 0]]))
    for found, value, half in ((estimate(x), 4.5, 1.5), (estimate(x, worst_decile), 1.0, 1.0), (gain, 1.5, 0.5)):
        expected = value, value - 12.706 * half, value + 12.706 * half
        assert (found.value, found.low, found.high) == pytest.approx(expected)
        assert np.isnan(found.spread)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (4, 2.776), (9, 2.262), (10, 2.228), (29, 2.045)])
def test_quantiles_of_students_distribution(freedom, quantile):
    """Of published tables."""
    assert student(freedom) == pytest.approx(quantile, abs=1e-3)


@pytest.mark.parametrize("statistic", [mean, interquartile_mean, worst_decile])
@pytest.mark.parametrize("seeds", [1, 4])
def test_an_estimate_moves_with_its_unit_and_its_zero(statistic, seeds):
    x = normal(seeds, 12)
    e, moved = (estimate(y, statistic) for y in (x, 3 * x - 7))
    for part in ("value", "low", "high"):
        assert getattr(moved, part) == pytest.approx(3 * getattr(e, part) - 7, nan_ok=True)
    assert moved.spread == pytest.approx(3 * e.spread, nan_ok=True)


def test_the_order_of_tasks_plays_no_part_where_runs_are_drawn():
    x = normal(4, 12)
    for statistic in (mean, interquartile_mean, worst_decile):
        assert vars(estimate(x, statistic)) == pytest.approx(vars(estimate(x[:, ::-1], statistic)), nan_ok=True)


def test_gain_does_not_depend_on_how_hard_the_tasks_are():
    """Tasks that differ by thousands widen no interval of a gain: it is paired."""
    before, gain = 1000 * normal(1, 40), normal(1, 40, seed=1) + 3
    assert vars(paired_gain(before, before + gain)) == pytest.approx(vars(estimate(gain)), nan_ok=True)


def coverage(sizes, between, draws=400, luck=np.random.Generator.normal):
    """How often the interval of the mean covers the truth, where runs differ by `between` and tasks in a run by 1."""
    rng, hits = np.random.default_rng(0), 0
    truth = between if luck is np.random.Generator.exponential else 0
    for _ in range(draws):
        hardness = 5 * rng.normal(size=(1, sizes[1]))
        x = hardness + between * luck(rng, size=(sizes[0], 1)) + rng.normal(size=sizes)
        e = estimate(x)
        hits += e.low < hardness.mean() + truth < e.high
    return hits / draws


def test_an_interval_over_tasks_covers_the_truth_95_times_in_100():
    rng = np.random.default_rng(0)
    estimates = [over_tasks(rng.normal(3.0, 2.0, size=9)) for _ in range(3000)]
    assert np.mean([e.low < 3.0 < e.high for e in estimates]) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("between", [0.0, 1.0])
@pytest.mark.parametrize(("seeds", "draws"), [(2, 3000), (3, 3000), (5, 3000), (9, 3000), (10, 700), (20, 700)])
def test_an_interval_over_seeds_covers_the_truth_95_times_in_100(between, seeds, draws):
    """Whether a run's luck is shared by its tasks or not."""
    assert coverage((seeds, 6), between, draws) == pytest.approx(0.95, abs=0.02)


def test_from_ten_seeds_on_it_does_so_also_where_luck_is_skewed():
    assert coverage((10, 2), 3.0, 700, luck=np.random.Generator.exponential) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("shift", "between"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_interval_of_the_probability_of_improvement_covers_it(shift, between):
    """94 to 98 times in 100: where runs differ much, it is a little too wide."""
    rng, hits, draws = np.random.default_rng(0), 0, 300
    truth = NormalDist().cdf(shift / math.sqrt(2 * (1 + between**2)))
    for _ in range(draws):
        x, y = (between * rng.normal(size=(10, 1)) + rng.normal(size=(10, 6)) for _ in range(2))
        found = probability_of_improvement(x + shift, y)
        hits += found.low <= truth <= found.high
    assert 0.93 < hits / draws < 0.99


def test_an_estimate_is_deterministic():
    x = normal(20)
    assert str(estimate(x)) == str(estimate(x.copy()))
    assert estimate(normal(10, 3)) == estimate(normal(10, 3))
    assert str(estimate(np.array([[2.0], [2.0]]))) == "2.0 [2.0, 2.0]"
    assert estimate(np.array([0.5, 0.5])).text(2) == "0.50 (tasks ±0.00)"


def test_a_task_that_was_left_out_is_not_counted():
    x = normal(20)
    holes = np.insert(x, [0, 4, 20], np.nan)
    for statistic in (mean, interquartile_mean, worst_decile):
        assert str(estimate(holes, statistic)) == str(estimate(x, statistic))
    assert str(estimate(np.full(3, np.nan))) == str(UNDEFINED)


def test_a_task_that_one_run_lacks_counts_for_the_others():
    x = np.array([[1.0, np.nan], [3.0, 8.0], [2.0, 6.0]])
    e = estimate(x)
    assert e.value == 4.0
    assert e.low < e.value < e.high
    never = np.column_stack([x, np.full(3, np.nan)])
    assert estimate(never).value == 4.0
    assert estimate(np.full((3, 2), np.nan)) is UNDEFINED


# ------------------------------------------------------------------------------------ probability of improvement
def mann_whitney(x, y):
    """The mean over tasks of the share of pairs that X wins, a tie for half; pair by pair."""
    shares = []
    for m in range(x.shape[1]):
        pairs = [(a > b) + 0.5 * (a == b) for a in x[:, m] for b in y[:, m] if not np.isnan(a + b)]
        shares += [np.mean(pairs)] if pairs else []
    return np.mean(shares)


def test_probability_of_improvement_by_hand():
    x, y = np.array([[3.0, 0.0], [1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])
    # first task: 3 > 2, 3 > 0, 1 < 2, 1 > 0; second: twice a tie, twice lost
    assert probability_of_improvement(x, y).value == pytest.approx((3 / 4 + 1 / 4) / 2)


def test_of_one_seed_it_is_the_share_of_tasks_that_are_better():
    x, y = np.array([1.0, 5.0, 2.0, 4.0, np.nan]), np.array([0.0, 7.0, 2.0, 3.0, 9.0])
    assert probability_of_improvement(x, y).value == np.mean([1.0, 0.0, 0.5, 1.0])
    assert str(probability_of_improvement(x, y)) == "0.6"


@pytest.mark.parametrize("sizes", [(4, 3), (1, 3), (4, 1)])
def test_with_few_seeds_it_has_no_interval(sizes):
    """Against pair-by-pair counting, with ties and with runs that lack a task."""
    x, y = np.round(normal(sizes[0], 6)), np.round(normal(sizes[1], 6, seed=1))
    x[0, 2], y[-1, 4] = np.nan, np.nan
    found = probability_of_improvement(x, y)
    assert found.value == pytest.approx(mann_whitney(x, y))
    assert np.isnan([found.low, found.high, found.spread]).all()


def test_with_ten_seeds_its_interval_is_that_of_the_stratified_bootstrap():
    """Runs are drawn on either side, whole; each resample pair by pair."""
    x, y = normal(10, 3), normal(11, 3, seed=1) + 0.3

    def error(x, y):
        wins = np.array([[np.mean(a > b) for b in y] for a in x])
        return np.sqrt(wins.mean(1).var(ddof=1) / len(x) + wins.mean(0).var(ddof=1) / len(y))

    rng, t, value = stream(0, Purpose.BOOTSTRAP), [], mann_whitney(x, y)
    drawn = [runs[rng.integers(len(runs), size=(RESAMPLES, len(runs)))] for runs in (x, y)]
    for a, b in zip(*(side[:200] for side in drawn), strict=True):
        t.append((mann_whitney(a, b) - value) / error(a, b))
    found = probability_of_improvement(x, y)
    low, high = value - np.quantile(t, [0.975, 0.025]) * error(x, y)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=0.05)


@pytest.mark.parametrize("seeds", [1, 5, 10])
def test_probability_of_improvement_depends_on_order_alone_and_adds_up_to_one(seeds):
    x, y = normal(seeds, 8), normal(seeds, 8, seed=1)
    scale = 10.0 ** np.arange(-3, 5)  # another unit for each task
    found = probability_of_improvement(x, y)
    assert found.text(6) == probability_of_improvement(scale * np.exp(x), scale * np.exp(y)).text(6)
    assert found.value + probability_of_improvement(y, x).value == pytest.approx(1)
    assert probability_of_improvement(x, x).value == pytest.approx(0.5)
    assert probability_of_improvement(x + 9, y).value == 1


def test_probability_of_improvement_of_nothing_in_common():
    x, y = np.array([[1.0, np.nan]]), np.array([[np.nan, 2.0]])
    assert probability_of_improvement(x, y) is UNDEFINED
    with pytest.raises(ValueError, match="x is of 3 tasks and y of 2"):
        probability_of_improvement(np.zeros((2, 3)), np.zeros((2, 2)))


# -------------------------------------------------------------------------------------------- performance profile
def test_performance_profile_by_hand():
    x = np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 5.0]])
    profile = performance_profile(x, np.array([0.0, 1.0, 2.5, 4.5, 5.0]))
    assert [e.value for e in profile] == [1, 0.8, 0.6, 0.2, 0]
    assert [(e.low, e.high) for e in profile] == [(1, 1), (0, 1), (0, 1), (0, 1), (0, 0)]  # no share is beyond
    assert [str(e) for e in performance_profile(x[0], np.array([1.5]))] == ["0.5"]


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_area_below_a_profile_is_the_mean(seeds):
    """The mean of a non-negative number is the integral of the share above t."""
    x = np.abs(normal(seeds, 10))
    thresholds = (np.arange(4000) + 0.5) * x.max() / 4000
    shares = np.array([e.value for e in performance_profile(x, thresholds)])
    assert shares.mean() * x.max() == pytest.approx(x.mean(), rel=1e-3)
    assert (np.diff(shares) <= 0).all()


def test_a_profile_has_the_interval_of_the_share():
    x = normal(4, 10)
    assert performance_profile(x, np.array([0.3])) == [estimate(1.0 * (x > 0.3))]
    assert performance_profile(np.full((2, 2), np.nan), np.zeros(3)) == [UNDEFINED] * 3


# --------------------------------------------------------------------------------------------------- summary
def test_a_summary_has_the_gain_over_no_step_paired_by_task():
    rows = summary(RETURNS[None])
    assert [row["steps"] for row in rows] == [0, 1, 2]
    assert [row["mean"].value for row in rows] == [1.75, 4.75, 7.75]
    assert [row["iqm"].value for row in rows] == [1.5, 4.0, 8.0]  # of the middle two
    assert [row["worst_decile"].value for row in rows] == pytest.approx([0.0, 3.0, 5.0])
    assert [row["gain"].value for row in rows] == [0.0, 3.0, 6.0]
    assert rows[1]["gain"].spread == pytest.approx(np.std([2.0, 6.0, 4.0, 0.0], ddof=1))


def test_a_summary_leaves_out_tasks_that_diverged():
    lost = np.vstack([RETURNS[:2], np.full((1, 3), np.nan), RETURNS[2:]])
    assert str(summary(lost[None])) == str(summary(RETURNS[None]))
    once = lost.copy()
    once[2] = [7.0, np.nan, 7.0]
    assert str(summary(once[None])[1]["gain"]) == str(summary(RETURNS[None])[1]["gain"])


def test_plain_data_is_what_strict_json_holds():
    of_one_seed = Estimate(1.0, spread=0.5)
    data = {"a": [Estimate(1.0, 0.5, np.nan), UNDEFINED, of_one_seed], "b": (np.nan, 2, "x", None, True)}
    found = [{"value": 1.0, "low": 0.5, "high": None}, {"value": None, "low": None, "high": None}]
    expected = {"a": [*found, {"value": 1.0, "spread_over_tasks": 0.5}], "b": [None, 2, "x", None, True]}
    assert plain(data) == expected
    assert json.loads(json.dumps(plain(data), allow_nan=False)) == expected
