"""Limbs of other lengths and radii: what is scaled, what stays as it was, and what follows."""

from dataclasses import dataclass, replace

import mujoco
import numpy as np
import pytest

from envs import ant, half_cheetah, hopper
from envs.dynamics import DynamicsTask, Scaling, multiplier
from envs.errors import FamilyError
from envs.robots import Camera, Robot
from envs.tasks import TRAIN, Boxes, TaskSpace
from envs.vector import RobotVectorEnv

BODIES = ("thigh", "leg", "foot")


@dataclass(frozen=True)
class Stretched(DynamicsTask):
    length: tuple[float, ...] = multiplier(base=2.0, size=3)
    radius: float = multiplier(base=2.0)
    gravity: float = multiplier(base=2.0)
    mass: float = multiplier(base=2.0)


SPACE = TaskSpace(Stretched, {TRAIN: Boxes(np.full((1, 6), -2.0), np.full((1, 6), 2.0))})
HOPPER = replace(
    hopper.params(),
    task_space=SPACE,
    dynamics=(
        Scaling("limb_length", by="length", of=BODIES),
        Scaling("limb_radius", by="radius", of=BODIES),
        Scaling("body_mass", by="mass"),
        Scaling("body_inertia", by="mass"),
        Scaling("opt.gravity", by="gravity"),
    ),
)
TASK = Stretched((1.5, 0.75, 1.25), 1.2, 2.0, 3.0)


def model_of(family, *tasks, n=0):
    env = RobotVectorEnv(family, num_envs=len(tasks), nthread=1)
    env.set_tasks(tasks)
    return env.get_model(n)


def at_start(model):
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data


def lowest(model):
    """Of all capsules and spheres, by their ends."""
    data, heights = at_start(model), []
    for geom in range(model.ngeom):
        if model.geom_type[geom] in (int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_SPHERE)):
            radius, half = model.geom_size[geom, :2]
            axis = data.geom_xmat[geom].reshape(3, 3)[:, 2] * half
            heights += [(data.geom_xpos[geom] + sign * axis)[2] - radius for sign in (-1, 1)]
    return min(heights)


