"""The package `envs` by another name, for projects with a package `envs` of their own, which Python finds instead.

    gymnasium.make("metarl.envs:metarl/HalfCheetahVel-v0")
    from metarl.envs.family import Family

It is `envs` loaded once more, with classes of its own: a program uses one name or the other.
"""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "envs"

_spec = importlib.util.spec_from_file_location(
    __name__, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
)
assert _spec is not None
assert _spec.loader is not None
sys.modules[__name__] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[__name__])
