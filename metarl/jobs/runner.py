"""Many runs, one after another or side by side, each of them once.

A job is a few commands that fill one run directory. When all have succeeded the directory is marked with them; a job
whose mark is there already is skipped, and one that was interrupted goes on from its checkpoint. What a job prints goes
to a log beside its directory; a job that fails does not stop the others.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl import runs
from metarl.errors import UserError
from metarl.files import write_atomically
from metarl.runs.console import counting

MARK = "finished.json"


@dataclass(frozen=True)
class Job:
    """What fills one run directory."""

    run_dir: Path
    train: tuple[str, ...]
    """A script and its arguments, without `--run-dir`."""
    then: tuple[tuple[str, ...], ...] = ()
    """Scripts and arguments that follow, each with the run directory as its first argument."""
    resumable: bool = True
    """Whether `train` can go on with `--resume`; otherwise it begins anew."""

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.run_dir.with_suffix(".log")

    @property
    def mark(self) -> dict[str, Any]:
        """What the finished directory says of itself: the commands, and the content of the configs they name."""
        commands = [list(self.train), *map(list, self.then)]
        configs = {word for command in commands for word in command if word.endswith(".yaml") and Path(word).is_file()}
        return {"commands": commands, "configs": {word: Path(word).read_text() for word in sorted(configs)}}

    @property
    def finished(self) -> bool:
        """Whether everything has been done. Errors: UserError where other commands have filled the directory."""
        path = self.run_dir / MARK
        if not path.exists():
            return False
        if (found := json.loads(path.read_text())) != self.mark:
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
        return [train, *([script, str(self.run_dir), *rest] for script, *rest in self.then)]

    def run(self) -> bool:
        """Do it; whether it succeeded."""
        self.run_dir.parent.mkdir(parents=True, exist_ok=True)
        if self.run_dir.exists() and not (self.resumable and runs.has_checkpoint(self.run_dir)):
            shutil.rmtree(self.run_dir)
        mark = self.mark  # as the configs are now
        with self.log.open("a") as log:
            for command in self.commands():
                process = subprocess.run([sys.executable, *command], stdout=log, stderr=subprocess.STDOUT, check=False)
                if process.returncode:
                    return False
        write_atomically(self.run_dir / MARK, json.dumps(mark).encode())
        return True


def run_all(jobs: Sequence[Job], workers: int) -> list[Job]:
    """Run what is not finished, `workers` at a time, with a bar; the jobs that failed.

    Errors: UserError, before anything runs, where a directory was filled by other commands.
    """
    waiting = [job for job in jobs if not job.finished]
    with counting("runs") as progress, ThreadPoolExecutor(workers) as pool:
        bar = progress.add_task("", total=len(jobs), completed=len(jobs) - len(waiting))
        failed = []
        try:
            for job, succeeded in zip(waiting, pool.map(Job.run, waiting), strict=True):
                progress.advance(bar)
                if not succeeded:
                    failed.append(job)
                    progress.console.print(f"failed: {job.run_dir}, see {job.log}", highlight=False)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return failed
