"""Which environments the settings of a run may name, and with which options.

Settings are data that somebody else may have written. So an id is looked up among the registered environments; its
module is imported only if the user has said so; and options are parameters of the family, never arguments of what
builds it.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from metarl.errors import UserError, nearest, shortened

ALLOWED = "METARL_ALLOW_IMPORT"
"""The environment variable that names the modules, separated by commas, that the id of a run may import."""
OURS = "envs"
"""The families that come with this package."""

_ID = re.compile(r"(?:(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):)?(?P<name>[^\s:]+)")
_SETTINGS = {
    "id": "env.id",
    "max_episode_steps": "env.horizon",
    "nthread": "threads",
    "num_envs": "sampling.tasks and sampling.episodes",
    "task": "sampling.split and evaluation.split",
}
_MACHINERY = {
    *("autoreset_mode", "cls", "disable_env_checker", "family", "render_mode", "self", "spec", "vector_kwargs"),
    *("vectorization_mode", "wrappers"),
}
"""Names that no option may have: arguments of what builds an environment; and the settings that stand for some."""


def full_id(env_id: str) -> str:
    """A family of this package however it is named, `HalfCheetahVel` or `metarl/HalfCheetahVel-v0`, by its whole id.

    Other ids stay as they are.

    Errors: UserError, with the nearest, for a name without a module that nothing is registered under.
    """
    if ":" in env_id or (env_id in gymnasium.registry and not env_id.startswith("metarl/")):
        return env_id
    importlib.import_module(OURS)
    families = {spec.name: spec.id for spec in gymnasium.registry.values() if spec.namespace == "metarl"}
    name = re.sub(r"-v\d+$", "", env_id.removeprefix("metarl/"))
    if name not in families:
        raise UserError(f"env.id = {shortened(env_id)!r}: there is no such family.{nearest(name, families)}")
    return f"{OURS}:{families[name]}"


def find(env_id: str) -> EnvSpec:
    """The registration that `MODULE:NAME` or `NAME` stands for.

    The module is imported only where that is allowed: it is this package's own, named in METARL_ALLOW_IMPORT, or
    imported already.

    Errors: UserError where the id is malformed, or its module may not or cannot be imported; gymnasium's own where
    nothing of that name is registered.
    """
    module, name = _parts(env_id)
    if module and not _may_import(module):
        raise UserError(
            f"env.id = {env_id!r}: the module {module} is not imported, because the settings of a run may come from "
            f"somebody else, and importing it runs its code. If you trust it, set {ALLOWED}={module}, or in Python "
            f"import {module} first. `train CONFIG` imports what its config or --env.id names."
        )
    if module:
        _import(module, env_id)
    return gymnasium.spec(name)


def import_module_of(env_id: str) -> None:
    """Import the module of an id that the user has written or chosen by themselves, so that `find` finds it.

    Errors: UserError where the id is malformed or its module cannot be imported.
    """
    module, _ = _parts(env_id)
    if module:
        _import(module, env_id)


def check_options(options: Mapping[str, Any], spec: EnvSpec | None = None) -> None:
    """Refuse options that would replace an argument of what builds the environment, or one fixed by `spec`.

    Errors: UserError.
    """
    for name in options:
        if name in _SETTINGS:
            raise UserError(f"env.options.{name} is no parameter of a family: set {_SETTINGS[name]} instead")
        if name in _MACHINERY:
            raise UserError(f"env.options.{name} is no parameter of a family: leave it out")
        if spec is not None and name in spec.kwargs:
            raise UserError(f"env.options.{name}: {spec.id} is registered with a fixed value for it: leave it out")


def _parts(env_id: str) -> tuple[str, str]:
    """The module, empty if none is named, and the name of an id."""
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


def _import(module: str, env_id: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"env.id = {env_id!r}: {error}. A module of your own must be importable: put its folder on PYTHONPATH."
        ) from error
