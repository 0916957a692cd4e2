"""Metrics on disk and in Weights & Biases (W&B), from one object that never stops a run.

Every row of numbers goes to `RUN_DIR/metrics.jsonl` and, unless switched off, to a W&B run under
`RUN_DIR/wandb`. Without a W&B login the run is recorded offline: look at it with `wandb leet DIR`, upload it
with `wandb sync DIR`.

What runs log, by the sections that W&B makes of the part before the slash. SPLIT is that of the test: `validation`.

    train/return_before, train/return_after    mean return of an iteration's episodes before and after adaptation
    SPLIT/return_k_steps                       mean return on the test tasks after k = 0, 1, … adaptation steps
    SPLIT/gain                                 return after the last step less that before adaptation
    SPLIT/…_low, SPLIT/…_high                  of the gain and of the last return: 95% interval over tasks
    SPLIT/returns                              table: the return on each test task after each step
    rollouts/tasks                             table: the filmed test tasks with returns, gain and video
    rollouts/task-00, …                        one video each; `metarl render` adds others
    figures/learning, figures/sinusoid         pictures at the end; baseline.py adds figures/baseline
    update/…                                   metrics of the outer step, such as kl
    time/…_s, time/environment_steps_per_s     seconds of the parts of an iteration, and of all of it; its speed
    time/training_s                            seconds of all iterations before; tests are not counted
    test/error_after_k_steps                   of few-shot regression: mean squared error after k steps
    sb3/…                                      what Stable-Baselines3 logs; baseline.py adds sb3/from_scratch/… and
                                               others, the mean over goals, at steps that go on from training's

A table of runs sorts by the summary. There, without a slash, stand `return_before_adaptation`,
`return_after_adaptation` and `gain` of the last test, `best_return_after_adaptation` of all tests, also of those before
a run was resumed, and `iteration`, `environment_steps` and `time/training_s`, which every row has.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args

from metarl.errors import UserError, end_undisturbed, nearest
from metarl.files import append_whole, parse_json, write_atomically
from metarl.runs import parts
from metarl.runs.parts import RowId, row_id

if TYPE_CHECKING:
    import wandb

Mode = Literal["auto", "online", "offline", "disabled"]
OLD_MODES = {"dryrun": "offline", "run": "online"}
"""What W&B's own modes were called before, and still are in WANDB_MODE."""
Axis = Literal["environment_steps", "iteration"]
Cell = str | float | int | bool | None
"""What a table holds besides videos, and a summary."""

METRICS_FILE = "metrics.jsonl"
TRAINING_S = "time/training_s"
INIT_TIMEOUT = 20.0  # [s] an unreachable server is given up after this long
FINISH_TIMEOUT = 300.0  # [s] for uploading what is left; the rest stays on disk for `wandb sync`


