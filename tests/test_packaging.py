"""What the distribution says about itself agrees with the code."""

import tomllib
from pathlib import Path

import metarl

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_and_the_distribution_have_one_version():
    assert metarl.__version__ == PYPROJECT["project"]["version"]


def test_only_the_two_packages_are_distributed():
    assert PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"] == ["metarl*", "envs*"]
