"""Many runs, one after another or side by side, each of them once.

A job is a few commands that fill one run directory. When all have succeeded the directory is marked with them; a job
whose mark is there already is skipped, and one that was interrupted goes on from its checkpoint. One that was
interrupted before its first checkpoint begins anew, in an empty directory: what is removed there was made by a run, and
where there is anything else, nothing is removed. What a job prints goes to a log beside its directory; a job that fails
does not stop the others. Several processes may run the same jobs: each job is run by one, and the others wait for it.
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
from metarl.files import write_atomically
from metarl.runs.console import PartProgress

MARK = "finished.json"
WAIT = 0.5  # [s] between two looks at a lock, or at whether to stop
INTERVAL = 60.0  # [s] after which it is printed how far the runs are, where there is no terminal
OWN = {runs.CONFIG, runs.ABOUT, runs.METRICS, runs.CHECKPOINT, runs.BEST, MARK, "wandb", "videos", "figures"}
OWN |= {"learning.png", "sinusoid.png"}
"""What runs leave in their directories."""


@dataclass(frozen=True)
class Job:
    """What fills one run directory."""

    run_dir: Path
    train: tuple[str, ...]
    """A script and its arguments, without `--run-dir`; a script that does not exist is the command of that name."""
    then: tuple[tuple[str, ...], ...] = ()
    """Scripts and arguments that follow, each with the run directory as its first argument."""
    resumable: bool = True
    """Whether `train` can go on with `--resume`; otherwise it begins anew."""

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.run_dir.with_name(f"{self.run_dir.name}.log")

    @property
    def last_line(self) -> str:
        """The last line of its output, such as the iteration that it has done; empty before there is one."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return shortened(lines[-1]) if lines else ""

    @property
    def mark(self) -> dict[str, Any]:
        """What the finished directory says of itself: the commands, and the content of the configs they name."""
        commands = [list(self.train), *map(list, self.then)]
        configs = {word for command in commands for word in command if word.endswith(".yaml")}
        texts = {word: _uncommented(shipped.find(word).read_text(encoding="utf-8")) for word in sorted(configs)}
        return {"commands": commands, "configs": texts}

    @property
    def finished(self) -> bool:
        """Whether everything has been done.

        Errors: UserError where other commands have filled the directory, or its mark is damaged.
        """
        path = self.run_dir / MARK
        if not path.exists():
            return False
        if (found := _read(path)) != self.mark:
            same = found.get("commands") == self.mark["commands"]
            what = f"with another content of {', '.join(self.mark['configs'])}" if same else "by other commands"
            raise UserError(
                f"{self.run_dir} was filled {what}, as its {MARK} says. Remove it to run it anew, or choose another "
                "folder."
            )
        return True

    def commands(self) -> list[list[str]]:
        """What is to be run now."""
        train = [*self.train, "--run-dir", str(self.run_dir)]
        if self.resumable and runs.has_checkpoint(self.run_dir):
            train.append("--resume")  # with the settings, which are refused where others began the run
        then = ([script, str(self.run_dir), *rest] for script, *rest in self.then)
        return [_executable(command) for command in (train, *then)]

    def run(self, stop: threading.Event | None = None) -> bool:
        """Do it, or wait for another process that does; whether it succeeded.

        Args:
            stop: ends the waiting, and the commands, when it is set.
        """
        with _turn(self.run_dir.with_name(f".{self.run_dir.name}.lock"), stop or threading.Event()):
            return self.finished or self._fill(stop or threading.Event())

    def check_own(self) -> None:
        """Raise UserError where the directory holds what no run has made, and would have to be emptied."""
        if not self.run_dir.exists() or (self.resumable and runs.has_checkpoint(self.run_dir)):
            return
        names = {path.name for path in self.run_dir.iterdir()} - {runs.LOCK}
        foreign = sorted(name for name in names - OWN if not re.fullmatch(r"\..*\.tmp", name))
        if foreign or (names and runs.ABOUT not in names):
            what = ", ".join(foreign[:3]) or f"no {runs.ABOUT}"
            raise UserError(
                f"{self.run_dir} holds no checkpoint to go on from, but {what}, which no run of this program has made. "
                "It is left as it is: move it away, or choose another folder."
            )

    def _empty(self) -> None:
        """Remove what a run that never got to its first checkpoint has left."""
        self.check_own()
        if self.run_dir.exists() and not (self.resumable and runs.has_checkpoint(self.run_dir)):
            with runs.locked(self.run_dir):
                for path in self.run_dir.iterdir():
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    elif path.name != runs.LOCK:
                        path.unlink()

    def _fill(self, stop: threading.Event) -> bool:
        self._empty()
        mark = self.mark  # as the configs are now
        with self.log.open("a") as log:
            for command in self.commands():
                if stop.is_set() or _call([sys.executable, *command], log, stop):
                    return False
        write_atomically(self.run_dir / MARK, json.dumps(mark).encode())
        return True


def run_all(jobs: Sequence[Job], workers: int) -> list[Job]:
    """Run what is not finished, `workers` at a time, with a bar; the jobs that failed.

    Errors: UserError, before anything runs, where a directory was filled by other commands.
    """
    waiting, stop = [job for job in jobs if not job.finished], threading.Event()
    for job in waiting:
        job.check_own()
    if waiting:
        print(f"{len(waiting)} of {len(jobs)} runs to do, {workers} at a time", flush=True)
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


def _call(command: Sequence[str], log: IO[str], stop: threading.Event) -> int:
    """Run a command to its exit status; one that `stop` meets is asked to end, which keeps what it has done."""
    with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
        while not stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                return process.wait(WAIT)
        process.terminate()
        return process.wait()


def _read(path: Path) -> dict[str, Any]:
    """What a mark says. Errors: UserError where it is damaged."""
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        found["configs"] = {name: _uncommented(text) for name, text in found.get("configs", {}).items()}
    except (ValueError, RecursionError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({shortened(str(error))}). Remove it to run the job again.") from error
    return found


def _uncommented(text: str) -> str:
    """A config without its comment lines: where only they have changed, a finished run stays finished."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _executable(command: Sequence[str]) -> list[str]:
    """What Python is called with: a script, or the command of its name where there is none."""
    script, *rest = command
    return [script, *rest] if Path(script).is_file() else ["-m", "metarl", Path(script).stem, *rest]


@contextmanager
def _turn(path: Path, stop: threading.Event) -> Generator[None]:
    """Wait until no other process holds the lock at `path`, and hold it."""
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
        yield
