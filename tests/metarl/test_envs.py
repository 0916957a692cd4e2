"""The suite's environments in a project whose own package is called `envs`, and beside that name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALLED = "import sys; sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
"""As from a wheel: the finder of an editable installation finds our modules below another package."""


@pytest.fixture
def project(tmp_path):
    """A folder with a package `envs` that is not the suite's."""
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("mine = 1\n")
    return tmp_path


def python(code: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", INSTALLED + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )


def test_both_packages_work_side_by_side(project):
    code = """
import gymnasium, pickle, envs
from metarl.envs.velocity import VelocityTask
assert envs.mine == 1
vector = gymnasium.make_vec("metarl.envs:metarl/HalfCheetahVel-v0", num_envs=2)
vector.set_tasks([pickle.loads(pickle.dumps(VelocityTask(1.0)))])
single = gymnasium.make("metarl.envs:metarl/HalfCheetahVel-v0")
single.unwrapped.set_task({"velocity": 1.0})
assert (vector.reset(seed=0)[0][0] == single.reset(seed=0)[0]).all()
"""
    process = python(code, project)
    assert process.returncode == 0, process.stderr


def test_settings_name_the_suites_families_as_ever(project):
    code = """
from metarl.experiment.builders import make_vector_env
from metarl.experiment import Environment
from metarl.sampling.registry import full_id
import envs
assert full_id("PointNav") == "envs:metarl/PointNav-v0"
for id in ("envs:metarl/PointNav-v0", "metarl.envs:metarl/PointNav-v0"):
    assert make_vector_env(Environment(id=id, horizon=5), 2, threads=1).reset(seed=0)[0].shape == (2, 2)
assert envs.mine == 1
"""
    process = python(code, project)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("command", ["['tasks', 'cart:mine/Cart-v0']", "['benchmark', 'envs']"])
def test_what_needs_the_name_says_which_package_hides_the_suites(project, command):
    (project / "cart.py").write_text("from envs.family import Family\n")
    process = python(f"from metarl.commands import main\nmain({command})", project)
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert "No module named 'envs.family'" in line
    assert f"that Python finds is {project / 'envs' / '__init__.py'}, and hides this suite's" in line
    assert "from metarl.envs.family import Family" in line


def test_whichever_name_is_imported_first_counts(tmp_path):
    code = """
import gymnasium, metarl.envs, envs
assert gymnasium.spec("metarl/PointNav-v0").entry_point == "metarl.envs.single:RobotEnv"
gymnasium.make("metarl/PointNav-v0").reset(seed=0)
"""
    process = python(code, tmp_path)
    assert process.returncode == 0, process.stderr
