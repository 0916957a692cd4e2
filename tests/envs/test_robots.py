"""Where a robot comes from, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from envs import half_cheetah, point
from envs.errors import FamilyError
from envs.robots import Robot, UniformNoise, UniformNormalNoise, body_ids, command_range


def test_a_model_comes_from_gymnasium_a_file_or_a_text(tmp_path):
    camera = half_cheetah.robot().camera
    file = tmp_path / "mine.xml"
    file.write_text(point.MODEL)
    assert Robot("half_cheetah.xml", 5, camera).load().nu == 6
    assert Robot(file, 1, camera).load().nq == Robot(point.MODEL, 1, camera).load().nq == 2


def test_a_missing_model_is_refused(tmp_path):
    camera = half_cheetah.robot().camera
    with pytest.raises(FamilyError, match=r"'halfcheetah\.xml'.*Did you mean 'half_cheetah\.xml'.*pathlib"):
        Robot("halfcheetah.xml", 5, camera).load()
    with pytest.raises(FamilyError, match="does not exist"):
        Robot(tmp_path / "none.xml", 5, camera).load()


def test_malformed_robots_are_refused():
    with pytest.raises(FamilyError, match="frame_skip = 0"):
        replace(half_cheetah.robot(), frame_skip=0)
    with pytest.raises(FamilyError, match="scale -1"):
        UniformNormalNoise(-1)


def test_uniform_noise_draws_positions_first():
    positions, velocities = UniformNoise(0.1).draw(np.random.default_rng(0), 2, 3, 4)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(positions, rng.uniform(-0.1, 0.1, (2, 3)))
    np.testing.assert_array_equal(velocities, rng.uniform(-0.1, 0.1, (2, 4)))
    with pytest.raises(FamilyError, match="scale -1"):
        UniformNoise(-1)


def test_bodies_are_found_by_name():
    assert body_ids(half_cheetah.robot(), "torso", "bfoot") == (1, 4)
    with pytest.raises(FamilyError, match=r"unknown body 'trso'.*Did you mean 'torso'"):
        body_ids(half_cheetah.robot(), "trso")


def test_motors_without_limits_take_the_action_as_it_is():
    text = (
        '<mujoco><worldbody><body><joint name="j" type="hinge"/><geom size="1"/></body></worldbody><actuator>'
        '<motor joint="j"/><motor joint="j" ctrlrange="-1 3" ctrllimited="true"/></actuator></mujoco>'
    )
    robot = Robot(text, 1, half_cheetah.robot().camera)
    centre, half = command_range(robot, robot.load())
    np.testing.assert_array_equal(centre, [0, 1])
    np.testing.assert_array_equal(half, [1, 2])
