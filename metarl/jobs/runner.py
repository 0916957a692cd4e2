"""Runs many jobs, several at a time, each of them once.

A job is a few commands that fill one run directory. When all of them have succeeded, they are written to a mark in the
directory; a job whose directory has this mark is skipped. A job that was interrupted continues from its checkpoint. If
it had none yet, its directory is emptied and it starts anew; a directory with files that no run has made is refused.
The output of a job goes to a log beside its directory. A job that fails does not stop the others. Several processes may
run the same jobs: each job is run by one of them, and the others wait for it.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from metarl import runs
from metarl.config import shipped
from metarl.errors import UserError, shortened
from metarl.runs.console import PartProgress
from metarl.system.files import parse_json, write_atomically
from metarl.system.machine import available_cores

MARK = "finished.json"
WAIT = 0.5  # [s] between two checks of a lock, or of whether to stop
INTERVAL = 60.0  # [s] between two lines about the progress of the runs, if there is no terminal
OWN = {runs.CONFIG, runs.ABOUT, runs.METRICS, runs.CHECKPOINT, runs.BEST, MARK, "wandb", "videos", "figures"}
OWN |= {"learning.png", "sinusoid.png", "model.zip", "vecnormalize.pkl", "rl2.json"}
"""The names of what runs write to their directories."""


@dataclass(frozen=True)
class Job:
    """The commands that fill one run directory.

    The first word of a command is a Python file. If there is no such file, it is a command of metarl: in an installed
    package, `scripts/train.py` stands for `metarl train`.
    """

    run_dir: Path
    train: tuple[str, ...]
    """The first command and its arguments; `--run-dir` is added."""
    then: tuple[tuple[str, ...], ...] = ()
    """The commands that follow and their arguments; the run directory is inserted as their first argument."""
    resumable: bool = True
    """Whether `train` can continue with `--resume`; otherwise it starts anew."""
    mark_file: str = MARK
    """The file that marks it as done: another one where further jobs continue in the same directory."""

    @property
    def log(self) -> Path:
        """The file that its output goes to."""
        return self.run_dir.with_name(f"{self.run_dir.name}.log")

    @property
    def last_line(self) -> str:
        """The last line of its output, which says how far it is; empty if there is none yet."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return shortened(lines[-1]) if lines else ""

    @property
    def mark(self) -> dict[str, Any]:
        """What is written to a finished directory: the commands, and the content of the configs that they name."""
        commands = [list(self.train), *map(list, self.then)]
        configs = {word for command in commands for word in command if word.endswith(".yaml")}
        texts = {word: _uncommented(shipped.find(word).read_text(encoding="utf-8")) for word in sorted(configs)}
        return {"commands": commands, "configs": texts}

    @property
    def finished(self) -> bool:
        """Whether the directory has the mark of this job.

        Errors: UserError if it has the mark of other commands, or a damaged one.
        """
        path = self.run_dir / self.mark_file
        if not path.exists():
            return False
        if (found := _read(path)) != self.mark:
            same = found.get("commands") == self.mark["commands"]
            what = f"with another content of {', '.join(self.mark['configs'])}" if same else "by other commands"
            raise UserError(
                f"{self.run_dir} was filled {what}, as its {self.mark_file} says. Remove it to run it anew, or choose "
                "another folder."
            )
        return True

    def commands(self) -> list[list[str]]:
        """The commands to run now, as arguments for Python."""
        train = [*self.train, "--run-dir", str(self.run_dir)]
        if self.resumable and runs.has_checkpoint(self.run_dir):
            train.append("--resume")  # the settings are given as well: others than those of the run are refused
        then = ([script, str(self.run_dir), *rest] for script, *rest in self.then)
        return [_executable(command) for command in (train, *then)]

    def run(self, stop: threading.Event | None = None) -> bool:
        """Run the job, or wait for another process that runs it; returns whether it succeeded.

        Args:
            stop: when it is set, the waiting or the commands end.
        """
        with _turn(self.run_dir.with_name(f".{self.run_dir.name}.lock"), stop or threading.Event()) as turn:
            return self.finished or self._fill(stop or threading.Event(), turn)

    def check_own(self) -> None:
        """Raise UserError if the directory would be emptied, and holds files that no run has made."""
        if not self.run_dir.exists() or (self.resumable and runs.has_checkpoint(self.run_dir)):
            return
        names = {path.name for path in self.run_dir.iterdir()} - {runs.LOCK}
        foreign = sorted(name for name in names - OWN if not re.fullmatch(r"\..*\.tmp|rung-\d+\.json", name))
        if foreign or (names and runs.ABOUT not in names):
            what = ", ".join(foreign[:3]) or f"no {runs.ABOUT}"
            raise UserError(
                f"{self.run_dir} holds no checkpoint to go on from, but {what}, which no run of this program has made. "
                "It is left as it is: move it away, or choose another folder."
            )

    def _empty(self) -> None:
        """Remove what was left by a run that was interrupted before its first checkpoint."""
        self.check_own()
        if self.run_dir.exists() and not (self.resumable and runs.has_checkpoint(self.run_dir)):
            with runs.locked(self.run_dir):
                for path in self.run_dir.iterdir():
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    elif path.name != runs.LOCK:
                        path.unlink()

    def _fill(self, stop: threading.Event, turn: int) -> bool:
        self._empty()
        mark = self.mark  # with the configs as they are now: they may be edited while the job runs
        with self.log.open("a") as log:
            for command in self.commands():
                if stop.is_set() or _call([sys.executable, *command], log, stop, turn):
                    return False
        write_atomically(self.run_dir / self.mark_file, json.dumps(mark).encode())
        return True


