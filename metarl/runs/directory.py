"""The run directory: what training writes to disk and reads again.

RUN_DIR/config.yaml       all settings of the run
RUN_DIR/run.json          the run's id in W&B; the versions of Python and packages, and the git commit
RUN_DIR/checkpoint.pt     the state after the last finished iteration
RUN_DIR/best.pt           the state with the highest return after adaptation in a test during training, and that return
RUN_DIR/metrics.jsonl     a line for each row of metrics
RUN_DIR/wandb/            the W&B run
"""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import itertools
import json
import math
import os
import platform
import subprocess
import time
import uuid
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl import config
from metarl.algorithms import in_short, optimizers
from metarl.config import strict_yaml
from metarl.config.shipped import policies
from metarl.errors import UserError, nearest, shortened
from metarl.experiment import Experiment
from metarl.policy_gradient import normalizer
from metarl.runs import checkpoints, naming
from metarl.runs.metrics import METRICS
from metarl.runs.tracking import Tracker, gone
from metarl.sampling.protocols import family_name
from metarl.system.files import parse_json, remove_drafts, write_atomically
from metarl.types import AlgorithmState, Params

CONFIG, ABOUT, LOCK = "config.yaml", "run.json", ".lock"
CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
BEST_RETURN = "return_after_adaptation"
"""Key in best.pt of its return, beside the state."""
PACKAGES = ("metarl-suite", "torch", "mujoco", "gymnasium", "numpy", "wandb")
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of network file systems without locks."""
MAY_CHANGE = ("iterations", "threads", "tracking.", "evaluation.videos", "evaluation.film")
"""Settings that may change when a run is resumed: they do not change what an iteration computes."""


@dataclass(frozen=True)
class State:
    """All that training needs to go on. Random numbers need no state: they are a function of seed and iteration."""

    iteration: int
    """Number of finished outer iterations."""
    environment_steps: int
    """Environment steps of training so far, of all tasks."""
    params: Params
    """All meta-learned parameters: theta, and step sizes or a critic if the inner loop has them."""
    algorithm_state: AlgorithmState
    """State of the outer step, such as Adam's moments."""
    test_tasks: list[Mapping[str, Any]]
    """The tasks of the test during training, as plain data."""


def create(path: Path, experiment: Any) -> None:
    """Create a run directory, with WANDB_RUN_ID (set by the agent of a sweep) or a new id as the run's id.

    The config is written last, so that a directory with a config is complete.

    Errors: UserError where there is a run already.
    """
    refuse_used(path)
    about = {"id": os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:12], "versions": versions()}
    write_atomically(path / ABOUT, json.dumps(about, indent=2).encode())
    config.save(experiment, path / CONFIG)


def new_dir(name: str) -> Path:
    """Make the folder runs/NAME-TIME for a new run, with a number at the end where another process was faster."""
    stamped = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    others = (stamped.with_name(f"{stamped.name}-{n}") for n in itertools.count(2))
    stamped.parent.mkdir(parents=True, exist_ok=True)
    for path in itertools.chain([stamped], others):
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
    raise AssertionError("unreachable: the numbers do not end")


def refuse_used(path: Path) -> None:
    """Raise UserError where the folder holds a run."""
    if (path / CONFIG).exists() or has_checkpoint(path):
        raise UserError(
            f"{path} already holds a run. Continue it with --resume, or choose another folder with --run-dir."
        )


def read_id(path: Path) -> str:
    """The run's id in W&B. Errors: UserError where run.json has none."""
    if not any((path / name).exists() for name in (ABOUT, CONFIG, CHECKPOINT)):
        raise UserError(f"{path} holds no run to resume: start it without --resume.")
    try:
        return parse_json((path / ABOUT).read_bytes())["id"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path / ABOUT} does not name the run ({error}). Write {{"id": "SOME-NAME"}} into it to go on.'
        ) from error


