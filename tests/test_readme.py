"""What the READMEs show works as written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metarl import runs
from metarl.algorithms import Algorithm
from metarl.algorithms.reptile import Reptile
from metarl.builders import initial_params, policy_of_sizes
from metarl.config.settings import fields_of, kinds, names_of
from metarl.experiment import Experiment
from metarl.runs.directory import State

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ALGORITHMS = ROOT / "metarl" / "algorithms" / "README.md"


def block(containing: str, text: str = README) -> str:
    """The Python code of a README that contains a text."""
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if containing in code]
    return found


def run(*command: object, folder: Path) -> str:
    process = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_environments_alone(tmp_path):
    (tmp_path / "alone.py").write_text(block("num_envs=800"))
    run("alone.py", folder=tmp_path)


def test_an_algorithm_of_stable_baselines_trains_on_the_batch(tmp_path):
    (tmp_path / "learn.py").write_text(block("import TaskVecEnv"))
    run("-W", "error::UserWarning", "learn.py", folder=tmp_path)


def test_a_run_adapts_to_a_new_task(tmp_path):
    experiment = Experiment()
    params = initial_params(policy_of_sizes(experiment.policy, 17, 6), experiment)
    runs.create(tmp_path / "runs/NAME", experiment)
    runs.save(tmp_path / "runs/NAME", experiment, State(0, 0, params, algorithm_state={}, test_tasks=[]))
    (tmp_path / "adapt.py").write_text(
        block("metarl.load") + "assert env.action_space.contains(action)\nprint(adapted)\n"
    )
    assert "adaptation steps 2" in run("adapt.py", folder=tmp_path)


def test_a_family_of_ones_own_trains(tmp_path):
    (tmp_path / "cart.py").write_text(block("class PlaceTask"))
    small = ["--iterations", 2, "--sampling.tasks", 2, "--evaluation.tasks", 2, "--evaluation.videos", 1]
    own = ["--env.id", "cart:mine/Cart-v0", "--env.horizon", 10, "--tracking.mode", "disabled"]
    output = run(
        ROOT / "scripts/train.py",
        ROOT / "configs/point_nav/maml_trpo.yaml",
        *own,
        *small,
        "--run-dir",
        "run",
        folder=tmp_path,
    )
    assert "held-out tasks at iteration 2" in output
    assert list((tmp_path / "run" / "videos").glob("*.mp4"))


def test_an_algorithm_of_ones_own_trains(tmp_path):
    """One file and one union, in a copy of the package."""
    for package in ("metarl", "envs"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    algorithms = tmp_path / "metarl" / "algorithms"
    (algorithms / "maml_sign.py").write_text(block("class MAMLSign", ALGORITHMS.read_text(encoding="utf-8")))
    union = (algorithms / "__init__.py").read_text()
    changed = union.replace("Annotated[MAMLTRPO |", "Annotated[MAMLSign | MAMLTRPO |")
    assert changed != union
    (algorithms / "__init__.py").write_text(f"from metarl.algorithms.maml_sign import MAMLSign\n{changed}")
    (tmp_path / "own.yaml").write_text(
        "env: {id: 'envs:metarl/PointNav-v0', horizon: 10}\nsampling: {tasks: 2}\niterations: 2\n"
        "evaluation: {tasks: 2, videos: 0}\ntracking: {mode: disabled}\nalgorithm: maml_sign\n"
    )
    output = run(
        ROOT / "scripts/train.py", "own.yaml", "--algorithm.step_size", 0.01, "--run-dir", "run", folder=tmp_path
    )
    assert "held-out tasks at iteration 2" in output


@pytest.mark.parametrize("kind", [*kinds(Algorithm), *kinds(fields_of(Reptile)["inner"].annotation)])
def test_every_algorithm_and_inner_loop_has_a_row(kind):
    (name,) = names_of(kind)
    assert re.search(rf"^\| .*`{name}`.* \|$", ALGORITHMS.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^:)#]+)\)", ALGORITHMS.read_text(encoding="utf-8")))))
def test_linked_files_exist(link):
    assert (ALGORITHMS.parent / link).is_file()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:metarl|scripts|configs)/[\w/]+\.\w+)`", README))))
def test_files_that_are_named_exist(path):
    assert (ROOT / path).is_file()


def test_the_picture_exists():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file()