class Tracker:
    """Writes metrics to `metrics.jsonl` and to a W&B run; build it with `Tracker.open`.

    A failure of W&B or of the disk is reported once, as a RuntimeWarning, and the run goes on: without W&B
    after its first exception, while lines for `metrics.jsonl` are tried again each time. Only where the run directory
    was removed, a row raises FileNotFoundError. Every row names its `iteration` and, where there is an environment, its
    `environment_steps` (of all tasks together) and `time/training_s`, both since the start: the seconds are the sum of
    every `time/iteration_s` in metrics.jsonl.

    As a context manager it closes at the end, and an exception marks the run as failed.
    """

    def __init__(self, run_dir: Path, run: wandb.Run | None) -> None:
        self._metrics_path = run_dir / METRICS_FILE
        self._metrics_failed = False
        self._training_s = sum(map(_iteration_s, read_metrics(self._metrics_path)))
        self._run = run
        # Kept apart from the run, so that it can still be printed after closing. `dir` is DIR/files.
        self._wandb_dir = None if run is None else Path(run.dir).parent
        self._published: list[RowId] = []
        self._certain = True
        """Whether these are just the published ones: an interrupt in the midst of one leaves that open."""
        self._held: Counter[RowId] = Counter()
        """Rows that earlier parts hold and metrics.jsonl no longer does: those that a resumed run computes again."""
        if run is not None and run.offline:
            self._replay()

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
        """Start tracking into `run_dir`, which is created if missing; nothing here ever prompts.

        Args:
            config: The resolved configuration, as plain values (numbers, strings, lists, dicts).
            mode: `auto` follows WANDB_MODE where it is set; otherwise it is online with a W&B login and
                offline without. `online` without a login or network is recorded offline, with a warning.
            run_id: Names the run for W&B. The same id again continues the run: at once when online, else when
                its parts meet in `wandb sync`. A sweep agent's WANDB_RUN_ID takes precedence.
            axis: What W&B draws everything against.

        Raises:
            UserError: `mode` or WANDB_MODE is not one of the modes.
        """
        wanted = requested_mode(mode)
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
        return cls(run_dir, None if wanted == "disabled" else _start(wanted, arguments, axis))

    @property
    def wandb_dir(self) -> Path | None:
        """W&B's directory for this run, for `wandb leet` and `wandb sync`; None where W&B never started."""
        return self._wandb_dir

    def log(self, metrics: Mapping[str, float], *, iteration: int, environment_steps: int | None = None) -> None:
        """Record scalars, e.g. `{"train/return": 212.5}`, of Python or NumPy, or one-element tensors.

        JSON has no NaN or infinity, so `metrics.jsonl` holds null in their place.
        """
        scalars = {key: float(value) for key, value in metrics.items()}
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
        """Record a table, its cells in the order of `columns`; in JSON `{"columns": …, "rows": …}`.

        The path of an MP4 shows the video, of which W&B takes its own copy; in JSON it is the path from the run.
        """
        at = self._at(iteration, environment_steps)
        written = [[self._named(cell) if isinstance(cell, Path) else _plain(cell) for cell in row] for row in rows]
        row = {**at, key: {"columns": list(columns), "rows": written}}
        self._append(row)

        def shown(wandb: Any) -> dict[str, Any]:
            cells = [[_video(wandb, cell) if isinstance(cell, Path) else _plain(cell) for cell in row] for row in rows]
            return {**at, key: wandb.Table(columns=list(columns), data=cells)}

        self._publish_row(row_id(row), shown)

    def image(
        self,
        key: str,
        png_path: Path,
        caption: str | None = None,
        *,
        iteration: int,
        environment_steps: int | None = None,
    ) -> None:
        """Show a PNG in W&B, which takes its own copy of the file."""
        at = self._at(iteration, environment_steps)
        self._show(key, lambda wandb: wandb.Image(str(png_path), caption=caption), at)

    def video(
        self,
        key: str,
        mp4_path: Path,
        caption: str | None = None,
        *,
        iteration: int,
        environment_steps: int | None = None,
    ) -> None:
        """Show an MP4 in W&B, which takes its own copy of the file, as encoded."""
        at = self._at(iteration, environment_steps)
        self._show(key, lambda wandb: _video(wandb, mp4_path, caption), at)

    def artifact(
        self,
        path: Path,
        name: str,
        kind: str,
        aliases: Sequence[str] = ("latest",),
        metadata: Mapping[str, Cell] | None = None,
    ) -> None:
        """Keep a version of a file, e.g. a checkpoint, as the W&B artifact `name` of type `kind`.

        W&B takes its own copy at once, so the file may be overwritten before an offline run is uploaded; the copies
        stay below RUN_DIR/wandb/data. An alias names one version, the last that it was given to.
        """

        def publish(run: wandb.Run) -> None:
            import wandb

            about = {key: _plain(value) for key, value in (metadata or {}).items()}
            artifact = wandb.Artifact(name, kind, metadata=about)
            artifact.add_file(str(path))
            run.log_artifact(artifact, aliases=list(aliases))

        self._publish(publish)

    def summary(self, mapping: Mapping[str, Cell]) -> None:
        """Set the numbers by which W&B's run table compares runs, e.g. the final held-out return."""
        self._publish(lambda run: run.summary.update({key: _scalar(value) for key, value in mapping.items()}))

    def close(self, exit_code: int = 0) -> None:
        """Finish the W&B run; a non-zero `exit_code` marks it as failed. Closing twice does nothing."""
        self._publish(lambda run: run.finish(exit_code=exit_code))
        if self._run is not None and self._wandb_dir is not None and self._certain:
            parts.add(self._wandb_dir.parent, self._wandb_dir.name, self._published)
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
        """Where a row belongs; without an environment there are no steps to name."""
        at: dict[str, int | float] = {"iteration": int(iteration)}
        if environment_steps is not None:
            at |= {"environment_steps": int(environment_steps), TRAINING_S: self._training_s}
        return at

    def _append(self, row: Mapping[str, object]) -> None:
        """Add one line to `metrics.jsonl`, whole or not at all."""
        line = json.dumps(row, allow_nan=False) + "\n"
        try:
            append_whole(self._metrics_path, line.encode())
        except OSError as error:
            if not self._metrics_path.parent.is_dir():
                raise gone(self._metrics_path.parent) from error
            if not self._metrics_failed:
                _warn(f"cannot write {self._metrics_path} ({error}); lines are lost until that is possible")
            self._metrics_failed = True

    def _named(self, file: Path) -> str:
        """A file by its path from the run directory, where it lies below."""
        run_dir = self._metrics_path.parent
        return str(file.relative_to(run_dir) if file.is_relative_to(run_dir) else file)

    def _show(self, key: str, make: Callable[[Any], object], at: Mapping[str, int | float]) -> None:
        """Log what `make` builds from the wandb module; a run without W&B never imports it."""

        def publish(run: wandb.Run) -> None:
            import wandb

            run.log({**at, key: make(wandb)})

        self._publish(publish)

    def _replay(self) -> None:
        """Publish the rows of metrics.jsonl that no earlier part holds, so that all parts hold each row once."""
        assert self._wandb_dir is not None
        rows = read_metrics(self._metrics_path)
        self._held = parts.held(self._wandb_dir.parent, besides=self._wandb_dir.name)
        missing = []
        for row in rows:
            if self._held[row_id(row)]:
                self._held[row_id(row)] -= 1
            else:
                missing.append(row)
        for row in missing:
            self._publish_row(row_id(row), partial(_replayed, row), again=True)

    def _publish_row(self, name: RowId, make: Callable[[Any], dict[str, Any]], *, again: bool = False) -> None:
        """Log what `make` builds from the wandb module, unless an earlier part holds it."""
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
        """Do `action` with the W&B run, if there is one; its first exception ends W&B and nothing else."""
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:  # whatever W&B raises, training is worth more
            broken, self._run = self._run, None
            _warn(f"W&B stopped ({_describe(error)}); metrics go on in {self._metrics_path}")
            with contextlib.suppress(Exception):  # what was logged is kept, and the run id is free again
                broken.finish(exit_code=1)


