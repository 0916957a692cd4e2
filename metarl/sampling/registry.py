"""The environments and options that the settings of a run may name.

The settings may come from another person, and must not run code of theirs. So an id is looked up among the registered
environments, its module is imported only if the user allows it, and options are only parameters of the family.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from metarl.errors import UserError, nearest, shortened

ALLOWED = "METARL_ALLOW_IMPORT"
"""Environment variable with the modules, separated by commas, that the id of a run may import."""
OURS, ALIAS = "envs", "metarl.envs"
"""The module of the families in this package, and its name where Python finds another package `envs`."""

_ID = re.compile(r"(?:(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):)?(?P<name>[^\s:]+)")
_SETTINGS = {  # arguments of an environment that are no options, and the settings for them
    "id": "env.id",
    "max_episode_steps": "env.horizon",
    "nthread": "threads",
    "num_envs": "sampling.tasks and sampling.episodes",
    "task": "sampling.split and evaluation.split",
}
_MACHINERY = {  # other arguments of `gymnasium.make` and `make_vec`, which no option may replace
    *("autoreset_mode", "cls", "disable_env_checker", "family", "render_mode", "self", "spec", "vector_kwargs"),
    *("vectorization_mode", "wrappers"),
}


def full_id(env_id: str) -> str:
    """The full id of a family of this package that is named `HalfCheetahVel` or `metarl/HalfCheetahVel-v0`.

    Other ids are returned unchanged.

    Errors: UserError, with the nearest name, for an unknown name without a module.
    """
    if ":" in env_id or (env_id in gymnasium.registry and not env_id.startswith("metarl/")):
        return env_id
    ids = {spec.name: spec.id for spec in families()}
    given = env_id.removeprefix("metarl/")
    name = re.sub(r"-v\d+$", "", given)
    if name not in ids or given not in (name, ids[name].removeprefix("metarl/")):
        raise UserError(f"env.id = {shortened(env_id)!r}: there is no such family.{nearest(name, ids)}")
    return f"{OURS}:{ids[name]}"


def families() -> list[EnvSpec]:
    """The registrations of this package's families."""
    _import_ours()
    return [spec for spec in gymnasium.registry.values() if spec.namespace == "metarl"]


def find(env_id: str) -> EnvSpec:
    """The registration of the id `MODULE:NAME` or `NAME`.

    The module must belong to this package, be named in METARL_ALLOW_IMPORT, or be imported already.

    Errors: UserError if the id is malformed, or its module may not or cannot be imported; Gymnasium's error if nothing
    is registered under that name.
    """
    module, name = _parts(env_id)
    if module and not _is_ours(module, name) and not _may_import(module):
        raise UserError(
            f"env.id = {env_id!r}: the module {module} is not imported, because the settings of a run may come from "
            f"somebody else, and importing it runs its code. If you trust it, set {ALLOWED}={module}, or in Python "
            f"import {module} first. `train CONFIG` imports what its config or --env.id names."
        )
    if module:
        _import(module, name, env_id)
    return gymnasium.spec(name)


def import_module_of(env_id: str) -> None:
    """Import the module of an id that the user has written, so that `find` accepts it.

    Errors: UserError if the id is malformed or its module cannot be imported.
    """
    module, name = _parts(env_id)
    if module:
        _import(module, name, env_id)


def check_options(options: Mapping[str, Any], spec: EnvSpec | None = None) -> None:
    """Raise UserError for an option that is an argument of `gymnasium.make`, or that `spec` has a fixed value for."""
    for name in options:
        if name in _SETTINGS:
            raise UserError(f"env.options.{name} is no parameter of a family: set {_SETTINGS[name]} instead")
        if name in _MACHINERY:
            raise UserError(f"env.options.{name} is no parameter of a family: leave it out")
        if spec is not None and name in spec.kwargs:
            raise UserError(f"env.options.{name}: {spec.id} is registered with a fixed value for it: leave it out")


def _parts(env_id: str) -> tuple[str, str]:
    """The module, or an empty text, and the name in an id."""
    match = _ID.fullmatch(env_id)
    if match is None:
        raise UserError(
            f"env.id = {env_id!r}: expected MODULE:NAME, such as envs:metarl/HalfCheetahVel-v0, where MODULE is what "
            "`import` takes and NAME is what it registers"
        )
    return match["module"] or "", match["name"]


def _may_import(module: str) -> bool:
    told = {name.strip() for name in os.environ.get(ALLOWED, "").split(",")}
    above = {module[: dot.start()] for dot in re.finditer(r"\.", module)}
    return module in sys.modules or not ({module} | above).isdisjoint({OURS} | told)


def _is_ours(module: str, name: str) -> bool:
    return module in (OURS, ALIAS) and name.startswith("metarl/")


def _import(module: str, name: str, env_id: str) -> None:
    if _is_ours(module, name):
        _import_ours()
        return
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"env.id = {env_id!r}: {error}. "
            + (clash(error) or "A module of your own must be importable: put its folder on PYTHONPATH.")
        ) from error


def _import_ours() -> None:
    importlib.import_module(OURS if _other_envs() is None else ALIAS)


def clash(error: ImportError) -> str:
    """What to do about an import of `envs` that failed because another package has this name; empty if none has."""
    if (error.name or "").partition(".")[0] != OURS or (other := _other_envs()) is None:
        return ""
    return (
        f"The package {OURS} that Python finds is {other}, and hides this suite's. Rename it, or import the suite's as "
        f"{ALIAS}: `from {ALIAS}.family import Family`, gymnasium.make('{ALIAS}:metarl/HalfCheetahVel-v0')"
    )


def _other_envs() -> str | None:
    """Where the package `envs` lies that Python finds, if it is not this suite's."""
    spec = importlib.util.find_spec(OURS)
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    suites = Path(__file__).parents[2] / OURS
    return None if suites in folders or spec is None else str(spec.origin or folders[0])