def test_a_hopper_edited_by_hand():
    """The joint of the leg lies 0.25 m above its middle, and that of the foot at the leg's end."""
    spec = HOPPER.robot.specification()
    for name, own in zip(BODIES, TASK.length, strict=True):
        (geom,) = spec.body(name).geoms
        geom.pos = own * geom.pos
        geom.size[:2] *= [TASK.radius, own]
    thigh, leg, foot = TASK.length
    spec.body("leg").pos = [0, 0, -0.45 * thigh - 0.25 * leg]
    spec.body("leg").joints[0].pos = [0, 0, 0.25 * leg]
    spec.body("foot").pos = [0.13 * foot, 0, -0.25 * leg - 0.1 * foot]
    spec.body("foot").joints[0].pos = [-0.13 * foot, 0, 0.1 * foot]
    expected = spec.compile()
    plain = replace(HOPPER, dynamics=HOPPER.dynamics[:2])
    model = model_of(plain, TASK)
    for name in ("body_mass", "body_inertia", "geom_size", "geom_pos", "jnt_pos", "body_ipos"):
        np.testing.assert_allclose(getattr(model, name), getattr(expected, name), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(model.body_pos[2:], expected.body_pos[2:], rtol=1e-12, atol=1e-12)


def test_joints_stay_where_the_parent_ends():
    nominal, model = HOPPER.robot.load(), model_of(HOPPER, TASK)
    anchors = [at_start(each).xanchor[3:] for each in (nominal, model)]  # of thigh, leg and foot
    distances = [np.linalg.norm(np.diff(each, axis=0), axis=1) for each in anchors]
    np.testing.assert_allclose(distances[1], distances[0] * TASK.length[:2], rtol=1e-12)


@pytest.mark.parametrize("family", [HOPPER, half_cheetah.limbs()], ids=["hopper", "cheetah"])
def test_the_robot_starts_as_high_above_the_ground_and_observes_the_same(family):
    tasks = family.task_space.sample(4, np.random.default_rng(0))
    env = RobotVectorEnv(family, num_envs=4, nthread=1)
    env.set_tasks(tasks)
    for n in range(4):
        assert lowest(env.get_model(n)) == pytest.approx(lowest(env.model), abs=1e-9)
    generators = [np.random.default_rng(0) for _ in tasks]
    observations, _ = env.reset(options={"generators": generators})
    np.testing.assert_array_equal(observations, observations[[0] * 4])


def test_a_robot_on_a_free_joint_starts_higher():
    task_type = half_cheetah.ParamsTask
    family = replace(
        ant.goal(),
        task_space=TaskSpace(task_type, {TRAIN: Boxes(np.full((1, 4), -1.0), np.full((1, 4), 1.0))}),
        dynamics=(Scaling("limb_radius", by="mass", of=("torso",)), Scaling("limb_length", by="gear", of=("torso",))),
    )
    model = model_of(family, task_type(2.0, 1.0, 1.0, 1.0))
    assert lowest(model) == pytest.approx(lowest(ant.robot().load()), abs=1e-9)
    assert at_start(model).body("torso").xpos[2] > at_start(ant.robot().load()).body("torso").xpos[2]


def test_other_scalings_follow_the_limbs():
    model, limbs = model_of(HOPPER, TASK), model_of(HOPPER, replace(TASK, gravity=1.0, mass=1.0))
    np.testing.assert_allclose(model.body_mass, 3 * limbs.body_mass)
    np.testing.assert_allclose(model.body_subtreemass, 3 * limbs.body_subtreemass)
    np.testing.assert_allclose(model.opt.gravity, [0, 0, -2 * 9.81])
    np.testing.assert_array_equal(model.body_pos, limbs.body_pos)


def test_a_cheetah_has_its_total_mass_whatever_its_limbs():
    family = half_cheetah.limbs()
    (task,) = family.task_space.sample(1, np.random.default_rng(0))
    model = model_of(family, task)
    assert model.body_mass.sum() == pytest.approx(14)
    assert not np.allclose(model.body_mass, family.robot.load().body_mass)


def test_the_nominal_robot_is_what_it_was_bit_for_bit():
    family = half_cheetah.limbs()
    (task,) = family.task_space.sample(1, np.random.default_rng(0))
    env = RobotVectorEnv(family, num_envs=1, nthread=1)
    env.set_tasks([task])
    env.set_tasks([task.nominal()])
    model, original = env.get_model(0), family.robot.load()
    for name in dir(original):
        if isinstance(value := getattr(original, name), np.ndarray):
            np.testing.assert_array_equal(getattr(model, name), value, err_msg=name)


def test_each_simulation_moves_as_its_own_model():
    env = RobotVectorEnv(HOPPER, num_envs=4, nthread=2)
    env.set_tasks([TASK.nominal(), TASK])
    env.reset(seed=0)
    expected = []
    for n in range(4):
        model = env.get_model(n)
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:], data.ctrl[:] = env.state_of(n).qpos, env.state_of(n).qvel, 0.3
        mujoco.mj_step(model, data, env.family.robot.frame_skip)
        expected.append(data.qpos.copy())
    env.step(np.full((4, 3), 0.3))
    np.testing.assert_array_equal(env.state_of(slice(None)).qpos, expected)


def test_setting_tasks_leaves_the_state_alone():
    env = RobotVectorEnv(HOPPER, num_envs=2, nthread=1)
    env.reset(seed=0)
    before = env.state_of(1)
    env.set_tasks([TASK])
    np.testing.assert_array_equal(env.get_data(1).qpos, before.qpos)
    np.testing.assert_array_equal(env.get_data(1).qvel, before.qvel)


def test_limbs_that_have_no_length_are_refused():
    text = """<mujoco><worldbody><body name="torso"><freejoint/><geom type="box" size="1 1 1"/></body></worldbody>
    </mujoco>"""
    robot = Robot(text, frame_skip=1, camera=Camera(distance=1))
    scaling = Scaling("limb_length", by="gravity", of=("torso",))
    family = replace(HOPPER, robot=robot, dynamics=(scaling,))
    with pytest.raises(FamilyError, match="body 'torso' has a geom of type mjGEOM_BOX: only capsules"):
        RobotVectorEnv(family)
    with pytest.raises(FamilyError, match="limb_length: unknown body 'shin': known are foot, leg"):
        RobotVectorEnv(replace(HOPPER, dynamics=(Scaling("limb_length", by="gravity", of=("shin",)),)))
