"""The vector environment: sharing tasks, resetting a part, ending, diverging, and what it refuses."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import envs  # noqa: F401  (registers the ids)
from envs import point
from envs.errors import ActionError, ArgumentError, FamilyError, NotResetError, TaskError
from envs.point import GoalTask
from envs.vector import RobotVectorEnv
from envs.velocity import VelocityTask


def cheetah(num_envs=4, **parameters):
    return gymnasium.make_vec("metarl/HalfCheetahVel-v0", num_envs=num_envs, **{"nthread": 1, **parameters})


def points(num_envs=4, **parameters):
    return gymnasium.make_vec("metarl/PointNav-v0", num_envs=num_envs, **{"nthread": 1, **parameters})


def random_actions(env, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, env.action_space.shape)


# -------------------------------------------------------------------------------------------------- tasks
def test_simulation_m_times_e_plus_e_gets_task_m():
    env = points(6)
    goals = [(0.1, 0.0), (0.2, 0.0), (0.3, 0.0)]
    env.set_tasks([GoalTask(goal) for goal in goals])
    env.reset(seed=0)
    _, rewards, *_ = env.step(np.zeros((6, 2)))
    np.testing.assert_allclose(rewards, [-0.1, -0.1, -0.2, -0.2, -0.3, -0.3])


def test_tasks_must_share_the_simulations_evenly():
    with pytest.raises(TaskError, match="3 tasks cannot share num_envs = 4"):
        cheetah(4).set_tasks([VelocityTask(1.0)] * 3)


def test_tasks_that_were_set_survive_resets():
    env = cheetah(4)
    env.set_tasks([VelocityTask(1.0), VelocityTask(0.5)])
    env.reset(seed=0)
    env.reset(seed=1)
    assert env.tasks == (VelocityTask(1.0), VelocityTask(0.5))


def test_drawn_tasks_change_with_the_reset_and_only_where_it_reset():
    env = cheetah(4)
    env.reset(seed=0)
    before = env.tasks
    env.reset(options={"reset_mask": np.array([True, False, False, True])})
    changed = [old != new for old, new in zip(before, env.tasks, strict=True)]
    assert changed == [True, False, False, True]


def test_drawing_tasks_does_not_disturb_the_start():
    drawn, given = cheetah(3), cheetah(3)
    given.set_tasks([VelocityTask(1.0)])
    np.testing.assert_array_equal(drawn.reset(seed=4)[0], given.reset(seed=4)[0])


def test_another_package_can_register_a_family_of_its_own():
    entries = {"entry_point": "envs.single:RobotEnv", "vector_entry_point": "envs.vector:RobotVectorEnv"}
    gymnasium.register(id="Elsewhere/Point-v0", kwargs={"family": point.navigation()}, **entries)
    try:
        env = gymnasium.make_vec("Elsewhere/Point-v0", num_envs=2, nthread=1)
        assert env.reset(seed=0)[0].shape == (2, 2)
        assert gymnasium.make("Elsewhere/Point-v0").reset(seed=0)[0].shape == (2,)
    finally:
        del gymnasium.registry["Elsewhere/Point-v0"]


def test_a_family_parameter_reaches_the_task_space():
    assert cheetah(1, velocity_range=(0.0, 3.0)).task_space.restrict("iid").contains(VelocityTask(2.9))


# ------------------------------------------------------------------------------------------------ oracles
def test_an_oracle_sees_goals_scaled_to_the_range():
    speeds = cheetah(3, goal_visible=True, velocity_range=(0.0, 3.0))
    speeds.set_tasks([VelocityTask(0.0), VelocityTask(1.5), VelocityTask(3.0)])
    np.testing.assert_allclose(speeds.reset(seed=0)[0][:, -1], [-1.0, 0.0, 1.0])
    goals = points(1, goal_visible=True)
    goals.set_tasks([GoalTask((0.5, -0.25))])
    np.testing.assert_allclose(goals.reset(seed=0)[0], [[0.0, 0.0, 1.0, -0.5]])
    np.testing.assert_allclose(goals.step(np.array([[1.0, 0.0]]))[0], [[0.1, 0.0, 1.0, -0.5]])


def test_a_family_may_refuse_an_oracle():
    family = replace(point.navigation(), no_oracle="the goal moves")
    with pytest.raises(ArgumentError, match="goal_visible makes no sense for PointNav: the goal moves"):
        RobotVectorEnv(family, goal_visible=True)
    RobotVectorEnv(family)


# -------------------------------------------------------------------------------------------------- reset
def test_a_masked_reset_leaves_the_other_simulations_alone():
    env, untouched = cheetah(4), cheetah(4)
    for each in (env, untouched):
        each.set_tasks([VelocityTask(1.0)])
        each.reset(seed=0)
        for t in range(5):
            each.step(random_actions(each, t))
    observations, _ = env.reset(seed=9, options={"reset_mask": np.array([False, True, False, False])})
    expected = cheetah(4)
    fresh, _ = expected.reset(seed=9)
    np.testing.assert_array_equal(observations[1], fresh[1])
    after, other = env.step(random_actions(env, 5))[0], untouched.step(random_actions(env, 5))[0]
    np.testing.assert_array_equal(after[[0, 2, 3]], other[[0, 2, 3]])
    assert not np.array_equal(after[1], other[1])


def test_generators_give_each_group_its_own_start():
    def start(num_envs, keys):
        env = cheetah(num_envs)
        env.set_tasks([VelocityTask(1.0)])
        generators = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
        return env.reset(options={"generators": generators})[0]

    together = start(6, [1, 2, 3])
    np.testing.assert_array_equal(together[2:4], start(2, [2]))
    np.testing.assert_array_equal(together[4:], start(4, [7, 3])[2:])


def test_a_mask_within_a_generators_group_spares_the_others():
    def restart(mask):
        env = cheetah(4)
        env.set_tasks([VelocityTask(1.0)])
        before, _ = env.reset(seed=0)
        generators = [np.random.default_rng(g) for g in range(2)]
        return before, env.reset(options={"generators": generators, "reset_mask": np.array(mask)})[0]

    before, after = restart([True, False, False, False])
    _, complete = restart([True] * 4)
    np.testing.assert_array_equal(after[0], complete[0])
    np.testing.assert_array_equal(after[1:], before[1:])


def test_one_generator_per_simulation_is_the_same_as_a_seed():
    env = cheetah(3)
    generators = [np.random.default_rng(5 + n) for n in range(3)]
    np.testing.assert_array_equal(env.reset(options={"generators": generators})[0], env.reset(seed=5)[0])


def test_an_unseeded_reset_goes_on_with_the_streams():
    env, again = cheetah(2), cheetah(2)
    first, _ = env.reset(seed=0)
    second, _ = env.reset()
    again.reset(seed=0)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, again.reset()[0])


# ------------------------------------------------------------------------------------------------ endings
def test_episodes_are_truncated_at_their_limit_and_stand_still_afterwards():
    env = cheetah(2, max_episode_steps=3)
    env.reset(seed=0)
    for t in range(3):
        observations, _, terminated, truncated, _ = env.step(random_actions(env, t))
        assert not terminated.any()
        assert truncated.tolist() == [t == 2] * 2
    frozen, rewards, _, truncated, info = env.step(random_actions(env, 3))
    np.testing.assert_array_equal(frozen, observations)
    np.testing.assert_array_equal(rewards, 0.0)
    np.testing.assert_array_equal(info["reward_control"], 0.0)
    assert truncated.all()


@pytest.mark.parametrize("make", [cheetah, points])
def test_only_the_ended_simulations_stand_still(make):
    env, endless = make(3, max_episode_steps=4), make(3, max_episode_steps=None)
    for each in (env, endless):
        each.set_tasks(each.task_space.grid(1))
        each.reset(seed=0)
    for t in range(2):
        env.step(random_actions(env, t))
        endless.step(random_actions(env, t))
    env.reset(options={"reset_mask": np.array([False, True, False])})
    for t in range(2, 4):
        ended = env.step(random_actions(env, t))[0]
        endless.step(random_actions(env, t))
    observations, rewards, _, truncated, _ = env.step(random_actions(env, 4))
    assert truncated.tolist() == [True, False, True]
    np.testing.assert_array_equal(observations[[0, 2]], ended[[0, 2]])
    np.testing.assert_array_equal(rewards[[0, 2]], 0.0)
    assert not np.array_equal(observations[1], ended[1])
    assert rewards[1] != 0


def test_commands_do_not_reach_a_kinematic_robot_that_stands_still():
    family = replace(point.navigation(), observe=lambda state: np.hstack([state.qpos, state.qvel]))
    env = RobotVectorEnv(family, num_envs=2, max_episode_steps=1, nthread=1)
    env.reset(seed=0)
    ended = env.step(np.ones((2, 2)))[0]
    env.reset(options={"reset_mask": np.array([False, True])})
    observations = env.step(-np.ones((2, 2)))[0]
    np.testing.assert_array_equal(observations[0], ended[0])
    np.testing.assert_array_equal(observations[1], -ended[1])


def test_without_a_limit_episodes_go_on():
    env = points(1, max_episode_steps=None)
    env.reset(seed=0)
    assert not any(env.step(np.zeros((1, 2)))[3].any() for _ in range(150))


def test_a_family_may_end_episodes():
    family = replace(point.navigation(), terminated=lambda state: state.qpos[..., 0] > 0.15)
    env = RobotVectorEnv(family, num_envs=2, nthread=1)
    env.reset(seed=0)
    env.step(np.array([[1.0, 0.0], [0.0, 0.0]]))
    _, rewards, terminated, truncated, _ = env.step(np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert terminated.tolist() == [True, False]
    assert not truncated.any()
    assert rewards[0] != 0
    assert env.step(np.zeros((2, 2)))[1][0] == 0


def test_a_diverged_simulation_ends_and_the_others_do_not_notice():
    env, healthy = cheetah(3), cheetah(3)
    for each in (env, healthy):
        each.set_tasks([VelocityTask(1.0)])
        each.reset(seed=0)
    env._qvel[1] = np.nan
    observations, rewards, terminated, truncated, info = env.step(random_actions(env))
    expected = healthy.step(random_actions(env))
    assert info["diverged"].tolist() == terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert rewards[1] == 0
    assert np.isfinite(observations).all()
    np.testing.assert_array_equal(observations[[0, 2]], expected[0][[0, 2]])
    np.testing.assert_array_equal(rewards[[0, 2]], expected[1][[0, 2]])
    assert env.step(random_actions(env))[2].tolist() == [False, True, False]
    env.reset(options={"reset_mask": terminated})
    assert not env.step(random_actions(env))[2].any()


# ------------------------------------------------------------------------------------------------ results
def test_results_are_not_overwritten_by_the_next_step():
    env = points(2)
    env.reset(seed=0)
    results = env.step(np.ones((2, 2)))
    kept = [np.copy(array) for array in results[:4]] + [np.copy(array) for array in results[4].values()]
    env.step(-np.ones((2, 2)))
    for array, copy in zip([*results[:4], *results[4].values()], kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_measurements_cannot_be_used_to_change_the_state():
    env = cheetah(2)
    env.reset(seed=0)
    info = env.step(random_actions(env))[4]
    with pytest.raises(ValueError, match="read-only"):
        info["x_position"][:] = 0


def test_a_field_that_measurements_ask_for_is_current():
    family = point.navigation()
    family = replace(
        family,
        robot=replace(family.robot, fields=("geom_xpos",)),
        measure=lambda before, after, dt: {"position": after.fields["geom_xpos"][..., -1, :2]},
    )
    env = RobotVectorEnv(family, num_envs=2, nthread=1)
    env.reset(seed=0)
    observations, *_, info = env.step(np.array([[1.0, 0.5], [-1.0, 0.0]]))
    np.testing.assert_allclose(info["position"], observations)


# ------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_envs": 0}, "num_envs = 0: expected an integer of at least 1"),
        ({"num_envs": 2.5}, r"num_envs = 2\.5"),
        ({"max_episode_steps": 0}, "max_episode_steps = 0"),
        ({"nthread": -1}, "nthread = -1"),
    ],
)
def test_bad_sizes_are_refused(parameters, message):
    with pytest.raises(ArgumentError, match=message):
        cheetah(**parameters)


def test_an_unknown_family_parameter_names_the_family_and_the_nearest():
    with pytest.raises(FamilyError, match=r"half_cheetah:velocity 'velocity_rang'.*Did you mean 'velocity_range'"):
        cheetah(velocity_rang=(0, 3))
    with pytest.raises(FamilyError, match="there is none"):
        points(radius=2.0)


def register(monkeypatch, family):
    monkeypatch.setitem(gymnasium.registry, "Mine-v0", EnvSpec("Mine-v0", kwargs={"family": family}))


@pytest.mark.parametrize("family", ["envs.half_cheetah", "envs.nowhere:velocity", "envs.half_cheetah:velocit"])
def test_a_registered_family_that_does_not_exist_is_refused(monkeypatch, family):
    register(monkeypatch, family)
    with pytest.raises(FamilyError, match=family):
        RobotVectorEnv(family)


def test_a_function_that_returns_no_family_is_refused(monkeypatch):
    register(monkeypatch, "envs.half_cheetah:robot")
    with pytest.raises(FamilyError, match="half_cheetah:robot: got a Robot"):
        RobotVectorEnv("envs.half_cheetah:robot")


def test_a_function_that_nobody_registered_is_not_called(tmp_path):
    with pytest.raises(FamilyError, match="unknown registered family 'subprocess:getoutput'.*gymnasium.register"):
        RobotVectorEnv("subprocess:getoutput", cmd=f"touch {tmp_path}/canary")
    assert not (tmp_path / "canary").exists()
    with pytest.raises(FamilyError, match="Did you mean 'envs.half_cheetah:velocity'"):
        RobotVectorEnv("envs.half_cheetah:velocit")


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((4, 5)), r"shape \(4, 5\), expected \(4, 6\)"),
        (np.zeros(6), r"shape \(6,\)"),
        (np.full((4, 6), np.nan), r"\[0, 1, 2, 3\] are not finite"),
    ],
)
def test_malformed_actions_are_refused(actions, message):
    env = cheetah(4)
    env.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(actions)


def test_nothing_runs_before_the_first_reset():
    with pytest.raises(NotResetError, match="before the first reset"):
        cheetah(2).step(np.zeros((2, 6)))
    with pytest.raises(NotResetError, match="first reset must start every simulation"):
        cheetah(2).reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_mask": np.ones(3, dtype=bool)}, r"shape \(3,\).*expected \(4,\)"),
        ({"reset_mask": np.ones(4)}, "float64.*bool"),
        ({"generators": [np.random.default_rng(0)] * 3}, "3 generators cannot share num_envs = 4"),
        ({"generators": []}, "0 generators"),
        ({"reset_masks": None}, "unknown reset option 'reset_masks'.*Did you mean 'reset_mask'"),
        ({"generators": [np.random.Generator(np.random.Philox(key=1))]}, "call set_tasks first"),
    ],
)
def test_malformed_reset_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        cheetah(4).reset(options=options)


def test_a_seed_and_generators_exclude_each_other():
    with pytest.raises(ArgumentError, match="seed = 1 and generators"):
        cheetah(1).reset(seed=1, options={"generators": [np.random.default_rng(0)]})


def test_one_type_catches_every_error():
    with pytest.raises(gymnasium.error.Error):
        cheetah(0)
    with pytest.raises(gymnasium.error.Error):
        VelocityTask(float("nan"))
