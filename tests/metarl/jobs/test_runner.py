"""Jobs run once, go on where they stopped, and leave a mark; real scripts in real processes."""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metarl.errors import RunFailed, UserError
from metarl.jobs import runner
from metarl.jobs.elsewhere import JobOptions, run_jobs
from metarl.jobs.runner import MARK, Job, run_all

SCRIPT = """
import sys
import time
from pathlib import Path
args = sys.argv[1:]
run_dir = Path(args[args.index("--run-dir") + 1])
run_dir.mkdir(parents=True, exist_ok=True)
(run_dir / "run.json").touch()
with (run_dir / "metrics.jsonl").open("a") as file:
    print(*args, file=file)
if "--fail" in args and not (run_dir / "checkpoint.pt").exists():
    (run_dir / "checkpoint.pt").write_text("half done")
    sys.exit(3)
if "--slow" in args:
    time.sleep(1)
while "--until" in args and not Path(args[args.index("--until") + 1]).exists():
    time.sleep(0.02)
print("said something")
"""
AFTER = """
import sys
import time
from pathlib import Path
(Path(sys.argv[1]) / "after").write_text(" ".join(sys.argv[2:]))
"""


@pytest.fixture
def scripts(tmp_path: Path) -> tuple[str, str]:
    paths = (tmp_path / "fill.py", tmp_path / "after.py")
    for path, text in zip(paths, (SCRIPT, AFTER), strict=True):
        path.write_text(text)
    return str(paths[0]), str(paths[1])


def calls(job: Job) -> list[str]:
    return (job.run_dir / "metrics.jsonl").read_text().splitlines()


def test_a_job_runs_its_commands_once(scripts, tmp_path):
    fill, after = scripts
    jobs = [Job(tmp_path / "runs" / name, (fill, "--seed", name), then=((after, "x", "y"),)) for name in "abc"]
    assert run_all(jobs, workers=2) == []
    assert run_all(jobs, workers=2) == []
    for job in jobs:
        assert calls(job) == [f"--seed {job.run_dir.name} --run-dir {job.run_dir}"]
        assert (job.run_dir / "after").read_text() == "x y"
        assert "said something" in job.log.read_text()
        assert job.finished


def test_a_job_that_fails_stops_no_other_and_goes_on_from_its_checkpoint(scripts, tmp_path):
    fill, _ = scripts
    jobs = [Job(tmp_path / "bad", (fill, "--fail")), Job(tmp_path / "good", (fill,))]
    assert run_all(jobs, workers=1) == [jobs[0]]
    assert [job.finished for job in jobs] == [False, True]
    assert run_all(jobs, workers=1) == []
    assert calls(jobs[0]) == [f"--fail --run-dir {tmp_path / 'bad'}", f"--fail --run-dir {tmp_path / 'bad'} --resume"]


def test_a_job_that_cannot_be_resumed_begins_anew(scripts, tmp_path):
    job = Job(tmp_path / "bad", (scripts[0], "--fail"), resumable=False)
    for _ in range(2):
        assert run_all([job], workers=1) == [job]
    assert len(calls(job)) == 1


def test_a_folder_that_other_commands_filled_is_refused_before_anything_runs(scripts, tmp_path):
    fill, _ = scripts
    run_all([Job(tmp_path / "a", (fill, "--seed", "0"))], workers=1)
    jobs = [Job(tmp_path / "new", (fill,)), Job(tmp_path / "a", (fill, "--seed", "1"))]
    with pytest.raises(UserError, match=r"a was filled by other commands.*Remove it"):
        run_all(jobs, workers=1)
    assert not (tmp_path / "new").exists()
    assert json.loads((tmp_path / "a" / MARK).read_text())["commands"] == [[fill, "--seed", "0"]]


