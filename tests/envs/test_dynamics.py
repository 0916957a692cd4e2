"""Hidden dynamics: exact multiples of the nominal robot, derived constants that follow, and splits that hold."""

import copy
from dataclasses import dataclass, replace

import gymnasium
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs  # noqa: F401  (registers the ids)
from envs import half_cheetah, hopper, walker2d
from envs.dynamics import DynamicsTask, Scaling, multiplier, multiplier_space
from envs.errors import FamilyError, TaskError
from envs.robots import Robot
from envs.tasks import HELD_OUT, IID, OUT_OF_RANGE, TRAIN, VALIDATION, Boxes, TaskSpace, latin_hypercube, quantity
from envs.vector import RobotVectorEnv

FAMILIES = {"cheetah": half_cheetah.params, "walker": walker2d.params, "hopper": hopper.params}
SEEDS = st.integers(0, 2**32 - 1)
by_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())


def robots(family, num_envs=3):
    return RobotVectorEnv(family(), num_envs=num_envs, nthread=1)


def numbers(model):
    """Every array of a model and of its options, copied."""
    arrays = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    options = {f"opt.{name}": getattr(model.opt, name) for name in dir(model.opt) if not name.startswith("_")}
    return {key: np.copy(value) for key, value in (arrays | options).items() if isinstance(value, np.ndarray)}


def assert_same_model(one, other):
    expected = numbers(other)
    for name, value in numbers(one).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def edited_by_hand(model, family, task):
    """A model of the task as one would write it without a vector environment."""
    model = copy.copy(model)
    if family is half_cheetah.params:
        model.body_mass[:] *= task.mass
        model.body_inertia[:] *= task.mass
        model.geom_friction[:] *= task.friction
        model.dof_damping[:] *= task.damping
        model.actuator_gear[:] *= task.gear
    else:
        model.body_mass[1:] *= task.mass
        model.body_inertia[1:] *= np.array(task.inertia)[:, None]
        model.geom_friction[:] *= np.array(task.friction)[:, None]
        model.dof_damping[3:] *= task.damping
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


# ------------------------------------------------------------------------------------------------ physics
@by_family
@given(seed=SEEDS, split=st.sampled_from([TRAIN, VALIDATION, HELD_OUT, OUT_OF_RANGE, IID]))
@settings(max_examples=5, deadline=None)
def test_each_simulation_is_the_robot_edited_by_hand(family, seed, split):
    env = robots(family)
    tasks = env.task_space.restrict(split).sample(3, np.random.default_rng(seed))
    env.set_tasks(tasks)
    for n, task in enumerate(tasks):
        assert_same_model(env.get_model(n), edited_by_hand(env.model, family, task))


@by_family
def test_each_simulation_moves_as_the_robot_edited_by_hand(family):
    env = robots(family, 4)
    tasks = env.task_space.sample(2, np.random.default_rng(1))
    env.set_tasks(tasks)
    env.reset(seed=0)
    model = edited_by_hand(env.model, family, tasks[1])
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = env.state_of(2).qpos, env.state_of(2).qvel
    mujoco.mj_forward(model, data)
    for actions in np.random.default_rng(0).uniform(-0.3, 0.3, (10, *env.action_space.shape)):
        env.step(actions)
        data.ctrl[:] = actions[2]
        mujoco.mj_step(model, data, env.family.robot.frame_skip)
        np.testing.assert_array_equal(env.state_of(2).qpos, data.qpos)
    mujoco.mj_forward(model, data)
    np.testing.assert_array_equal(env.get_data(2).qacc, data.qacc)


@by_family
@given(seed=SEEDS)
@settings(max_examples=5, deadline=None)
def test_unsetting_a_task_restores_the_model_bit_for_bit(family, seed):
    env = robots(family)
    original = env.family.robot.load()
    assert_same_model(env.model, original)
    tasks = env.task_space.restrict(IID).sample(3, np.random.default_rng(seed))
    env.set_tasks(tasks)
    env.set_tasks([task.nominal() for task in tasks])
    for n in range(3):
        assert_same_model(env.get_model(n), original)
    assert_same_model(env.model, original)


@by_family
def test_setting_a_task_twice_leaves_the_model_identical(family):
    env = robots(family)
    tasks = env.task_space.grid(3)
    env.set_tasks(tasks)
    once = [env.get_model(n) for n in range(3)]
    env.set_tasks(tasks)
    env.set_tasks(tasks[::-1])
    env.set_tasks(tasks)
    for n in range(3):
        assert_same_model(env.get_model(n), once[n])


