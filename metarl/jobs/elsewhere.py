"""Jobs of one command that run here, or on other machines by GNU parallel, a SLURM array or ssh."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pydantic import Field

from metarl.config.settings import settings
from metarl.errors import RunFailed, UserError, nearest
from metarl.jobs.runner import Job, run_all
from metarl.runs.console import command
from metarl.system.machine import available_cores


@settings
class JobOptions:
    """The options by which the jobs of a command are run."""

    workers: int | None = Field(None, ge=1)
    """Runs at a time, of one thread each (default: as many as cores)."""
    print_jobs: bool = False
    """Print a command for each run that is not finished, one a line, and end. They may run on any machine that sees the
    folder of the runs."""
    job: str | None = None
    """Do only the run in this folder, and end; --print-jobs prints it."""
    collect: bool = False
    """Run nothing: make tables and figures of the runs that are finished."""

    def __post_init__(self) -> None:
        if self.collect and (self.print_jobs or self.job):
            raise ValueError("--collect runs nothing: give it without --print-jobs and --job")

    @property
    def elsewhere(self) -> bool:
        """Whether the command ends without tables and figures."""
        return self.print_jobs or self.job is not None


def run_jobs(jobs: Sequence[Job], options: JobOptions, name: str, args: Sequence[str] | None) -> list[Job]:
    """Run the jobs as the options say; returns those that failed.

    With `print_jobs` or `job` the process ends here, except where all jobs are finished.

    Args:
        jobs: of the command.
        name, args: of the command (None: the arguments of the process), to be printed.

    Errors: UserError for a job that does not exist; RunFailed where it fails.
    """
    waiting = [job for job in jobs if not job.finished]
    if options.collect:
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished")
        return []
    if options.print_jobs and waiting:
        words = [word for word in (sys.argv[1:] if args is None else args) if word.replace("_", "-") != "--print-jobs"]
        print(*(command(name, *words, "--job", job.run_dir) for job in waiting), sep="\n")
        sys.exit()
    if options.job is not None and waiting:
        chosen = [job for job in jobs if str(job.run_dir) == options.job]
        if not chosen:
            raise UserError(f"there is no run {options.job}.{nearest(options.job, [str(job.run_dir) for job in jobs])}")
        if not chosen[0].run():
            raise RunFailed(f"the run {options.job} failed, see {chosen[0].log}. Call again to go on.")
        sys.exit()
    return run_all(jobs, options.workers or available_cores())
