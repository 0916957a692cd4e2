"""The run directory: what a training run leaves on disk, and how it is found again.

RUN_DIR/config.yaml       every setting of the run
RUN_DIR/run.json          the run's id for W&B; Python, packages and git commit it ran with
RUN_DIR/checkpoint.pt     its state after the last whole iteration
RUN_DIR/best.pt           its state when the repeated test gave the highest return after adaptation, and that return
RUN_DIR/metrics.jsonl     one line per logged row of numbers
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

from torch import Tensor

from metarl import config
from metarl.algorithms import in_short
from metarl.config import strict_yaml
from metarl.errors import UserError, shortened
from metarl.experiment import Experiment
from metarl.files import parse_json, remove_drafts, write_atomically
from metarl.policy_gradient import normalizer
from metarl.runs import checkpoints, naming
from metarl.runs.tracking import Tracker, gone
from metarl.sampling.protocols import family_name
from metarl.types import AlgorithmState, Params

CONFIG, METRICS, ABOUT, LOCK = "config.yaml", "metrics.jsonl", "run.json", ".lock"
CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
BEST_RETURN = "return_after_adaptation"
"""What best.pt holds besides the state."""
PACKAGES = ("metarl-suite", "torch", "mujoco", "gymnasium", "numpy", "wandb")
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What network file systems say that have no locks."""
MAY_CHANGE = ("iterations", "threads", "tracking.", "evaluation.videos", "evaluation.film")
"""Settings that may differ when a run is continued: they do not change what an iteration computes."""


@dataclass(frozen=True)
class State:
    """Everything that training needs to go on. Randomness needs nothing more: it is a function of the iteration."""

    iteration: int
    """Outer iterations that are done."""
    environment_steps: int
    """Steps taken in training so far, all tasks together."""
    params: Params
    """All meta-learned parameters: theta, and step sizes or a critic where the inner loop has them."""
    algorithm_state: AlgorithmState
    """What the algorithm remembers from one outer step to the next."""
    test_tasks: list[Mapping[str, Any]]
    """The fixed test tasks, as plain data."""


def create(path: Path, experiment: Any) -> None:
    """Start a run directory. The config comes last: where it lies, everything else does.

    The agent of a sweep has named the run already; without one, its id is new.
    """
    refuse_used(path)
    about = {"id": os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:12], "versions": versions()}
    write_atomically(path / ABOUT, json.dumps(about, indent=2).encode())
    config.save(experiment, path / CONFIG)


def new_dir(name: str) -> Path:
    """Make a folder for a new run below `runs`, named after it and the time; another one where that is taken.

    Of several processes that start at once, each gets one of its own.
    """
    stamped = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    others = (stamped.with_name(f"{stamped.name}-{n}") for n in itertools.count(2))
    stamped.parent.mkdir(parents=True, exist_ok=True)
    for path in itertools.chain([stamped], others):
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
    raise AssertionError("there are endless names")


def refuse_used(path: Path) -> None:
    """Raise UserError where another run lies already."""
    if (path / CONFIG).exists() or has_checkpoint(path):
        raise UserError(
            f"{path} already holds a run. Continue it with --resume, or choose another folder with --run-dir."
        )


def read_id(path: Path) -> str:
    """What names the run for W&B, so that a continued run goes on there."""
    try:
        return parse_json((path / ABOUT).read_bytes())["id"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path / ABOUT} does not name the run ({error}). Write {{"id": "SOME-NAME"}} into it to go on.'
        ) from error


