"""Where a robot comes from, and what is refused."""

from dataclasses import replace

import pytest

from envs import half_cheetah, point
from envs.errors import FamilyError
from envs.robots import Robot, UniformNormalNoise


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