def read_versions(path: Path) -> dict[str, str]:
    """Versions of Python, packages and source that the run was begun with; empty where run.json has none."""
    try:
        versions = parse_json((path / ABOUT).read_bytes())["versions"]
        return {str(name): str(version) for name, version in versions.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def open_tracker(path: Path, experiment: Experiment) -> Tracker:
    """The tracker of a run. Its group in W&B is family, options and algorithm, so that seeds are in one group."""
    tracking, family, algorithm = experiment.tracking, family_name(experiment.env.id), in_short(experiment.algorithm)
    options = "".join(f" {name}={value}" for name, value in experiment.env.options.items())
    names = naming.names(
        tracking,
        group=f"{family}{options}/{algorithm}",
        name=naming.named(path, experiment.seed),
        tags=(family, *algorithm.split(", "), experiment.evaluation.split),
    )
    return Tracker.open(path, config.to_dict(experiment), mode=tracking.mode, run_id=read_id(path), **asdict(names))


def has_checkpoint(path: Path) -> bool:
    """Whether the run has a checkpoint."""
    return (path / CHECKPOINT).exists()


def read_experiment(path: Path) -> Experiment:
    """The settings of the run at `path`. Errors: UserError where there is none, or one of metarl sinusoid."""
    if not (path / CONFIG).is_file():
        raise UserError(
            f"{path} holds no run: there is no {CONFIG} in it. Give a run directory of metarl train, or the name of a "
            f"shipped policy.{nearest(path.as_posix(), policies())}"
        )
    try:
        return config.from_dict(_as_begun(strict_yaml.read(path / CONFIG)), Experiment, source=str(path / CONFIG))
    except UserError:
        _refuse_other_kinds(path)
        raise


def is_of_first_version(path: Path) -> bool:
    """Whether the run was begun by version 0.1.0, which normalized no observations and drew no tasks in strata."""
    settings = strict_yaml.read(path / CONFIG)
    return settings != _as_begun(settings)


def _as_begun(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's settings, which lack `policy.normalize_observations` where they are of version 0.1.0: it was false."""
    if not isinstance(policy := settings.get("policy"), Mapping):
        return settings
    return {**settings, "policy": {"normalize_observations": False, **policy}}


def _refuse_other_kinds(path: Path) -> None:
    """Raise UserError where the run has no environment and no policy."""
    sections = strict_yaml.read(path / CONFIG).keys()
    if "algorithm" in sections and not {"env", "policy"} & sections:
        raise UserError(
            f"{path} holds a run without an environment, such as one of metarl sinusoid: its results are {METRICS} and "
            "the pictures there. Give a run directory of metarl train."
        )


def save(path: Path, experiment: Experiment, state: State) -> None:
    """Write the checkpoint atomically. Errors: FileNotFoundError where the run directory was removed."""
    _save(path, CHECKPOINT, _content(experiment, state))


def keep_best(path: Path, experiment: Experiment, state: State, tested: float) -> float:
    """Write best.pt atomically, if `tested` is at least the return of best.pt.

    The highest return before is read from best.pt, because a resumed run removes tests from the metrics. A test that is
    repeated after a crash gives the same return, so best.pt is written again.

    Args:
        tested: return after adaptation, the mean over test tasks; NaN is never the best.

    Returns:
        The highest return so far; -inf where there is none.
    """
    before = best_return(path)
    if not tested >= before:  # also where it is NaN
        return before
    _save(path, BEST, {**_content(experiment, state), BEST_RETURN: tested})
    return tested


def _save(path: Path, file: str, content: dict[str, Any]) -> None:
    try:
        checkpoints.save(path / file, content, make_folders=False)
    except FileNotFoundError as error:
        raise gone(path) from error


def best_return(path: Path) -> float:
    """The return after adaptation in best.pt; -inf where there is none. Errors: UserError where it is damaged."""
    if not (path / BEST).exists():
        return -math.inf
    best = checkpoints.load(path / BEST).get(BEST_RETURN, -math.inf)
    if not isinstance(best, float):
        raise UserError(
            f"{path / BEST} is damaged: {BEST_RETURN} is a {type(best).__name__}, not a number. Move it away."
        )
    return best


def _content(experiment: Experiment, state: State) -> dict[str, Any]:
    """The content of a checkpoint: state and settings."""
    fields = {name: getattr(state, name) for name in State.__dataclass_fields__}
    tasks = [dict(task) for task in state.test_tasks]
    return {**fields, "test_tasks": tasks, "experiment": config.to_dict(experiment)}


def load(path: Path, experiment: Experiment, file: str = CHECKPOINT) -> State:
    """The state in a checkpoint of the run at `path`.

    Args:
        experiment: the settings that it must have been made with, apart from those in MAY_CHANGE.
        file: CHECKPOINT or BEST.

    Errors: UserError where it is missing, damaged, of another program, or was made with other settings.
    """
    try:
        content = checkpoints.load(path / file)
    except UserError as error:
        if file == BEST or not _is_whole(path / BEST):
            raise
        raise UserError(
            f"{error} The best checkpoint, {path / BEST}, can be read: evaluate it with metarl evaluate {path} "
            f"--checkpoint best, or copy it to {CHECKPOINT} and resume training from it."
        ) from error
    if missing := sorted({"experiment", *State.__dataclass_fields__} - content.keys()):
        raise UserError(f"{path / file} is no training checkpoint: it lacks {', '.join(missing)}.")
    _check_types(path / file, content)
    made_with = config.from_dict(_as_begun(content["experiment"]), Experiment, source=str(path / file))
    check_same(path / file, made_with, experiment)
    return State(**{name: content[name] for name in State.__dataclass_fields__})


def _check_types(path: Path, content: Mapping[str, Any]) -> None:
    """Raise UserError where the content of a checkpoint is not of the types that are saved."""
    types = {"iteration": int, "environment_steps": int, "params": dict, "algorithm_state": dict, "test_tasks": list}
    for name, expected in {**types, "experiment": dict}.items():
        if type(content[name]) is not expected:
            found = type(content[name]).__name__
            raise UserError(f"{path} is no training checkpoint: {name} is a {found}, not a {expected.__name__}.")
    for name, p in content["params"].items():
        if not isinstance(p, Tensor) or p.dtype != torch.float32:
            found = p.dtype if isinstance(p, Tensor) else f"a {type(p).__name__}"
            raise UserError(f"{path} is no training checkpoint: its parameter {name} is {found}, not torch.float32.")
    if type(content["algorithm_state"].get("iteration", 0)) is not int:
        raise UserError(f"{path} is no training checkpoint: its algorithm_state has no whole number of iterations.")
    if content["iteration"] < 0 or content["environment_steps"] < 0:
        raise UserError(f"{path} is no training checkpoint: its number of iterations or steps is negative.")


def _is_whole(path: Path) -> bool:
    """Whether the checkpoint can be read."""
    try:
        checkpoints.load(path)
    except UserError:
        return False
    return True


def check_same(path: Path, made_with: Experiment, experiment: Experiment) -> None:
    """Raise UserError where the settings that `path` was made with differ in more than MAY_CHANGE from `experiment`."""
    lines = [
        f"{key}: it has {shortened(repr(then))}, not {shortened(repr(now))}"
        for key, (then, now) in config.difference(made_with, experiment).items()
        if not key.startswith(MAY_CHANGE)
    ]
    if lines:
        way_out = "Use its own settings, or start a new run with --run-dir."
        raise UserError("\n  ".join([f"{path} was made with other settings:", *lines, way_out]))


def has_metrics(path: Path) -> bool:
    """Whether the run has written metrics."""
    return (path / METRICS).is_file() and (path / METRICS).stat().st_size > 0


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the lock of a run directory, and remove files that killed processes left half written.

    On a file system without locks there is a warning instead. Errors: UserError where another process holds the lock.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{path} is being trained or measured by another process. Stop that one first.") from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            warnings.warn(
                f"the file system of {path} has no locks ({error.strerror}): do not train or measure this run in a "
                "second process meanwhile",
                stacklevel=3,
            )
        remove_drafts(path)
        yield


def check_fits(path: Path, state: State, first_params: Params, test_tasks: list[Mapping[str, Any]]) -> None:
    """Raise UserError where parameters, the optimizer's state or test tasks are not those of the settings now."""
    check_shapes(path / CHECKPOINT, state.params, first_params)
    try:
        optimizers.check_state(state.algorithm_state, state.params)
    except ValueError as error:
        raise UserError(f"{path / CHECKPOINT} is no training checkpoint: {error}. Start a new run.") from error
    if state.test_tasks != test_tasks:
        raise UserError(f"{path / CHECKPOINT} was tested on other tasks than its config gives now: start a new run.")


def check_shapes(path: Path, params: Params, expected: Params) -> None:
    """Raise UserError where parameters have other names or shapes; statistics of the normalizer may be missing."""
    found, wanted = _shapes(params), _shapes(expected)
    for name in wanted | found:
        if name in normalizer.NAMES and not found.keys() & set(normalizer.NAMES):
            continue
        if found.get(name) != wanted.get(name):
            raise UserError(
                f"{path} does not fit the policy: {name} has shape {found.get(name)}, expected {wanted.get(name)}. "
                "The environment's observations or the policy's layers are not those it was trained with."
            )


def _shapes(params: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in params.items()}


def versions() -> dict[str, str]:
    """The versions of Python, the packages and the source."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "git": _git_commit()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def _git_commit() -> str:
    """The git commit of the source, with + where files were edited; empty outside a repository."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()