def read_versions(path: Path) -> dict[str, str]:
    """What the run ran with; empty where its files do not say."""
    try:
        versions = parse_json((path / ABOUT).read_bytes())["versions"]
        return {str(name): str(version) for name, version in versions.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def open_tracker(path: Path, experiment: Experiment) -> Tracker:
    """W&B and metrics.jsonl, under the run's own id; a group in W&B is a family, with its options, and an algorithm."""
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
    """Whether the run got as far as its first checkpoint."""
    return (path / CHECKPOINT).exists()


def read_experiment(path: Path) -> Experiment:
    """The settings of the run at `path`. Errors: UserError where there is none, or one of another command."""
    if not (path / CONFIG).is_file():
        raise UserError(f"{path} holds no run: there is no {CONFIG} in it. Give the folder that metarl train made.")
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
    """Raise UserError where the settings are those of a run without an environment and a policy."""
    sections = strict_yaml.read(path / CONFIG).keys()
    if "algorithm" in sections and not {"env", "policy"} & sections:
        raise UserError(
            f"{path} holds a run without a robot and a policy, such as one of metarl sinusoid: what came of it lies "
            f"there, in {METRICS} and in its pictures. Give the folder of a run of metarl train."
        )


def save(path: Path, experiment: Experiment, state: State) -> None:
    """Write the checkpoint, atomically. Errors: FileNotFoundError where the run was removed meanwhile."""
    _save(path, CHECKPOINT, _content(experiment, state))


def keep_best(path: Path, experiment: Experiment, state: State, tested: float) -> float:
    """Write best.pt, atomically, if the state's return after adaptation is at least that of any test before.

    What was best before stands in best.pt, not in the metrics: of these a resumed run drops the last test if that
    came only because a part of the run ended. A test that is repeated after a crash gives the same and is best again.

    Returns:
        The highest return so far; -inf where none was a number.
    """
    before = best_return(path)
    if not tested >= before:  # NaN is not
        return before
    _save(path, BEST, {**_content(experiment, state), BEST_RETURN: tested})
    return tested


def _save(path: Path, file: str, content: dict[str, Any]) -> None:
    try:
        checkpoints.save(path / file, content, make_folders=False)
    except FileNotFoundError as error:
        raise gone(path) from error


def best_return(path: Path) -> float:
    """The return after adaptation of best.pt; -inf without one. Errors: UserError where it is damaged."""
    if not (path / BEST).exists():
        return -math.inf
    return checkpoints.load(path / BEST).get(BEST_RETURN, -math.inf)


def _content(experiment: Experiment, state: State) -> dict[str, Any]:
    """A state as a checkpoint holds it, with the settings it was made with."""
    fields = {name: getattr(state, name) for name in State.__dataclass_fields__}
    tasks = [dict(task) for task in state.test_tasks]
    return {**fields, "test_tasks": tasks, "experiment": config.to_dict(experiment)}


def load(path: Path, experiment: Experiment, file: str = CHECKPOINT) -> State:
    """The state in the checkpoint (or in best.pt) of the run at `path`, which must fit the settings.

    Errors: UserError where it is missing, damaged, foreign, or was made with other settings.
    """
    try:
        content = checkpoints.load(path / file)
    except UserError as error:
        if file == BEST or not _is_whole(path / BEST):
            raise
        raise UserError(
            f"{error} What was best in a test is whole in {path / BEST}: metarl evaluate {path} --checkpoint best "
            f"reads it, and training goes on from a copy of it named {CHECKPOINT}."
        ) from error
    if missing := sorted({"experiment", *State.__dataclass_fields__} - content.keys()):
        raise UserError(f"{path / file} is no training checkpoint: it lacks {', '.join(missing)}.")
    _check_same(path / file, content["experiment"], experiment)
    return State(**{name: content[name] for name in State.__dataclass_fields__})


def _is_whole(path: Path) -> bool:
    """Whether there is a checkpoint that can be read."""
    try:
        checkpoints.load(path)
    except UserError:
        return False
    return True


def _check_same(path: Path, made_with: Mapping[str, Any], experiment: Experiment) -> None:
    """Refuse a checkpoint whose settings differ in anything that changes what training computes."""
    differences = config.difference(config.from_dict(_as_begun(made_with), Experiment, source=str(path)), experiment)
    wrong = {key: pair for key, pair in differences.items() if not key.startswith(MAY_CHANGE)}
    if wrong:
        lines = [
            f"{key}: the checkpoint has {shortened(repr(then))}, the config {shortened(repr(now))}"
            for key, (then, now) in wrong.items()
        ]
        raise UserError(
            "\n  ".join(
                [
                    f"{path} does not fit the config:",
                    *lines,
                    "Use its own settings, or start a new run with --run-dir.",
                ]
            )
        )


def has_metrics(path: Path) -> bool:
    """Whether the run has logged anything."""
    return (path / METRICS).is_file() and (path / METRICS).stat().st_size > 0


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Keep other processes out of the run while one trains it, and remove what killed ones have left half written.

    On a file system without locks there is a warning instead. Errors: UserError where another process is at it.
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
                f"the file system of {path} has no locks ({error.strerror}): see to it that no second process trains "
                "or measures this run meanwhile",
                stacklevel=3,
            )
        remove_drafts(path)
        yield


def check_fits(path: Path, state: State, first_params: Params, test_tasks: list[Mapping[str, Any]]) -> None:
    """Refuse a state whose parameters or test tasks are not those that its settings give today."""
    check_shapes(path / CHECKPOINT, state.params, first_params)
    if state.test_tasks != test_tasks:
        raise UserError(f"{path / CHECKPOINT} was tested on other tasks than its config gives now: start a new run.")


def check_shapes(path: Path, params: Params, expected: Params) -> None:
    """Refuse parameters that are not those of the policy; one that normalizes no observations has no statistics."""
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
    """What the run ran with."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "git": _git_commit()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def _git_commit() -> str:
    """The commit of the source tree, with + if it was edited; empty outside a repository."""
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