def gone(run_dir: Path) -> FileNotFoundError:
    """The error for a run directory that was there when the run began."""
    reason = "this run directory was removed while it was written to: nothing more can be saved"
    return FileNotFoundError(errno.ENOENT, reason, str(run_dir))


def _replayed(row: Mapping[str, Any], wandb: Any) -> dict[str, Any]:
    """A row of metrics.jsonl as it was logged; videos in tables by their paths, as later tests replace the files."""
    return {key: shown for key, value in row.items() if (shown := _replayed_value(value, wandb)) is not None}


def _replayed_value(value: Any, wandb: Any) -> Any:
    """A number or a table; None for anything else, which no tracker has written."""
    match value:
        case None:
            return math.nan
        case int() | float():
            return value
        case {"columns": list(columns), "rows": list(rows)}:
            with contextlib.suppress(Exception):  # it may have been edited by hand
                return wandb.Table(columns=columns, data=rows)
    return None


def truncate_metrics(path: Path, iteration: int) -> int:
    """Cut `metrics.jsonl` back to the rows with `row["iteration"] <= iteration`, before resuming from there.

    A line that is not a whole JSON object (torn by a crash) is dropped. The file is replaced in one step; a
    missing file is left missing.

    Returns:
        The number of rows kept.
    """
    if not path.exists():
        return 0
    kept = [line for line in path.read_bytes().splitlines() if _is_row_until(line, iteration)]
    write_atomically(path, b"".join(line + b"\n" for line in kept))
    return len(kept)


