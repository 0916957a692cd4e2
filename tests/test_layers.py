"""Imports only point down."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = [
    "errors",
    "system",
    "types",
    "seeding",
    "parameters",
    "statistics",
    "figures",
    "config",
    "envs",
    "policy_gradient",
    "sampling",
    "sb3",
    "inner",
    "algorithms",
    "experiment",
    "few_shot",
    "runs",
    "training",
    "meta_policy",
    "results",
    "jobs",
    "baselines",
    "commands",
    "__main__",
]
"""The files and folders of metarl, from the bottom up: each imports only from those before it."""

FORBIDDEN = {
    "envs": {"torch", "metarl", "scripts", "stable_baselines3", "wandb"},
    "metarl": {"envs", "mujoco", "scripts"},
    "scripts": {"scripts"},
}
"""What the files of a folder may not import."""

MEET = ROOT / "metarl" / "commands"
"""The one folder of metarl that may import environments: those who list, draw and film them."""


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path, inside_functions: bool = True) -> Iterator[str]:
    """The dotted names that a file imports."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    module = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(module) if inside_functions else module.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def module_of(path: Path) -> str:
    """The module below metarl that a file belongs to; empty for the package itself."""
    name = path.relative_to(ROOT / "metarl").parts[0].removesuffix(".py")
    return "" if name == "__init__" else name


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_no_folder_imports_what_it_should_not_know(folder):
    checked = [path for path in sources(folder) if not path.is_relative_to(MEET)]
    found = {(path.name, name) for path in checked for name in imports(path)}
    assert {(file, name) for file, name in found if name.split(".")[0] in FORBIDDEN[folder]} == set()


def test_envs_imports_its_own_modules_relatively():
    """So that it works by its other name, `metarl.envs`."""
    absolute = re.compile(r"^\s*(?:from|import) envs\b", re.MULTILINE)
    assert [path.name for path in sources("envs") if absolute.search(path.read_text(encoding="utf-8"))] == []


def test_every_file_and_folder_has_its_place():
    assert {module_of(path) for path in sources("metarl")} - {""} == set(LAYERS)


def test_each_imports_only_from_those_before_it():
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("metarl")
        if (own := module_of(path))
        for name in imports(path)
        if name.startswith("metarl.") and own not in LAYERS[LAYERS.index(name.split(".")[1]) :]
    ]
    assert upward == []


def test_stable_baselines_is_imported_only_by_those_who_use_it():
    """Its import takes a second or two: other modules import the bridge inside the function that needs it."""
    at_import = {
        (path.name, name)
        for path in sources("metarl")
        if module_of(path) != "sb3"
        for name in imports(path, inside_functions=False)
    }
    assert {(file, name) for file, name in at_import if name.startswith(("metarl.sb3", "stable_baselines3"))} == set()


def test_the_package_itself_imports_nothing():
    """What `metarl.load` needs is imported when it is called."""
    assert [*imports(ROOT / "metarl" / "__init__.py", inside_functions=False)] == [
        "__future__.annotations",
        "os",
        "typing.TYPE_CHECKING",
    ]
    code = "import sys; before = {*sys.modules}; import metarl; print(*{*sys.modules} - before)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in process.stdout.split()} - sys.stdlib_module_names == {"metarl"}


def test_relative_imports_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "metarl" / "algorithms" / "maml.py"
    file.parent.mkdir(parents=True)
    file.write_text("from ..config import load\nfrom . import promp\nimport envs.tasks\n")
    assert list(imports(file)) == ["metarl.config.load", "metarl.algorithms.promp", "envs.tasks"]
