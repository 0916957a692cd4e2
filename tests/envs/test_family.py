"""What a family says of itself."""

import gymnasium
import pytest

import envs  # noqa: F401  (registers the ids)
from envs.family import in_words, resolve

IDS = sorted(name for name in gymnasium.registry if name.startswith("metarl/"))


@pytest.mark.parametrize("name", IDS)
def test_every_family_says_what_its_robot_has_to_do(name):
    words = in_words(gymnasium.spec(name).kwargs["family"], {"goal_visible": True})
    assert words[:1].islower()
    assert not set("`[]_\n") & set(words)
    assert not words.endswith(".")


def test_a_family_is_told_with_the_numbers_of_its_parameters():
    assert in_words("envs.half_cheetah:velocity", {}) == "run at a hidden velocity from 0 to 2 m/s"
    assert in_words("envs.half_cheetah:velocity", {"velocity_range": [0.5, 3]}).endswith("from 0.5 to 3 m/s")
    assert in_words("envs.reacher:goal", {"radius": 0.1}).endswith("in the disk of 0.1 m")


def test_a_family_that_does_not_say_is_told_by_nothing():
    assert in_words(resolve("envs.point:navigation", {}), {}) == ""
    assert in_words("envs.half_cheetah:robot", {}) == ""
    assert in_words("builtins:print", {}) == ""
