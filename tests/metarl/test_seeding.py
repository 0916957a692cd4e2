import pytest
from hypothesis import given
from hypothesis import strategies as st

from metarl import config
from metarl.errors import UserError
from metarl.experiment import Experiment
from metarl.few_shot.training import FewShot
from metarl.seeding import SEEDS, Purpose, stream, streams

coordinate = st.integers(0, 5)
address = st.tuples(st.integers(0, 2**40), st.sampled_from(Purpose), coordinate, coordinate, coordinate)


def draws(generator):
    return tuple(generator.integers(2**63, size=4))


@given(address, address)
def test_streams_are_equal_exactly_at_equal_addresses(a, b):
    assert draws(stream(*a)) == draws(stream(*a))
    assert (draws(stream(*a)) == draws(stream(*b))) == (a == b)


@pytest.mark.parametrize("coordinate", range(5))
def test_each_coordinate_of_the_address_matters(coordinate):
    here = [3, Purpose.TRAINING, 1, 1, 1]
    there = list(here)
    there[coordinate] = Purpose.EVALUATION if coordinate == 1 else here[coordinate] + 1
    assert draws(stream(*here)) != draws(stream(*there))


def test_coordinates_are_not_interchangeable():
    permuted = {draws(stream(5, Purpose.TRAINING, *p)) for p in [(1, 2, 0), (1, 0, 2), (2, 1, 0), (0, 1, 2), (0, 2, 1)]}
    assert len(permuted) == 5


def test_a_tasks_stream_does_not_depend_on_the_number_of_tasks():
    few, many = (streams(0, Purpose.TRAINING, 7, 1, n) for n in (3, 8))
    assert [draws(g) for g in few] == [draws(g) for g in many[:3]]


def test_using_one_stream_does_not_move_another():
    first, second = streams(0, Purpose.TRAINING, 0, 0, 2)
    first.standard_normal(1000)
    assert draws(second) == draws(stream(0, Purpose.TRAINING, task=1))


def test_purposes_keep_their_numbers():
    """They are part of what makes a run repeatable."""
    assert [(p.name, p.value) for p in Purpose][:6] == [
        ("INITIALIZATION", 0),
        ("TASKS", 1),
        ("TRAINING", 2),
        ("EVALUATION", 3),
        ("BOOTSTRAP", 4),
        ("VIDEO", 5),
    ]


@pytest.mark.parametrize("settings", [Experiment, FewShot])
def test_a_seed_that_no_file_could_hold_is_refused(settings):
    with pytest.raises(UserError, match="seed = 9+…: should be an integer of at most 64 bits"):
        config.from_dict({"seed": int("9" * 620)}, settings)
    assert config.from_dict({"seed": SEEDS - 1}, settings).seed == SEEDS - 1
