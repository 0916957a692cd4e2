"""Write metrics to disk and to Weights & Biases (W&B). A failure of W&B never stops a run.

Every row of numbers goes to `RUN_DIR/metrics.jsonl` and, unless tracking is disabled, to a W&B run in `RUN_DIR/wandb`.
Without a W&B login the run is recorded offline: `wandb leet DIR` shows it and `wandb sync DIR` uploads it.

The names of what runs log; W&B makes a section of the part before the slash. SPLIT is the split of the test during
training, such as `validation`.

    train/return_before, train/return_after    mean return of an iteration's episodes before and after adaptation
    SPLIT/return_k_steps                       mean return on the test tasks after k = 0, 1, … adaptation steps
    SPLIT/gain                                 return after the last step minus return before adaptation
    SPLIT/…_spread_over_tasks                  standard deviation over tasks, of the gain and of the last return
    SPLIT/returns                              table: the return on each test task after each step
    rollouts/tasks                             table: the filmed test tasks with returns, gain and video
    rollouts/task-00, …                        videos of test tasks; `metarl render --wandb` adds others
    figures/learning, figures/sinusoid         pictures at the end; `metarl baseline` adds figures/baseline
    update/…                                   metrics of the outer step, such as kl
    time/…_s                                   [s] duration of an iteration and of its parts
    time/environment_steps_per_s               speed of an iteration
    time/training_s                            [s] duration of all iterations before, without tests
    test/error_after_k_steps                   few-shot regression: mean squared error after k steps
    sb3/…                                      what Stable-Baselines3 logs. `metarl baseline` adds sb3/from_scratch/…
                                               and others: means over test tasks, at the environment steps of training
                                               plus those on the task

The summary, by which W&B sorts its table of runs, has `return_before_adaptation`, `return_after_adaptation` and `gain`
of the last test, `best_return_after_adaptation` of all tests (also those before a resume), and `iteration`,
`environment_steps` and `time/training_s`, which every row has.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from metarl.errors import end_undisturbed
from metarl.runs import parts, wandb_run
from metarl.runs.metrics import METRICS, TRAINING_S, read_metrics
from metarl.runs.parts import RowId, row_id
from metarl.runs.wandb_run import Axis, Mode, in_one_line, requested_mode, warn
from metarl.system.files import append_whole

if TYPE_CHECKING:
    import wandb

Cell = str | float | int | bool | None
"""A value in a summary, or in a table beside videos."""


class Tracker:
    """Writes metrics to `metrics.jsonl` and to a W&B run; build it with `Tracker.open`.

    Every row has its `iteration` and, where there is an environment, its `environment_steps` (of all tasks) and its
    `time/training_s`, both since the start of training. The seconds are the sum of `time/iteration_s` in metrics.jsonl.

    The first failure of W&B is a RuntimeWarning, and nothing more goes to W&B. The first failure to write
    `metrics.jsonl` is a RuntimeWarning too; later rows are still tried. Where the run directory was removed, writing a
    row raises FileNotFoundError.

    As a context manager it closes itself at the end, and an exception marks the W&B run as failed.
    """

    def __init__(self, run_dir: Path, run: wandb.Run | None) -> None:
        self._metrics_path = run_dir / METRICS
        self._metrics_failed = False
        rows = read_metrics(self._metrics_path)
        self._training_s = sum(map(_iteration_s, rows))
        self._run = run
        self.wandb_dir = None if run is None else Path(run.dir).parent  # `run.dir` is its folder `files`
        """W&B's directory of this run, for `wandb leet` and `wandb sync`; None where W&B did not start."""
        self._published: list[RowId] = []
        self._certain = True
        """False while a row is published, and after an interrupt in between: the row may or may not be in W&B."""
        self._held: Counter[RowId] = Counter()
        """Rows that an earlier part of the W&B run holds and that a resumed run computes again."""
        if run is not None and run.offline:
            self._replay(rows)

    @classmethod
    def open(
        cls,
        run_dir: Path,
        config: Mapping[str, Any],
        *,
        mode: Mode,
        project: str,
        group: str | None,
        name: str | None,
        run_id: str,
        tags: Sequence[str] = (),
        job_type: str = "train",
        axis: Axis = "environment_steps",
    ) -> Self:
        """Start tracking into `run_dir`, which is created if missing. It never asks for anything.

        Args:
            config: all settings as plain values (numbers, strings, lists, dicts).
            mode: `auto` takes WANDB_MODE where it is set; otherwise it is online with a W&B login and offline without.
                `online` without a login or a network is recorded offline, with a warning.
            run_id: the id of the run in W&B. The same id again continues the run: at once if online, and in
                `wandb sync` if offline. WANDB_RUN_ID, which the agent of a sweep sets, comes first.
            axis: the x axis of all plots in W&B.

        Raises:
            UserError: `mode` or WANDB_MODE is not one of the modes.
        """
        mode = requested_mode(mode)
        run_dir.mkdir(parents=True, exist_ok=True)
        arguments = {
            "dir": run_dir.absolute(),
            "config": dict(config),
            "project": project,
            "group": group,
            "name": name,
            "id": os.environ.get("WANDB_RUN_ID") or run_id,
            "tags": tuple(dict.fromkeys(tags)),
            "job_type": job_type,
        }
        return cls(run_dir, wandb_run.start(mode, arguments, axis))

    def log(self, metrics: Mapping[str, float], *, iteration: int, environment_steps: int | None = None) -> None:
        """Record a row of scalars, such as `{"train/return": 212.5}`: numbers, NumPy scalars or one-element tensors.

        NaN and infinity, which JSON lacks, are null in `metrics.jsonl`.
        """
        scalars = {key: float(value) + 0.0 for key, value in metrics.items()}  # W&B has no -0.0
        at = self._at(iteration, environment_steps)
        row = {**at, **{key: _finite(value) for key, value in scalars.items()}}
        self._append(row)
        self._publish_row(row_id(row), lambda wandb: {**at, **scalars})
        self._training_s += _iteration_s(row)

    def table(
        self,
        key: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell | Path]],
        *,
        iteration: int,
        environment_steps: int | None = None,
    ) -> None:
        """Record a table; in JSON `{"columns": …, "rows": …}`.

        Args:
            rows: cells in the order of `columns`. The path of an MP4 becomes a video in W&B, which copies the file, and
                a path relative to the run directory in JSON.
        """
        at = self._at(iteration, environment_steps)
        written = [[self._named(cell) if isinstance(cell, Path) else _plain(cell) for cell in row] for row in rows]
        row = {**at, key: {"columns": list(columns), "rows": written}}
        self._append(row)

        def shown(wandb: Any) -> dict[str, Any]:
            cells = [[_video(wandb, cell) if isinstance(cell, Path) else _plain(cell) for cell in row] for row in rows]
            return {**at, key: wandb.Table(columns=list(columns), data=cells)}

        self._publish_row(row_id(row), shown)

    def media(
        self,
        key: str,
        file: Path,
        caption: str | None = None,
        *,
        iteration: int,
        environment_steps: int | None = None,
    ) -> None:
        """Show a PNG or an MP4 in W&B, which copies the file. `metrics.jsonl` has no row of it."""
        at = self._at(iteration, environment_steps)

        def publish(run: wandb.Run) -> None:
            import wandb

            is_video = file.suffix == ".mp4"
            shown = _video(wandb, file, caption) if is_video else wandb.Image(str(file), caption=caption)
            run.log({**at, key: shown})

        self._publish(publish)

    def artifact(
        self,
        path: Path,
        name: str,
        kind: str,
        aliases: Sequence[str] = ("latest",),
        metadata: Mapping[str, Cell] | None = None,
    ) -> None:
        """Add a file, such as a checkpoint, as a new version of the W&B artifact `name` of type `kind`.

        W&B copies the file at once, into RUN_DIR/wandb/data, so it may be overwritten before an offline run is
        uploaded. An alias belongs to the last version that it was given to.
        """

        def publish(run: wandb.Run) -> None:
            import wandb

            about = {key: _plain(value) for key, value in (metadata or {}).items()}
            artifact = wandb.Artifact(name, kind, metadata=about)
            artifact.add_file(str(path))
            run.log_artifact(artifact, aliases=list(aliases))

        self._publish(publish)

    def summary(self, mapping: Mapping[str, Cell]) -> None:
        """Set values in the summary of the W&B run, such as the return of the last test."""
        self._publish(lambda run: run.summary.update({key: _scalar(value) for key, value in mapping.items()}))

    def close(self, exit_code: int = 0) -> None:
        """Finish the W&B run; an `exit_code` other than 0 marks it as failed. A second call does nothing."""
        self._publish(lambda run: run.finish(exit_code=exit_code))
        if self._run is not None and self.wandb_dir is not None and self._certain:
            parts.add(self.wandb_dir.parent, self.wandb_dir.name, self._published)
        self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            end_undisturbed()
        self.close(exit_code=0 if kind is None else 1)

    def _at(self, iteration: int, environment_steps: int | None) -> dict[str, int | float]:
        """The position of a row: its iteration and, if there is an environment, its environment steps and seconds."""
        at: dict[str, int | float] = {"iteration": int(iteration)}
        if environment_steps is not None:
            at |= {"environment_steps": int(environment_steps), TRAINING_S: self._training_s}
        return at

    def _append(self, row: Mapping[str, object]) -> None:
        """Add one line to `metrics.jsonl`: the whole line or, where that fails, nothing."""
        line = json.dumps(row, allow_nan=False) + "\n"
        try:
            append_whole(self._metrics_path, line.encode())
        except OSError as error:
            if not self._metrics_path.parent.is_dir():
                raise gone(self._metrics_path.parent) from error
            if not self._metrics_failed:
                warn(f"cannot write {self._metrics_path} ({error}); rows are lost until that is possible")
            self._metrics_failed = True

    def _named(self, file: Path) -> str:
        """The path of a file, relative to the run directory if it is in there."""
        run_dir = self._metrics_path.parent
        return str(file.relative_to(run_dir) if file.is_relative_to(run_dir) else file)

    def _replay(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Publish those rows of metrics.jsonl that no earlier part of the W&B run holds: W&B has each row once."""
        assert self.wandb_dir is not None
        self._held = parts.held(self.wandb_dir.parent, besides=self.wandb_dir.name)
        missing = []
        for row in rows:
            if self._held[row_id(row)]:
                self._held[row_id(row)] -= 1
            else:
                missing.append(row)
        for row in missing:
            self._publish_row(row_id(row), partial(_replayed, row), again=True)

    def _publish_row(self, name: RowId, make: Callable[[Any], dict[str, Any]], *, again: bool = False) -> None:
        """Log the row that `make` builds with the wandb module, unless an earlier part of the W&B run holds it."""
        if self._held[name] and not again:
            self._held[name] -= 1
            return

        def publish(run: wandb.Run) -> None:
            import wandb

            run.log(make(wandb))

        self._certain, certain = False, self._certain
        self._publish(publish)
        self._published.append(name)
        self._certain = certain

    def _publish(self, action: Callable[[wandb.Run], object]) -> None:
        """Call `action` with the W&B run, if there is one. After its first exception there is none."""
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:  # no error of W&B may end training
            broken, self._run = self._run, None
            warn(f"W&B stopped ({in_one_line(error)}); metrics are still written to {self._metrics_path}")
            with contextlib.suppress(Exception):  # keeps what was logged, and frees the run's id
                broken.finish(exit_code=1)


def gone(run_dir: Path) -> FileNotFoundError:
    """The error for a run directory that was removed while the run was trained."""
    reason = "this run directory was removed while it was written to: nothing more can be saved"
    return FileNotFoundError(errno.ENOENT, reason, str(run_dir))


def _replayed(row: Mapping[str, Any], wandb: Any) -> dict[str, Any]:
    """A row of metrics.jsonl, to be logged again. Videos in tables stay paths: a later test may have replaced them."""
    return {key: shown for key, value in row.items() if (shown := _replayed_value(value, wandb)) is not None}


def _replayed_value(value: Any, wandb: Any) -> Any:
    """A number or a table; None for anything else, which was not written by a tracker."""
    match value:
        case None:
            return math.nan
        case int() | float():
            return value
        case {"columns": list(columns), "rows": list(rows)}:
            with contextlib.suppress(Exception):  # it may have been edited by hand
                return wandb.Table(columns=columns, data=rows)
    return None


def _iteration_s(row: Mapping[str, Any]) -> float:
    """The duration [s] of the iteration in a row; 0 for rows of other things."""
    seconds = row.get("time/iteration_s")
    return seconds if isinstance(seconds, int | float) else 0.0


def _video(wandb: Any, mp4_path: Path, caption: str | None = None) -> object:
    return wandb.Video(str(mp4_path), caption=caption, format="mp4")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _scalar(value: Any) -> Cell:
    """`value` as a plain Python value: NumPy scalars and one-element tensors become floats."""
    return value if value is None or isinstance(value, str | bool | int) else float(value)


def _plain(value: Any) -> Cell:
    """`value` for strict JSON: NaN and infinity become None."""
    scalar = _scalar(value)
    return _finite(scalar) if isinstance(scalar, float) else scalar
