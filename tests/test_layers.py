"""Imports only point down."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MODULES = {
    "values": "errors files settings strict_yaml types seeding returns losses baselines policies "
    "parameters advantages tasks threads timing networks optimizers regression",
    "steps": "sampling episodes inner outer meta_gradient exploration practice sb3",
    "algorithms": "algorithms",
    "around": "checkpoints config console figures flags records report statistics tracking video",
    "loop": "campaign collection comparison evaluation experiment few_shot learner meta_policy page rivals runs "
    "showcase sweeps training",
}
"""The modules of metarl by layer."""

BELOW = {
    "values": {"values"},
    "steps": {"values", "steps"},
    "algorithms": {"values", "steps", "algorithms"},
    "around": {"values", "around"},
    "loop": {"values", "steps", "algorithms", "around", "loop"},
}
"""The layers that each layer may import."""

FORBIDDEN = {
    "envs": {"torch", "metarl", "scripts", "stable_baselines3", "wandb"},
    "metarl": {"envs", "mujoco", "scripts"},
    "scripts": {"scripts"},
}
"""What the files of a folder may not import."""

LAYER = {module: layer for layer, modules in MODULES.items() for module in modules.split()}


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
    found = {(path.name, name) for path in sources(folder) for name in imports(path)}
    assert {(file, name) for file, name in found if name.split(".")[0] in FORBIDDEN[folder]} == set()


def test_every_module_has_a_layer():
    modules = {module_of(path) for path in sources("metarl")} - {""}
    assert modules == set(LAYER), "MODULES lists every module, and no other"


def test_modules_import_from_their_layer_and_below():
    upward = [
        f"{path.relative_to(ROOT)} ({layer}) imports {name} ({LAYER.get(name.split('.')[1])})"
        for path in sources("metarl")
        if (layer := LAYER.get(module_of(path)))
        for name in imports(path)
        if name.startswith("metarl.") and LAYER.get(name.split(".")[1]) not in BELOW[layer]
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
