"""Jobs run once, go on where they stopped, and leave a mark; real scripts in real processes."""

import json
import os
from pathlib import Path

import pytest

from metarl.errors import UserError
from metarl.jobs.runner import MARK, Job, run_all

SCRIPT = """
import sys
from pathlib import Path
args = sys.argv[1:]
run_dir = Path(args[args.index("--run-dir") + 1])
run_dir.mkdir(parents=True, exist_ok=True)
with (run_dir / "calls").open("a") as file:
    print(*args, file=file)
if "--fail" in args and not (run_dir / "checkpoint.pt").exists():
    (run_dir / "checkpoint.pt").write_text("half done")
    sys.exit(3)
print("said something")
"""
AFTER = """
import sys
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
    return (job.run_dir / "calls").read_text().splitlines()


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
    config.write_text("seed: 1")
    with pytest.raises(UserError, match=r"another content of .*config.yaml"):
        run_all([job], workers=1)


def test_jobs_share_the_terminal_with_a_bar(scripts, tmp_path, capfd):
    assert run_all([Job(tmp_path / "a", (scripts[0],))], workers=os.cpu_count() or 1) == []
    assert "1/1" in capfd.readouterr().out