def _is_row_until(line: bytes, iteration: int) -> bool:
    row = _row(line)
    return row is not None and row["iteration"] <= iteration


def _row(line: bytes) -> dict[str, Any] | None:
    """The row that a line holds; None for one that is torn: not JSON, or cut inside a character."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("iteration"), int) else None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole rows of `metrics.jsonl`; none where it cannot be read."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    return [row for line in lines if (row := _row(line)) is not None]


def requested_mode(mode: str) -> Mode:
    """`mode`, or for `auto` WANDB_MODE where that is set. Errors: UserError where it is no mode."""
    source, wanted = "mode", mode
    if os.environ.get("WANDB_MODE") == "":  # W&B takes an empty one for a wrong one
        del os.environ["WANDB_MODE"]
    if mode == "auto" and os.environ.get("WANDB_MODE"):
        source, wanted = "WANDB_MODE", os.environ["WANDB_MODE"]
        wanted = OLD_MODES.get(wanted, wanted)
    if wanted not in get_args(Mode):
        raise UserError(f"{source} is {wanted!r}.{nearest(wanted, get_args(Mode))}")
    return cast(Mode, wanted)


def _logged_in() -> bool:
    """Whether W&B has credentials (environment, netrc, its settings). Never asks; reports broken ones."""
    try:
        import wandb

        return wandb.login(prompt=False, verify=False)
    except Exception as error:
        _warn(f"no usable W&B login ({_describe(error)})")
        return False


def _start(mode: Mode, arguments: Mapping[str, Any], axis: Axis) -> wandb.Run | None:
    """Start a W&B run, online if wanted and possible, else offline; if not even that, warn and give None."""
    # W&B copies tables and artifacts into the home directory, unless told: an offline run needs them until it
    # is uploaded, and a home directory may be small or read-only.
    os.environ.setdefault("WANDB_DATA_DIR", str(arguments["dir"] / "wandb" / "data"))
    online = mode != "offline" and _logged_in()
    if mode == "online" and not online:
        _warn("there is no W&B login (`wandb login` makes one); the run is recorded offline")
    if online:
        try:
            return _init("online", arguments, axis)
        except Exception as error:
            _warn(f"W&B did not start online ({_describe(error)}); the run is recorded offline")
            _forget_failed_start()
    try:
        return _init("offline", arguments, axis)
    except Exception as error:
        _warn(f"W&B did not start ({_describe(error)}); metrics go on in {arguments['dir'] / METRICS_FILE}")
        return None


def _init(mode: Literal["online", "offline"], arguments: Mapping[str, Any], axis: Axis) -> wandb.Run:
    """Start a W&B run of its own, whatever other runs this process has; any exception is W&B's."""
    import wandb

    settings = wandb.Settings(
        console="off",
        x_disable_stats=True,
        init_timeout=INIT_TIMEOUT,
        finish_timeout=FINISH_TIMEOUT,
        reinit="create_new",
        quiet=True,
        silent=mode == "offline",  # online, W&B's few lines name the page to look at
    )
    # Offline, `resume` does nothing but draw a warning.
    resume = "allow" if mode == "online" else None
    run = wandb.init(mode=mode, resume=resume, settings=settings, **arguments)
    run.define_metric("iteration")
    run.define_metric("environment_steps")
    run.define_metric(TRAINING_S)
    # Methods differ in what an iteration costs, and W&B's own step counts calls: environment steps are the
    # axis on which runs compare. Every row names its iteration and seconds too: any plot can be switched to them.
    run.define_metric("*", step_metric=axis)
    return run


def _forget_failed_start() -> None:
    """Restart W&B's service, which otherwise holds the run id of a failed start as "in use"."""
    import wandb

    try:
        wandb.teardown()
    except Exception as error:
        _warn(f"W&B did not shut down ({_describe(error)})")


def _iteration_s(row: Mapping[str, Any]) -> float:
    """The seconds of the iteration that a row is about; 0 where it is about something else."""
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
    """`value` as strict JSON has it."""
    scalar = _scalar(value)
    return _finite(scalar) if isinstance(scalar, float) else scalar


def _describe(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