def test_setting_tasks_leaves_the_state_alone():
    env = robots(hopper.params)
    env.reset(seed=0)
    before = env.state_of(1)
    env.set_tasks(env.task_space.grid(3))
    np.testing.assert_array_equal(env.get_data(1).qpos, before.qpos)
    np.testing.assert_array_equal(env.get_data(1).qvel, before.qvel)


def test_drawn_dynamics_change_only_where_the_reset_was():
    env = robots(hopper.params)
    env.reset(seed=0)
    before = [env.get_model(n) for n in range(3)]
    env.reset(options={"reset_mask": np.array([False, True, False])})
    assert_same_model(env.get_model(0), before[0])
    assert_same_model(env.get_model(2), before[2])
    assert (env.get_model(1).body_mass[1:] != before[1].body_mass[1:]).all()
    np.testing.assert_allclose(env.get_model(1).body_mass[1:] / env.model.body_mass[1:], env.tasks[1].mass)


def test_families_without_hidden_dynamics_share_one_model():
    env = gymnasium.make_vec("metarl/Walker2dVel-v0", num_envs=2, nthread=1)
    assert env.get_model(0) is env.get_model(1) is env.model


# ------------------------------------------------------------------------------------- goals and dynamics
@dataclass(frozen=True)
class LoadTask(DynamicsTask):
    """Walk at a velocity with a loaded torso, on a planet of another weight."""

    velocity: float = quantity("m/s")
    load: tuple[float, float] = multiplier(base=1.5, size=2)
    gravity: float = multiplier(base=2.0)


LOADED = replace(
    walker2d.velocity(),
    task_space=TaskSpace(LoadTask, {TRAIN: Boxes(np.array([[0.0, -1, -1, -1]]), np.array([[3.0, 1, 1, 1]]))}),
    markers=lambda state, time, task: [],
    dynamics=(
        Scaling("body_mass", by="load", of=("torso", "foot")),
        Scaling("body_inertia", by="load", of=("torso", "foot")),
        Scaling("body_mass", by="gravity"),
        Scaling("opt.gravity", by="gravity"),
        Scaling("opt.density", by="gravity"),
    ),
)


def test_a_task_may_hold_a_goal_and_dynamics():
    env = RobotVectorEnv(LOADED, num_envs=4, nthread=1)
    env.set_tasks([LoadTask(1.0, (1.5, 0.75), 2.0), LoadTask(2.0, (1.0, 1.0), 1.0)])
    env.reset(seed=0)
    _, rewards, *_, info = env.step(np.zeros((4, 6)))
    np.testing.assert_allclose(rewards, 5 - np.abs(info["x_velocity"] - [1, 1, 2, 2]))
    expected = env.model.body_mass * [1, 1.5, 1, 1, 0.75, 1, 1, 1] * 2
    np.testing.assert_allclose(env.get_model(1).body_mass, expected)
    np.testing.assert_allclose(env.get_model(1).opt.gravity, [0, 0, 2 * -9.81])
    np.testing.assert_array_equal(env.get_model(2).body_mass, env.model.body_mass)


def test_the_chart_is_exponents_for_multipliers_and_the_goal_itself():
    task = LoadTask(2.5, (1.5, 1 / 1.5), 4.0)
    np.testing.assert_allclose(task.coordinates(), [2.5, 1, -1, 2])
    assert LoadTask.from_coordinates(np.array([2.5, 0, 0, 0])) == LoadTask(2.5, (1, 1), 1) == task.nominal()
    assert task.label == "velocity = 2.50 m/s, load x 1.00, gravity x 4.00"


# ----------------------------------------------------------------------------------------- distributions
@by_family
@given(seed=SEEDS)
@settings(max_examples=5, deadline=None)
def test_multipliers_are_within_their_ranges_and_splits_apart(family, seed):
    space, rng = family().task_space, np.random.default_rng(seed)
    limit = np.abs(space.regions[IID].low).max()
    train = np.stack([task.coordinates() for task in space.sample(100, rng)])
    assert np.abs(train).max() <= limit
    for split in (VALIDATION, HELD_OUT, OUT_OF_RANGE):
        tests = np.stack([task.coordinates() for task in space.restrict(split).sample(100, rng)])
        assert np.abs(train[:, None] - tests).max(axis=-1).min() >= space.gap * (1 - 1e-6)
        assert np.abs(tests).max() <= limit * 5 / 4 + 1e-9
    assert not any(space.restrict(IID).contains(task) for task in space.restrict(OUT_OF_RANGE).grid(20))
    assert all(space.restrict(IID).contains(task) for task in space.restrict(HELD_OUT).grid(20))