def run_all(jobs: Sequence[Job], workers: int) -> list[Job]:
    """Run the jobs that are not finished, `workers` at a time, with a progress bar; returns those that failed.

    Errors: UserError, before anything runs, if a directory was filled by other commands.
    """
    waiting, stop = [job for job in jobs if not job.finished], threading.Event()
    for job in waiting:
        job.check_own()
    if waiting:
        cores = available_cores()
        crowd = f", on {cores} cores: more workers than cores take memory and gain no time" if workers > cores else ""
        print(f"{len(waiting)} of {len(jobs)} runs to do, {workers} at a time{crowd}", flush=True)
    failed = set()
    progress = PartProgress("runs", len(jobs), len(jobs) - len(waiting), lines=False)
    with progress, ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(job.run, stop): job for job in waiting}
        try:
            while running:
                done, _ = wait(running, INTERVAL, FIRST_COMPLETED)
                for future in done:
                    job, succeeded = running.pop(future), future.result()
                    progress.advance()
                    if not succeeded:
                        failed.add(job)
                        progress.note(f"failed: {job.run_dir}, see {job.log}")
                    elif not progress.is_bar:
                        progress.note(f"done: {job.run_dir}  {progress.status()}")
                if not done and not progress.is_bar:
                    for job in (job for future, job in running.items() if future.running()):
                        progress.note(f"{job.run_dir}: {job.last_line}")
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [job for job in waiting if job in failed]


def _call(command: Sequence[str], log: IO[str], stop: threading.Event, turn: int) -> int:
    """Run a command and return its exit status. When `stop` is set it gets SIGTERM, and saves what it has done.

    It holds the lock `turn` too: where this process is killed, the next one waits for the command, and goes on from it.
    """
    with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, pass_fds=(turn,)) as process:
        while not stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                return process.wait(WAIT)
        process.terminate()
        return process.wait()


def _read(path: Path) -> dict[str, Any]:
    """The content of a mark. Errors: UserError if it is damaged."""
    try:
        found = parse_json(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        found["configs"] = {name: _uncommented(text) for name, text in found.get("configs", {}).items()}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({shortened(str(error))}). Remove it to run the job again.") from error
    return found


def _uncommented(text: str) -> str:
    """A config without its comment lines: changes in these alone do not make a finished run unfinished."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _executable(command: Sequence[str]) -> list[str]:
    """Arguments for Python: the file, or the command of metarl of its name if there is no such file."""
    script, *rest = command
    return [script, *rest] if Path(script).is_file() else ["-m", "metarl", Path(script).stem, *rest]


@contextmanager
def _turn(path: Path, stop: threading.Event) -> Generator[int]:
    """Wait until no other process holds the lock at `path`, and hold it; its file descriptor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.wait(WAIT):
                    raise KeyboardInterrupt from None
            except OSError:  # a file system without locks
                break
        yield file.fileno()
