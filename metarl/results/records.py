"""The files RUN_DIR/evaluation-SPLIT.json and RUN_DIR/evaluation-SPLIT-best.json: the evaluation of a run.

    format, version              "metarl-evaluation", 2
    run, environment, algorithm  the run directory, Gymnasium's id, the algorithm's name
    split, tasks, units          the test tasks as plain data, and the units of their fields
    horizon, episodes            steps of an episode; episodes per task and adaptation step
    later_steps                  factor of the step size in steps beyond those of training, where it was not chosen
    tuned                        initialization -> how it adapts, chosen on validation tasks, and from what (see
                                 `metarl.experiment.tuning`); empty, or absent, where all adapt as the config says
    seed                         of initial states and exploration
    checkpoint                   latest (also where the key is absent), or best: chosen by the tests during training
    training                     seed, iterations and environment_steps of training up to the checkpoint
    versions                     of Python, the packages and the source
    returns                      of the stochastic policy: initialization -> (tasks, K+1), mean over episodes after 0..K
                                 adaptation steps; null where all episodes diverged
    deterministic                the same, of the deterministic policy, which takes the mean action
    noise                        initialization -> (K+1,), standard error of the mean return that comes from the finite
                                 number of test episodes; null for one episode, absent in older files
    summary                      of both, with the spread over tasks

Adaptation learns from the episodes of the stochastic policy only. The deterministic policy has the same adapted
parameters, and as many episodes from the same initial states.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from metarl.config.settings import with_signature
from metarl.errors import UserError, no_such_file
from metarl.experiment.tuning import Tuned
from metarl.runs import console
from metarl.statistics import plain, summary
from metarl.system.files import parse_json

Checkpoint = Literal["latest", "best"]
FORMAT, VERSION = "metarl-evaluation", 2
NAMED = 6
"""Greatest number of problems of a file that a message lists."""
META, RANDOM = "meta-learned", "random init"
"""The initializations that are compared."""


def _array(rows: Any) -> NDArray[np.floating]:
    """An array of rows of numbers; None becomes NaN."""
    try:
        return np.array(rows, dtype=float)
    except TypeError as error:
        raise ValueError(f"rows of numbers were expected: {error}") from error


Returns = Annotated[np.ndarray, BeforeValidator(_array)]

_CONFIG = ConfigDict(strict=True, arbitrary_types_allowed=True)


@with_signature
@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Training:
    """The training that led to the checkpoint."""

    seed: int
    iterations: int
    environment_steps: int


@with_signature
@dataclass(frozen=True, kw_only=True, eq=False, config=_CONFIG)
class Record:
    """The evaluation of one run on one split."""

    run: str
    environment: str
    algorithm: str
    split: str
    episodes: int
    """E, episodes per task and adaptation step, of each of the two policies."""
    horizon: int
    later_steps: float
    """Factor of the step size in steps beyond those of training, where it was not chosen."""
    seed: int
    """Seed of initial states and exploration; that of the run is in `training`."""
    checkpoint: Checkpoint = "latest"
    training: Training
    versions: dict[str, str]
    tasks: tuple[dict[str, Any], ...]
    units: dict[str, str]
    """Field of a task -> its unit; empty for a number without unit."""
    returns: dict[str, Returns]
    """Initialization -> return (tasks, K+1) of the stochastic policy."""
    deterministic: dict[str, Returns]
    """Initialization -> return (tasks, K+1) of the deterministic policy."""
    noise: dict[str, Returns] = Field(default_factory=dict)
    """Initialization -> (K+1,), standard error of the mean return from the finite number of test episodes; see
    `AdaptationReturns.noise`. Empty in older files."""
    tuned: dict[str, Tuned] = Field(default_factory=dict)
    """Initialization -> how it adapts, chosen on validation tasks; empty where all adapt as the run's config says."""

    def __post_init__(self) -> None:
        if META not in self.returns or self.returns.keys() != self.deterministic.keys():
            raise ValueError(
                f"returns of {', '.join(self.returns) or 'nothing'} and deterministic of "
                f"{', '.join(self.deterministic) or 'nothing'}: both need {META!r}, and the same others"
            )
        M, K = len(self.tasks), self.returns[META].shape[-1] - 1
        for field, arrays in (("returns", self.returns), ("deterministic", self.deterministic)):
            for name, x in arrays.items():
                if x.shape != (M, K + 1) or not x.size:
                    raise ValueError(f"{field} of {name!r} has shape {x.shape}, not (tasks, K+1) = ({M}, {K + 1})")
        if len({frozenset(task) for task in self.tasks}) > 1:
            raise ValueError("the tasks differ in their fields")

    @property
    def steps(self) -> int:
        """K, adaptation steps."""
        return self.returns[META].shape[1] - 1

    @property
    def noise_in_words(self) -> str:
        """The noise of the evaluation after K steps; empty where it is not known."""
        noise = self.noise.get(META)
        if noise is None or not np.isfinite(noise[-1]):
            return ""
        return f"noise of evaluation: {self.episodes} test episodes a task leave a standard error of {noise[-1]:.2g}"

    @property
    def tuned_on(self) -> str:
        """The tasks that the settings of adaptation were chosen on, in words; empty where nothing was chosen."""
        return next((f"{each.tasks} {each.split} tasks" for each in self.tuned.values()), "")

    @property
    def summary(self) -> dict[str, list[dict[str, Any]]]:
        """Initialization -> `summaries` of its returns."""
        return {name: summaries(self.returns[name][None], self.deterministic[name][None]) for name in self.returns}

    def parameter(self) -> tuple[NDArray[np.floating] | None, str | tuple[str, str]]:
        """The x axis of figures: the only field of the tasks, (M,) or (M, 2), with a label; None for other tasks."""
        (name, *others), unit = self.tasks[0], ""
        try:
            values = np.array([task[name] for task in self.tasks], dtype=float)
        except (TypeError, ValueError):  # text, or arrays of different lengths
            return None, "task"
        if others or values.shape[1:] not in ((), (2,)):
            return None, "task"
        if self.units.get(name):
            unit = f" [{self.units[name]}]"
        return values, f"{name}{unit}" if values.ndim == 1 else (f"{name} x{unit}", f"{name} y{unit}")

    def to_json(self) -> dict[str, Any]:
        """The content of the file as plain data for strict JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields |= {"training": vars(self.training), "returns": _lists(self.returns)}
        fields |= {"deterministic": _lists(self.deterministic), "summary": self.summary}
        fields |= {"noise": {name: x.tolist() for name, x in self.noise.items()}}
        fields |= {"tuned": {name: vars(tuned) for name, tuned in self.tuned.items()}}
        return {"format": FORMAT, "version": VERSION, **plain(fields)}


def summaries(stochastic: NDArray[np.floating], deterministic: NDArray[np.floating]) -> list[dict[str, Any]]:
    """A row for each adaptation step: `statistics.summary` of the stochastic policy; that of the deterministic inside.

    Args:
        stochastic, deterministic: returns (seeds, tasks, K+1).
    """
    both = zip(summary(stochastic), summary(deterministic), strict=True)
    return [row | {"deterministic": {k: v for k, v in other.items() if k != "steps"}} for row, other in both]


def file_of(run_dir: Path, split: str, checkpoint: Checkpoint = "latest") -> Path:
    """The evaluation file of a run."""
    return run_dir / f"evaluation-{split}{'-best' * (checkpoint == 'best')}.json"


def command(run_dir: Path | str, split: str, like: Record | None = None) -> str:
    """The command line that evaluates a run; with the tasks, steps, episodes and seed of the record `like`."""
    words: list[Any] = ["evaluate", run_dir, "--split", split]
    if like:
        words += ["--tasks", len(like.tasks), "--steps", like.steps, "--episodes", like.episodes]
        words += ["--later-steps", like.later_steps, "--seed", like.seed]
        words += ["--checkpoint", "best"] * (like.checkpoint == "best")
        words += ["--tune", next(iter(like.tuned.values())).tasks] if like.tuned else []
    return console.command(*words)


def read(path: Path) -> Record:
    """The record in the file at `path`.

    Errors: UserError where it is missing, no evaluation, of another version, or damaged.
    """
    if not path.is_file():
        raise no_such_file("evaluation", path, "evaluation-*.json")
    content = path.read_bytes()
    _check_format(path, content)
    try:
        return TypeAdapter(Record).validate_json(content)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    lines = [f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg'].removeprefix('Value error, ')}" for e in problems]
    more = [f"… and {len(lines) - NAMED} more"] * (len(lines) > NAMED)
    raise UserError("\n  ".join([f"{path} is no valid evaluation:", *lines[:NAMED], *more, "Evaluate the run again."]))


def _check_format(path: Path, content: bytes) -> None:
    """Raise UserError for what is no evaluation, or one of another version."""
    try:
        data = parse_json(content)
    except ValueError as error:
        raise UserError(
            f"{path} is no evaluation: it cannot be read as JSON ({error}). Evaluate the run again."
        ) from error
    found = data.get("format") if isinstance(data, Mapping) else None
    if found != FORMAT:
        raise UserError(f"{path} is no evaluation: its format is {reprlib.repr(found)}, expected {FORMAT!r}.")
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        raise UserError(f"{path} is of version {version}, newer than what this program reads ({VERSION}): update it.")
    if version != VERSION:
        version = reprlib.repr(version)
        again = command(data.get("run", "RUN_DIR"), data.get("split", "held-out"))
        raise UserError(
            f"{path} is of version {version}, without returns of the deterministic policy; this program reads version "
            f"{VERSION}. Evaluate the run again:\n  {again}"
        )


def _lists(arrays: Mapping[str, NDArray[np.floating]]) -> dict[str, list[list[float]]]:
    return {name: x.tolist() for name, x in arrays.items()}