@by_family
def test_coordinates_and_json_bring_the_task_back(family):
    space = family().task_space
    for task in space.sample(20, np.random.default_rng(0)):
        again = type(task).from_coordinates(task.coordinates())
        np.testing.assert_allclose(again.coordinates(), task.coordinates(), atol=1e-12)
        assert space.from_dict(space.to_dict(task)) == task


def test_the_ranges_are_those_of_the_literature():
    tasks = hopper.params().task_space.restrict(IID).sample(4000, np.random.default_rng(0))
    values = {name: np.array([getattr(task, name) for task in tasks]) for name in ("mass", "friction", "damping")}
    for name, base in {"mass": 1.5, "friction": 1.5, "damping": 1.3}.items():
        exponents = np.log(values[name]) / np.log(base)
        assert exponents.min() == pytest.approx(-3, abs=0.01)
        assert exponents.max() == pytest.approx(3, abs=0.01)
        assert np.abs(exponents.mean(axis=0)).max() < 0.1


@by_family
def test_the_nominal_robot_is_a_training_task(family):
    space = family().task_space
    assert space.contains(space.grid(1)[0].nominal())


def test_a_latin_hypercube_has_one_point_in_each_layer():
    points = latin_hypercube(10, 5)
    np.testing.assert_allclose(np.sort(points, axis=0), np.tile((np.arange(10)[:, None] + 0.5) / 10, (1, 5)))
    assert np.abs(np.corrcoef(latin_hypercube(100, 28).T) - np.eye(28)).max() < 0.5


def test_long_boxes_are_described_in_short():
    text = hopper.params().task_space.describe()
    assert "iid: [-3, 3]^16" in text
    assert "exponents" in text
    assert max(map(len, text.splitlines())) < 300


# ------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        (("body_mass", "load", ("torsoo", "foot")), r"body_mass: unknown body 'torsoo': .*Did you mean 'torso'"),
        (("dof_damping", "load", ("thigh_joint", "knee")), r"unknown joint 'knee': known are foot_joint"),
        (("body_mass", "laod"), r"unknown LoadTask field 'laod'.*gravity, load, velocity\. Did you mean 'load'"),
        (("body_mass", "load"), r"LoadTask\.load has 2 numbers for 8 elements"),
        (("actuator_gear", "gravity", ("thigh",)), r"unknown actuator 'thigh': there is none"),
    ],
)
def test_scalings_that_do_not_fit_are_refused(scaling, message):
    with pytest.raises(FamilyError, match=message):
        RobotVectorEnv(replace(LOADED, dynamics=(Scaling(*scaling),)))


def test_an_unknown_model_field_names_those_that_can_be_scaled():
    with pytest.raises(FamilyError, match=r"'body_masses': known are .*dof_damping.*Did you mean 'body_mass'"):
        Scaling("body_masses", by="load")


def test_a_model_that_lacks_a_body_is_refused(tmp_path):
    file = tmp_path / "legless.xml"
    geom = '<geom size="0.1"/>'
    file.write_text(f'<mujoco><worldbody><body name="torso"><freejoint/>{geom}</body></worldbody></mujoco>')
    family = hopper.params()
    robot = Robot(file, frame_skip=1, camera=family.robot.camera)
    with pytest.raises(FamilyError, match=r"body_mass: unknown body 'thigh': known are torso, world"):
        RobotVectorEnv(replace(family, robot=robot))


def test_malformed_multipliers_are_refused():
    with pytest.raises(TaskError, match=r"LoadTask\.load = \(1\.0, 0\.0\): multipliers must be above 0"):
        LoadTask(1.0, (1.0, 0.0), 1.0)
    with pytest.raises(TaskError, match=r"LoadTask\.load .*expected 2 finite numbers"):
        LoadTask(1.0, (1.0,), 1.0)
    with pytest.raises(FamilyError, match="base 1"):
        multiplier(base=1)
    with pytest.raises(FamilyError, match="unknown field of ParamsTask 'gears'.*Did you mean 'gear'"):
        multiplier_space(half_cheetah.ParamsTask, plane=("mass", "gears"))
    with pytest.raises(FamilyError, match="limit = 0"):
        multiplier_space(half_cheetah.ParamsTask, plane=("mass", "gear"), limit=0)


def test_a_task_beyond_every_split_is_refused():
    with pytest.raises(TaskError, match=r"mass x 9\.00.*lies in no split.*\n.*exponents"):
        robots(half_cheetah.params).set_tasks([half_cheetah.ParamsTask(9.0, 1.0, 1.0, 1.0)])
