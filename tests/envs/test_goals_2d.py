"""Directions and goals in the plane: arcs around ±π, charts, gaps, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.errors import FamilyError, TaskError
from envs.goals_2d import (
    DirectionTask,
    DiskGoalTask,
    angle_of,
    arcs,
    chord_angle,
    direction_space,
    disk_space,
)
from envs.point import CircleGoalTask, half_circle_space
from envs.tasks import HELD_OUT, IID, OUT_OF_RANGE, TRAIN, VALIDATION


def at(degrees):
    return DirectionTask((math.cos(math.radians(degrees)), math.sin(math.radians(degrees))))


# --------------------------------------------------------------------------------------------------- arcs
@given(low=st.floats(-20, 20), width=st.floats(0.01, 6.2), inside=st.floats(0.01, 0.99), outside=st.floats(0.01, 0.99))
@settings(deadline=None)
def test_an_arc_contains_its_angles_in_every_turn(low, width, inside, outside):
    arc = arcs(np.array([low]), np.array([low + width]))

    def contains(angle):
        return arc.distance(np.array([[angle_of((math.cos(angle), math.sin(angle)))]]))[0] < 1e-9

    assert contains(low + inside * width)
    assert not contains(low + width + outside * (math.tau - width))
    assert (arc.high - arc.low).sum() == pytest.approx(width)


def test_an_arc_across_the_cut_becomes_two():
    arc = arcs(np.array([math.pi - 0.1]), np.array([math.pi + 0.2]))
    np.testing.assert_allclose(np.hstack([arc.low, arc.high]), [[math.pi - 0.1, math.pi], [-math.pi, -math.pi + 0.2]])


@pytest.mark.parametrize("vector", [(-1.0, 0.0), (-1.0, -0.0)])
def test_backward_has_one_angle(vector):
    assert angle_of(vector) == math.pi
    assert half_circle_space().restrict(IID).contains(CircleGoalTask(vector))
    assert direction_space(2).contains(DirectionTask(vector))


# --------------------------------------------------------------------------------------------- directions
def test_held_out_directions_by_hand():
    held_out, train = direction_space().restrict(HELD_OUT), direction_space().restrict(TRAIN)
    for degrees in (30, 135, -75, 180, 179, -179, -170, 170):
        assert held_out.contains(at(degrees))
        assert not train.contains(at(degrees))
    for degrees in (0, 90, -90, 165, -165, 45, 60):
        assert train.contains(at(degrees))
        assert not held_out.contains(at(degrees))
    assert not train.contains(at(168))
    assert not held_out.contains(at(168))  # in the gap


def test_the_held_out_directions_are_a_quarter_of_the_circle():
    region = direction_space().regions[HELD_OUT]
    assert (region.high - region.low).sum() == pytest.approx(math.tau / 4)


def test_a_chord_and_its_angle():
    angle = chord_angle(0.05)
    assert math.hypot(1 - math.cos(angle), math.sin(angle)) == pytest.approx(0.05)


def test_two_directions_are_forward_and_backward_and_have_no_other_split():
    space = direction_space(2)
    np.testing.assert_allclose(space.array(space.grid(2))["direction"], [[1, 0], [-1, 0]], atol=1e-15)
    for split in (VALIDATION, HELD_OUT, OUT_OF_RANGE):
        with pytest.raises(TaskError, match="only 2 directions exist"):
            space.restrict(split)
    with pytest.raises(TaskError, match="lies in no split"):
        space.validate([at(10)])


def test_all_directions_have_nothing_out_of_range():
    with pytest.raises(TaskError, match="the whole circle"):
        direction_space().restrict(OUT_OF_RANGE)


@pytest.mark.parametrize("n", [0, 1, 2.0])
def test_a_number_of_directions_that_makes_no_sense_is_refused(n):
    with pytest.raises(FamilyError, match=f"directions = {n}"):
        direction_space(n)


@pytest.mark.parametrize("task", [DirectionTask, CircleGoalTask])
def test_a_vector_off_the_unit_circle_is_no_task(task):
    with pytest.raises(TaskError, match="length 1, got length 2"):
        task((2.0, 0.0))


def test_labels_are_short():
    assert at(-90).label == "direction = -90 deg"
    assert DiskGoalTask((1.0, -2.0)).label == "goal = (1.00, -2.00) m"


# --------------------------------------------------------------------------------------------------- disks
@given(radius=st.floats(0.01, 100), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_no_test_goal_of_any_disk_is_within_the_gap_of_a_training_goal(radius, seed):
    space, rng = disk_space(radius, reach=1.5 * radius), np.random.default_rng(seed)
    train = space.array(space.sample(400, rng))["goal"]
    for split in (VALIDATION, HELD_OUT, OUT_OF_RANGE):
        tests = space.array(space.restrict(split).sample(400, rng))["goal"]
        assert np.linalg.norm(train[:, None] - tests, axis=-1).min() >= space.gap * (1 - 1e-6)


def test_the_gap_of_a_disk_is_reached_at_a_sectors_corners():
    space = disk_space(3.0, reach=4.0)
    held_out, train = space.restrict(HELD_OUT), space.restrict(TRAIN)
    half = math.tau / 32
    middle = math.radians(30)
    corner = np.array([math.cos(middle - half), math.sin(middle - half)])  # at 1 m, where the sector begins
    assert held_out.contains(DiskGoalTask(corner * (1 + 1e-6)))
    assert train.contains(DiskGoalTask(corner * 0.924))
    assert not train.contains(DiskGoalTask(corner * 0.926))


def test_goals_are_uniform_in_the_disk():
    goals = disk_space(3.0).restrict(IID)
    points = goals.array(goals.sample(20_000, np.random.default_rng(0)))["goal"]
    radii = np.linalg.norm(points, axis=1)
    assert radii.max() <= 3.0 + 1e-9
    assert np.mean(radii < 1.5) == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(points.mean(axis=0), 0.0, atol=0.05)


def test_a_disk_without_a_ring_says_why():
    with pytest.raises(TaskError, match="too far"):
        disk_space(1.0, no_ring="too far").restrict(OUT_OF_RANGE)


@pytest.mark.parametrize("radius", [0.0, -1.0, math.inf, math.nan])
def test_a_disk_needs_a_radius(radius):
    with pytest.raises(FamilyError, match="radius ="):
        disk_space(radius)


def test_a_disk_is_described_in_its_own_coordinates():
    assert disk_space(3.0).restrict(IID).describe().splitlines()[-2].endswith("(r² [m²], angle [rad])")


# -------------------------------------------------------------------------------------------- the half circle
def test_goals_behind_the_half_circles_ends_are_out_of_range():
    space = half_circle_space()
    for degrees, splits in {
        100: {TRAIN, IID},
        90: {VALIDATION, IID},
        22.5: {HELD_OUT, IID},
        -10: {OUT_OF_RANGE},
        -170: {OUT_OF_RANGE},
        -90: set(),
        -1: set(),
    }.items():
        goal = CircleGoalTask(at(degrees).direction)
        assert {split for split in space.regions if space.restrict(split).contains(goal)} == splits


# ------------------------------------------------------------------------------------------- what oracles see
def test_normalised_tasks_by_hand():
    space = disk_space(3.0, reach=4.0)
    tasks = space.array([DiskGoalTask((3.0, 0.0)), DiskGoalTask((0.0, -1.5))])
    np.testing.assert_allclose(space.normalised(tasks), [[1.0, 0.0], [0.0, -0.5]])
    directions = direction_space()
    np.testing.assert_allclose(directions.normalised(directions.array([at(-90)])), [[0.0, -1.0]], atol=1e-15)
