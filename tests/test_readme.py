"""What the README shows works as written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(containing: str) -> str:
    """The Python code of the README that contains a text."""
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if containing in code]
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
    (tmp_path / "alone.py").write_text(block("gymnasium.make_vec"))
    run("alone.py", folder=tmp_path)


def test_a_family_of_ones_own_trains(tmp_path):
    (tmp_path / "cart.py").write_text(block("class PlaceTask"))
    small = ["--iterations", 2, "--sampling.tasks", 2, "--evaluation.tasks", 2, "--evaluation.videos", 1]
    own = ["--env.id", "cart:mine/Cart-v0", "--env.horizon", 10, "--tracking.mode", "disabled"]
    output = run(
        ROOT / "scripts/train.py", ROOT / "configs/point_nav.yaml", *own, *small, "--run-dir", "run", folder=tmp_path
    )
    assert "held-out tasks at iteration 2" in output
    assert list((tmp_path / "run" / "videos").glob("*.mp4"))


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:metarl|scripts|configs)/[\w/]+\.\w+)`", README))))
def test_files_that_are_named_exist(path):
    assert (ROOT / path).is_file()


def test_the_picture_exists():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).is_file()