def test_a_config_that_has_changed_since_is_noticed(scripts, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("seed: 0")
    job = Job(tmp_path / "a", (scripts[0], str(config)))
    run_all([job], workers=1)
    assert job.finished
    config.write_text("# a comment\nseed: 0")
    assert job.finished
    config.write_text("seed: 1")
    with pytest.raises(UserError, match=r"another content of .*config.yaml"):
        run_all([job], workers=1)


def test_jobs_share_the_terminal_with_a_bar(scripts, tmp_path, capfd):
    assert run_all([Job(tmp_path / "a", (scripts[0],))], workers=os.cpu_count() or 1) == []
    assert "1/1" in capfd.readouterr().out


@pytest.mark.parametrize("foreign", ["thesis.tex", "notes/today.txt"])
def test_what_no_run_has_made_is_left_alone(scripts, tmp_path, foreign):
    job = Job(tmp_path / "a", (scripts[0],))
    (tmp_path / "a" / foreign).parent.mkdir(parents=True)
    (tmp_path / "a" / foreign).write_text("mine")
    for marker in (False, True):
        if marker:
            (tmp_path / "a" / "run.json").touch()
        with pytest.raises(UserError, match=r"which no run of this program has made. It is left as it is"):
            run_all([job], workers=1)
        assert (tmp_path / "a" / foreign).read_text() == "mine"


@pytest.mark.parametrize("content", ["{torn", "[1]", "[" * 100_000])
def test_a_damaged_mark_is_one_message(scripts, tmp_path, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / MARK).write_text(content)
    with pytest.raises(UserError, match=r"finished.json cannot be read .*Remove it to run the job again"):
        run_all([Job(tmp_path / "a", (scripts[0],))], workers=1)


def test_two_processes_run_each_job_once(scripts, tmp_path):
    """The second waits for what the first is doing, and finds it done."""
    jobs = [Job(tmp_path / name, (scripts[0], "--slow")) for name in ("0.1_1", "0.1_2", "0.1_3")]
    code = "import sys; from pathlib import Path; from metarl.jobs.runner import Job, run_all\n"
    code += (
        f"jobs = [Job(Path(name), ({scripts[0]!r}, '--slow')) for name in sys.argv[1:]]\nassert run_all(jobs, 2) == []"
    )
    words = [sys.executable, "-c", code, *(str(job.run_dir) for job in jobs)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    for job in jobs:
        assert len(calls(job)) == 1
        assert "said something" in job.log.read_text()


def test_the_runs_of_a_process_that_was_killed_are_waited_for(scripts, tmp_path):
    """They go on without it; the next process neither starts them a second time nor fails."""
    fill, after = scripts
    job = Job(tmp_path / "run", (fill, "--until", str(tmp_path / "now")), then=((after, "x"),))
    code = f"from pathlib import Path; from metarl.jobs.runner import Job, run_all\nrun_all([{job!r}], 1)"
    code = code.replace("PosixPath", "Path")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as first:
        while not (job.run_dir / "metrics.jsonl").exists():
            time.sleep(0.02)
        first.kill()
    with (tmp_path / ".run.lock").open("w") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (tmp_path / "now").touch()
    assert job.run()
    assert job.log.read_text().count("said something") == 2
    assert job.finished


@pytest.mark.parametrize(("workers", "told"), [(1, False), (10**6, True)])
def test_more_workers_than_cores_are_told(scripts, tmp_path, capsys, workers, told):
    assert run_all([Job(tmp_path / "run", (scripts[0],))], workers) == []
    assert ("more workers than cores" in capsys.readouterr().out) is told


def test_a_script_that_is_not_there_is_a_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(Path("run"), ("scripts/configs.py", "demo"), then=(("scripts/configs.py",),))
    train, then = job.commands()
    assert train[:4] == ["-m", "metarl", "configs", "demo"]
    assert then == ["-m", "metarl", "configs", "run"]


def test_without_a_terminal_lines_tell_how_far_the_runs_are(tmp_path, scripts, monkeypatch, capsys):
    monkeypatch.setattr(runner, "INTERVAL", 0.05)
    talks = tmp_path / "talks.py"
    talks.write_text(
        "import sys, time, pathlib; print('iteration 1/2', flush=True); time.sleep(2.0)\n"
        "folder = pathlib.Path(sys.argv[2]); folder.mkdir()\n"
    )
    job = Job(tmp_path / "a", (str(talks),), resumable=False)
    assert run_all([job], workers=1) == []
    lines = capsys.readouterr().out.splitlines()
    assert f"{tmp_path / 'a'}: iteration 1/2" in lines
    assert lines[-1].startswith(f"done: {tmp_path / 'a'}  runs 1/1  left 0.0 min")


def test_jobs_are_printed_done_one_by_one_and_collected(scripts, tmp_path, capsys):
    jobs = [Job(tmp_path / name, (scripts[0], *flags)) for name, flags in (("a", ()), ("b", ("--fail",)))]
    args = ["--print-jobs", "--seeds", "1"]

    def printed() -> list[list[str]]:
        with pytest.raises(SystemExit) as ended:
            run_jobs(jobs, JobOptions(print_jobs=True), "results", args)
        assert not ended.value.code
        return [shlex.split(line)[-5:] for line in capsys.readouterr().out.splitlines()]

    def do(name: str) -> None:
        run_jobs(jobs, JobOptions(job=str(tmp_path / name)), "results", args)

    of_a, of_b = (["results", "--seeds", "1", "--job", str(job.run_dir)] for job in jobs)
    assert printed() == [of_a, of_b]
    for _ in range(2):  # the second time it is skipped
        with pytest.raises(SystemExit) as ended:
            do("a")
        assert not ended.value.code
    assert len(calls(jobs[0])) == 1
    assert printed() == [of_b]
    with pytest.raises(RunFailed, match=r"b failed, see .*b\.log"):
        do("b")
    with pytest.raises(UserError, match=r"there is no run .*c\."):
        do("c")
    assert run_jobs(jobs, JobOptions(collect=True), "results", args) == []
    assert capsys.readouterr().out == "1 of 2 runs are finished\n"
