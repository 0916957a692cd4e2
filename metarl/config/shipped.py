"""What is shipped with the package, by name: configs, and trained policies, which have the name of their config.

In a checkout the configs (`demo`, `half_cheetah_vel/promp`, `sweeps/point_nav`) are in the top-level folder `configs`;
an installed package has a copy. The policies are run directories in `metarl/policies`.
"""

from pathlib import Path

from metarl.errors import UserError, nearest, no_such_file

_PACKAGE = Path(__file__).parents[1]
FOLDER = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())
"""The folder of the shipped configs."""
POLICIES = _PACKAGE / "policies"
"""The folder of the shipped policies."""


def names() -> list[str]:
    """The names of all shipped configs, sorted."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def policies() -> list[str]:
    """The names of all shipped policies, sorted."""
    return sorted(path.parent.relative_to(POLICIES).as_posix() for path in POLICIES.rglob("config.yaml"))


def find(name: Path | str, kind: str = "config") -> Path:
    """The file at the path `name` if there is one, or else the shipped config of that name.

    Errors: `UserError`, with the nearest names, if there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    own = path.as_posix().removeprefix("configs/").removesuffix(".yaml")
    if own in names():
        return FOLDER / f"{own}.yaml"
    if path.is_dir() or (path.suffix and path.parent != Path() and path.parent.is_dir()):
        raise no_such_file(kind, path, "*.yaml")
    inside = [known for known in names() if known.startswith(f"{own}/")]
    if inside:
        raise UserError(f"{name} is a folder of {kind}s: name one of {', '.join(inside)}.")
    raise UserError(
        f"there is no {kind} {str(name)!r}, neither a file nor a shipped one."
        f"{nearest(own, names(), 'metarl configs lists the shipped ones.')}"
    )


def first_line(name: str) -> str:
    """The first line of a shipped config, a comment that says what it is."""
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
