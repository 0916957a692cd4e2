"""Imports only point down."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MODULES = {
    "values": "errors files settings strict_yaml types seeding returns losses baselines policies "
    "parameters advantages tasks threads timing",
    "steps": "sampling inner outer meta_gradient",
    "algorithms": "algorithms",
    "around": "checkpoints config console figures flags report statistics tracking video",
    "loop": "evaluation experiment learner runs showcase training",
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


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, inside functions too."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


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


def test_the_package_itself_imports_nothing():
    assert list(imports(ROOT / "metarl" / "__init__.py")) == []


def test_relative_imports_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "metarl" / "algorithms" / "maml.py"
    file.parent.mkdir(parents=True)
    file.write_text("from ..config import load\nfrom . import promp\nimport envs.tasks\n")
    assert list(imports(file)) == ["metarl.config.load", "metarl.algorithms.promp", "envs.tasks"]
