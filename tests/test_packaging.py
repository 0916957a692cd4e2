"""What the distribution says about itself agrees with the code."""

import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

import metarl

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_and_the_distribution_have_one_version():
    assert metarl.__version__ == PYPROJECT["project"]["version"]


def test_the_two_packages_and_the_configs_are_distributed():
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("*/**/__init__.py")}
    own = {name for name in found if name.split(".")[0] in ("metarl", "envs")}
    assert {*PYPROJECT["tool"]["setuptools"]["packages"]} == own | {"metarl.configs"}
    assert PYPROJECT["tool"]["setuptools"]["package-dir"] == {"metarl.configs": "configs"}


def test_the_citation_agrees_with_the_distribution():
    citation, project = yaml.safe_load((ROOT / "CITATION.cff").read_text()), PYPROJECT["project"]
    assert citation["cff-version"] == "1.2.0"
    assert (citation["title"], str(citation["version"])) == (project["name"], project["version"])
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]


def test_the_constraints_lie_within_what_users_may_have():
    """What this checkout is tested with is a version that pyproject.toml allows."""
    requirements = {
        requirement.name: requirement for requirement in map(Requirement, PYPROJECT["project"]["dependencies"])
    }
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert pins
    for pin in pins:
        (version,) = [spec.version for spec in pin.specifier if spec.operator == "=="]
        assert version in requirements[pin.name].specifier
