"""Task spaces: splits that cannot leak, exact grids, strict values."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.errors import FamilyError, TaskError
from envs.goals_2d import direction_space as all_directions
from envs.half_cheetah import DirectionTask, direction_space
from envs.hopper import params
from envs.point import GoalTask, goal_space, half_circle_space
from envs.tasks import HELD_OUT, IID, OUT_OF_RANGE, TRAIN, VALIDATION, Boxes, Points, additive_recurrence, carve
from envs.velocity import VelocityTask, velocity_space

SPLITS = (TRAIN, VALIDATION, HELD_OUT, OUT_OF_RANGE, IID)
RANGES = st.tuples(st.floats(-5, 5), st.floats(0.1, 10)).map(lambda pair: (pair[0], pair[0] + pair[1]))
SPACES = st.one_of(RANGES.map(velocity_space), st.builds(goal_space))
SEEDS = st.integers(0, 2**32 - 1)


def coordinates(tasks):
    return np.stack([task.coordinates() for task in tasks])


# --------------------------------------------------------------------------------------------- properties
@given(space=SPACES, n=st.integers(1, 40), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_stratified_tasks_cover_the_split_evenly(space, n, seed):
    """In one dimension: one task in each of n parts of equal length, whatever gaps lie between the intervals."""
    tasks = space.stratified(n, np.random.default_rng(seed))
    assert len(tasks) == n
    assert all(space.contains(task) for task in tasks)
    region = space.region
    if region.low.shape[1] == 1:
        (x,) = coordinates(tasks).T
        lengths = np.concatenate([[0], np.cumsum(region.high - region.low)])
        box = np.searchsorted(region.low[:, 0], x, side="right") - 1
        place = (lengths[box] + x - region.low[box, 0]) / lengths[-1]
        assert sorted(np.floor(place * n - 1e-9).clip(0, n - 1).tolist()) == list(range(n))


@pytest.mark.parametrize("space", [velocity_space(), goal_space(), params().task_space], ids=["1-D", "2-D", "16-D"])
def test_each_stratified_task_alone_is_distributed_as_an_independent_one(space):
    """The first of n: its mean and spread in every coordinate are those of `sample`."""
    draws = [coordinates(space.stratified(4, np.random.default_rng(seed)))[0] for seed in range(3000)]
    independent = coordinates(space.sample(3000, np.random.default_rng(0)))
    error = independent.std(axis=0) / np.sqrt(3000)
    assert (np.abs(np.mean(draws, axis=0) - independent.mean(axis=0)) < 6 * error).all()
    np.testing.assert_allclose(np.std(draws, axis=0), independent.std(axis=0), rtol=0.06)


def test_stratified_draws_of_a_finite_set_are_balanced():
    directions = [task.direction for task in direction_space().stratified(10, np.random.default_rng(0))]
    assert sorted(directions) == [-1.0] * 5 + [1.0] * 5
    odd = [sum(t.direction for t in direction_space().stratified(3, np.random.default_rng(s))) for s in range(200)]
    assert set(odd) == {-1.0, 1.0}
    assert abs(np.mean(odd)) < 0.3


@given(space=SPACES, seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_no_test_task_is_within_the_gap_of_a_training_task(space, seed):
    rng = np.random.default_rng(seed)
    train = coordinates(space.sample(200, rng))
    for split in (VALIDATION, HELD_OUT, OUT_OF_RANGE):
        tests = coordinates(space.restrict(split).sample(200, rng))
        distances = np.abs(train[:, None] - tests).max(axis=-1)
        assert distances.min() >= space.gap * (1 - 1e-6)


@given(space=SPACES, seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_held_out_tasks_are_never_out_of_range(space, seed):
    rng = np.random.default_rng(seed)
    beyond = space.restrict(OUT_OF_RANGE).sample(200, rng)
    assert not any(space.restrict(IID).contains(task) for task in beyond)
    assert all(space.restrict(IID).contains(task) for task in space.restrict(HELD_OUT).sample(200, rng))


@given(space=SPACES, split=st.sampled_from(SPLITS), n=st.integers(1, 60), seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_samples_and_grids_have_n_tasks_inside_their_split(space, split, n, seed):
    space = space.restrict(split)
    for tasks in (space.grid(n), space.sample(n, np.random.default_rng(seed))):
        assert len(tasks) == n
        assert all(space.contains(task) for task in tasks)
        space.validate(tasks)


@given(space=SPACES, split=st.sampled_from(SPLITS), n=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_grids_are_deterministic_and_without_repetition(space, split, n):
    tasks = space.restrict(split).grid(n)
    assert tasks == space.restrict(split).grid(n)
    assert len(set(tasks)) == n


@given(corners=st.lists(st.tuples(st.floats(-1, 0.8), st.floats(-1, 0.8)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_what_is_carved_and_the_grown_holes_make_the_whole(corners):
    whole = Boxes(np.full((1, 2), -1.0), np.full((1, 2), 1.0))
    holes = Boxes(np.array(corners), np.array(corners) + 0.2)
    rest = carve(whole, holes, gap=0.05)
    points = whole.sample(300, np.random.default_rng(0))
    grown = Boxes(holes.low - 0.05, holes.high + 0.05)
    np.testing.assert_array_equal(rest.distance(points) == 0, grown.distance(points) > 0)


# ------------------------------------------------------------------------------------------------- values
def test_a_grid_in_one_dimension_is_the_midpoints_of_equal_lengths():
    boxes = Boxes(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]]))
    np.testing.assert_allclose(boxes.grid(4), [[0.25], [0.75], [2.25], [2.75]])


def test_a_grid_over_a_finite_set_goes_around():
    assert [task.direction for task in direction_space().grid(5)] == [1, -1, 1, -1, 1]


def test_the_additive_recurrence_uses_the_golden_and_the_plastic_ratio():
    np.testing.assert_allclose(additive_recurrence(1, 1), [[(0.5 + 0.6180339887498949) % 1]])
    np.testing.assert_allclose(additive_recurrence(1, 2), [[0.2548776662466927, 0.0698402909980532]])


def test_boxes_are_drawn_in_proportion_to_their_volume():
    boxes = Boxes(np.array([[0.0, 0.0], [5.0, 5.0]]), np.array([[1.0, 1.0], [7.0, 6.5]]))  # volumes 1 and 3
    points = boxes.sample(4000, np.random.default_rng(0))
    assert np.mean(points[:, 0] > 4) == pytest.approx(0.75, abs=0.03)


def test_velocity_splits_on_the_default_range():
    space = velocity_space()
    held_out = [(0.1875, 0.3125), (0.6875, 0.8125), (1.1875, 1.3125), (1.6875, 1.8125)]
    region = space.regions[HELD_OUT]
    np.testing.assert_allclose(np.hstack([region.low, region.high]), held_out)
    assert space.gap == pytest.approx(0.02)
    assert space.restrict(OUT_OF_RANGE).contains(VelocityTask(3.0))
    assert not space.restrict(OUT_OF_RANGE).contains(VelocityTask(2.01))
    assert space.contains(VelocityTask(0.0))
    assert not space.contains(VelocityTask(0.25))


def test_held_out_cells_do_not_touch_one_edge():
    region = goal_space().regions[HELD_OUT]
    centres = (region.low + region.high) / 2
    for one, other in itertools.combinations(centres, 2):
        assert (np.abs(one - other) > 0.2).all()


def test_labels_are_short_and_have_units():
    assert VelocityTask(1.7).label == "velocity = 1.70 m/s"
    assert GoalTask((0.25, -0.5)).label == "goal = (0.25, -0.50) m"
    assert DirectionTask(-1).label == "direction = backward"


def test_tasks_as_arrays_have_one_row_each():
    velocities = velocity_space().array([VelocityTask(0.5), VelocityTask(1.0)])
    goals = goal_space().array([GoalTask((0.1, 0.2)), GoalTask((0.3, 0.4)), GoalTask((0.0, 0.0))])
    np.testing.assert_array_equal(velocities["velocity"], [0.5, 1.0])
    np.testing.assert_array_equal(goals["goal"], [[0.1, 0.2], [0.3, 0.4], [0.0, 0.0]])


def test_tasks_are_plain_numbers_in_json():
    assert json.dumps(goal_space().to_dict(GoalTask(np.array([0.25, -0.5])))) == '{"goal": [0.25, -0.5]}'
    assert json.dumps(velocity_space().to_dict(VelocityTask(np.float64(1.5)))) == '{"velocity": 1.5}'


def test_sampling_takes_its_randomness_from_the_generator_alone():
    space = goal_space()
    assert space.sample(5, np.random.default_rng(3)) == space.sample(5, np.random.default_rng(3))
    assert space.sample(5, np.random.default_rng(3)) != space.sample(5, np.random.default_rng(4))


# ------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True, (1.0,), np.ones(1)])
def test_a_task_refuses_what_is_no_finite_number(value):
    with pytest.raises(TaskError, match=r"VelocityTask\.velocity = .*expected a finite number"):
        VelocityTask(value)


@pytest.mark.parametrize("value", [0.5, (0.1,), (0.1, 0.2, 0.3), (0.1, float("nan")), np.ones((1, 2))])
def test_a_task_refuses_a_vector_of_another_shape(value):
    with pytest.raises(TaskError, match=r"GoalTask\.goal = .*expected 2 finite numbers"):
        GoalTask(value)


def test_an_unknown_split_names_the_nearest():
    with pytest.raises(
        TaskError, match=r"'heldout'.*held-out, iid, out-of-range, train, validation\. Did you mean 'held-out'"
    ):
        velocity_space().restrict("heldout")


def test_an_absent_split_gives_the_reason():
    with pytest.raises(TaskError, match=r"'held-out': only two tasks exist: forward and backward.*train, iid"):
        direction_space().restrict(HELD_OUT)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "no tasks given"),
        ([VelocityTask(3.5)], r"the task \(velocity = 3\.50 m/s\) lies in no split.*\n.*train: \[0, 0\.1675\]"),
        ([VelocityTask(1.0), DirectionTask(1)], "is a DirectionTask, expected a VelocityTask"),
        (VelocityTask(1.0), "expected a sequence of tasks"),
    ],
)
def test_tasks_of_another_kind_or_range_are_refused(tasks, message):
    with pytest.raises(TaskError, match=message):
        velocity_space().validate(tasks)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"velocty": 1.0}, "unknown field of VelocityTask 'velocty'.*Did you mean 'velocity'"),
        ({}, "lacks velocity"),
        ({"velocity": "fast"}, "expected a finite number"),
        ({"velocity": [1.0]}, "expected a finite number"),
    ],
)
def test_malformed_json_is_refused(data, message):
    with pytest.raises(TaskError, match=message):
        velocity_space().from_dict(data)


@pytest.mark.parametrize("bad", [(2.0, 0.0), (1.0, 1.0), (1.0,), (0.0, float("nan")), (0.0, float("inf"))])
def test_a_malformed_velocity_range_is_refused(bad):
    with pytest.raises(FamilyError, match=r"velocity_range = .*low < high"):
        velocity_space(bad)


@pytest.mark.parametrize("n", [0, -3])
def test_no_tasks_cannot_be_asked_for(n):
    with pytest.raises(TaskError, match=f"n = {n}"):
        velocity_space().grid(n)


def test_malformed_regions_are_refused():
    with pytest.raises(TaskError, match="low < high"):
        Boxes(np.array([[1.0]]), np.array([[0.0]]))
    with pytest.raises(TaskError, match=r"\(P, D\)"):
        Points(np.array([1.0, 2.0]))


# ---------------------------------------------------------------------------------------- tasks from words
def test_a_task_is_read_from_its_fields():
    assert velocity_space().parse(["velocity=1.7"]) == VelocityTask(1.7)
    assert goal_space().parse(["goal=0.3,-0.2"]) == GoalTask((0.3, -0.2))


def test_a_direction_is_brought_to_length_1():
    assert all_directions().parse(["direction=-3,4"]).direction == pytest.approx((-0.6, 0.8), abs=1e-15)
    assert half_circle_space().parse(["goal=0.7,0.7"]).goal == pytest.approx((math.sqrt(0.5), math.sqrt(0.5)))


def test_multipliers_that_are_not_given_are_1_and_one_number_stands_for_all():
    task = params().task_space.parse(["mass=2", "damping=0.9,1.1,1"])
    assert (task.mass, task.damping) == ((2.0,) * 4, (0.9, 1.1, 1.0))
    assert set(task.inertia + task.friction) == {1.0}


@pytest.mark.parametrize(
    ("space", "texts", "message"),
    [
        (velocity_space(), ["velocty=1"], "unknown field of VelocityTask 'velocty'.*Did you mean 'velocity'"),
        (velocity_space(), ["velocity=9"], "9.00 m/s.* lies in no split"),
        (velocity_space(), ["velocity=fast"], "'velocity=fast' is not of the form NAME=NUMBER"),
        (velocity_space(), ["velocity"], "'velocity' is not of the form"),
        (velocity_space(), ["velocity=1", "velocity=2"], "given twice"),
        (velocity_space(), ["velocity=nan"], "expected a finite number"),
        (velocity_space(), [], "lacks velocity"),
        (goal_space(), ["goal=0.3"], "expected 2 finite numbers"),
        (half_circle_space(), ["goal=0,0"], "length 1"),
        (half_circle_space(), ["goal=0,-1"], "lies in no split"),
        (params().task_space, ["mass=0"], "must be above 0"),
    ],
)
def test_words_that_describe_no_task_get_the_fields_and_ranges(space, texts, message):
    with pytest.raises(TaskError, match=message) as error:
        space.parse(texts)
    text = str(error.value)
    assert text.count("The splits are") == 1
    assert space.describe() in text
    fields = {"velocity": "velocity=X [m/s]", "goal": "goal=X,X [m]", "mass": "mass=X,X,X,X [1.5^exponent], inertia="}
    assert fields[next(iter(space.units))] in text
