"""What a family says of itself, and which parameters it takes."""

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  (registers the ids)
from envs.errors import ArgumentError, FamilyError
from envs.vector import RobotVectorEnv

IDS = sorted(name for name in gymnasium.registry if name.startswith("metarl/"))


def make(name, **options):
    return gymnasium.make_vec(f"metarl/{name}-v0", num_envs=1, **options)


@pytest.mark.parametrize("name", IDS)
def test_every_family_says_what_its_robot_has_to_do(name):
    aim = RobotVectorEnv(gymnasium.spec(name).kwargs["family"]).aim
    assert aim[:1].islower()
    assert not set("`[]_\n") & set(aim)
    assert not aim.endswith(".")


def test_the_aim_has_the_numbers_of_the_parameters():
    assert make("HalfCheetahVel").aim == "run at a hidden velocity from 0 to 2 m/s"
    assert make("HalfCheetahVel", velocity_range=[0.5, 3]).aim.endswith("from 0.5 to 3 m/s")
    assert make("ReacherGoal", radius=0.1).aim.endswith("in the disk of 0.1 m")
    assert make("PusherGoal").aim.endswith("of the rectangle 0.25 to 0.45 × -0.05 to 0.15 m")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("HalfCheetahVel", {"velocity_range": None}, r"velocity_range = None: expected a list, such as .*\(0.0, 2.0\)"),
        ("HalfCheetahVel", {"velocity_range": 3}, "velocity_range = 3: expected a list"),
        ("HalfCheetahVel", {"velocity_range": "ab"}, "velocity_range = 'ab': expected a list"),
        ("HalfCheetahVel", {"velocity_range": ["a", "b"]}, "expected a number at place 1"),
        ("HalfCheetahVel", {"velocity_range": [[0], [1]]}, r"velocity_range = \[\[0\], \[1\]\]: expected a number"),
        ("HalfCheetahVel", {"velocity_range": [0, float("inf")]}, "expected a finite number at place 2"),
        ("HalfCheetahVel", {"velocity_range": [0, 10**400]}, "expected a number at place 2"),
        ("HalfCheetahVel", {"velocity_range": [False, True]}, "expected a number at place 1"),
        ("HalfCheetahVel", {"velocity_range": [1, 2, 3]}, r"expected \(low, high\)"),
        ("PusherGoal", {"x_range": [[0.2, 0.3], [0.4, 0.5]]}, "x_range = .*expected a number"),
        ("AntDir", {"directions": 1_000_000_000}, "directions = 1000000000: .* at most 3600"),
        ("AntDir", {"directions": 2.0}, "directions = 2.0: expected an integer"),
        ("AntDir", {"directions": True}, "directions = True: expected an integer"),
        ("AntDir", {"survive": "1"}, "survive = '1': expected a number, such as the default 1.0"),
        ("AntGoal", {"radius": float("nan")}, "radius = nan: expected a finite number"),
        ("PointNavSparse", {"dense": "no"}, "dense = 'no': expected true or false"),
    ],
)
def test_a_value_that_the_signature_excludes_is_refused(name, options, message):
    with pytest.raises(FamilyError, match=message):
        make(name, **options)


@pytest.mark.parametrize("value", ["no", "off", "false", "true", 0, 1, 3, None, []])
@pytest.mark.parametrize("kind", [gymnasium.make, gymnasium.make_vec])
def test_only_true_and_false_say_whether_the_goal_is_visible(kind, value):
    with pytest.raises(ArgumentError, match=r"goal_visible = .*: expected true or false"):
        kind("metarl/PointNav-v0", goal_visible=value)


def test_a_long_value_is_cut():
    with pytest.raises(FamilyError) as caught:
        make("HalfCheetahVel", velocity_range=["x" * 100] * 1000)
    assert len(str(caught.value)) < 400


def test_numbers_of_numpy_are_numbers():
    env = make("HalfCheetahVel", velocity_range=np.array([0.0, 1.0]))
    assert env.aim.endswith("0 to 1 m/s")
    assert make("AntDir", survive=np.float32(0.5)).family.name == "AntDir"


def test_a_function_without_annotations_takes_anything(monkeypatch):
    def mine(size):
        return make("PointNav").family

    from envs import parameters

    parameters.check("mine", mine, {"size": object()})
    with pytest.raises(FamilyError, match="unknown parameter of the family mine 'siz'.*'size'"):
        parameters.check("mine", mine, {"siz": 1})


def test_a_family_that_is_a_value_has_no_parameters():
    family = make("PointNav").family
    assert RobotVectorEnv(family).aim == family.aim
    with pytest.raises(FamilyError, match="unknown parameter of the family PointNav 'radius': there is none"):
        RobotVectorEnv(family, radius=1.0)
