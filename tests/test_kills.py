"""Runs that are killed, again and again, end as if nothing had happened."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl.runs import checkpoints

ROOT = Path(__file__).parents[1]
TINY = """
env: {id: "envs:metarl/PointNav-v0", horizon: 5}
sampling: {tasks: 2, episodes: 4}
evaluation: {tasks: 2, episodes: 4, every: 3, videos: 0}
algorithm: {name: promp, epochs: 1}
policy: {hidden_sizes: [8]}
threads: 1
"""
KILLS = 200
WITH_WANDB = 20
LIVES = 4
"""A run is killed so often, and then trained to its end."""


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def rows(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    """What is the same each time that a row is computed; `_` is what W&B adds."""
    kept = {key: value for key, value in row.items() if not key.startswith(("time/", "_"))}
    return {key: float(value) if isinstance(value, int) else value for key, value in kept.items()}


def assert_same(one: Any, other: Any) -> None:
    """Checkpoints, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            if key != "experiment":
                assert_same(one[key], other[key])
    else:
        assert one == other


def assert_same_run(run: Path, whole: Path) -> None:
    for name in ("checkpoint.pt", "best.pt"):
        assert_same(checkpoints.load(run / name), checkpoints.load(whole / name))
    assert [*map(untimed, rows(run))] == [*map(untimed, rows(whole))]


def history(run: Path) -> list[dict[str, Any]]:
    """What W&B's own reader finds in all parts together; of one that broke off, what stands before."""
    found = []
    for part in sorted((run / "wandb").glob("offline-run-*")):
        reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(part)]
        output = subprocess.run(reader, capture_output=True, text=True, timeout=60).stdout
        records = [json.loads(line) for line in output.splitlines()]
        found += [record["history"]["item"] for record in records if record["type"] == "history"]
    return found


def assert_recorded_once(run: Path) -> None:
    """The parts together hold every row of metrics.jsonl once, and no other; pictures and videos are no rows of it."""
    logged, recorded = rows(run), history(run)
    tables = [key for row in recorded for key in row if row.get(key.split(".")[0] + "._type") == "table-file"]
    scalars = [row for row in recorded if not any(key.endswith("._type") for key in row)]
    numbers = [row for row in logged if not any(isinstance(value, dict) for value in row.values())]
    in_order = [json.dumps(untimed(row), sort_keys=True) for row in numbers]
    assert Counter(json.dumps(untimed(row), sort_keys=True) for row in scalars) == Counter(in_order)
    at = [row["iteration"] for row in recorded if "validation/returns._type" in row]
    assert tables
    assert sorted(at) == [row["iteration"] for row in logged if "validation/returns" in row]


def start(tiny: Path, run: Path, iterations: int, mode: str) -> subprocess.Popen[str]:
    """A training process, of a new run or one that goes on."""
    begin = ["--resume"] if (run / "config.yaml").exists() else []
    words = ["train", *([] if begin else [str(tiny)]), "--run-dir", str(run), *begin]
    return subprocess.Popen(
        [sys.executable, "-m", "metarl", *words, "--iterations", str(iterations), "--tracking.mode", mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        preexec_fn=default_signals,  # a command that was interrupted in this process left them ignored
    )


def default_signals() -> None:
    """As a shell starts a command; what is ignored would be inherited."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


def end(process: subprocess.Popen[str], signum: int, times: int = 1) -> str:
    """What it printed after so many signals, as a terminal or a scheduler sends them to all of its processes."""
    for _ in range(times):
        os.killpg(process.pid, signum)
        time.sleep(0.02)
    return process.communicate(timeout=60)[0]


def wait(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    if process.poll() is not None or not happened():
        process.kill()
        raise AssertionError(process.communicate()[0])


def test_every_row_is_recorded_once_whatever_ends_the_run(tiny, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    endless = 1_000_000  # until it is killed
    for signum, times in ((signal.SIGTERM, 5), (signal.SIGHUP, 2), (signal.SIGKILL, 1), (signal.SIGKILL, 1)):
        process, before = start(tiny, run, endless, "offline"), len(rows(run))
        wait(process, lambda: len(rows(run)) > before + 20)  # noqa: B023
        output = end(process, signum, times)
        if signum == signal.SIGKILL:
            continue
        assert process.returncode == 128 + signum, output
        assert f"--run-dir {run} --resume" in output
        assert "Traceback" not in output
        assert "error" not in output
    iterations = checkpoints.load(run / "checkpoint.pt")["iteration"] + 5
    for path, mode in ((run, "offline"), (whole, "disabled")):
        process = start(tiny, path, iterations, mode)
        assert process.wait(120) == 0
    assert_same_run(run, whole)
    assert_recorded_once(run)


class Killer:
    """Starts and kills runs of a few iterations, which are forks of one process that has imported everything."""

    def __init__(self, tiny: Path, folder: Path) -> None:
        self.tiny, self.folder = tiny, folder
        self.context = multiprocessing.get_context("forkserver")
        self.kills = 0

    def live(self, run: Path, mode: str, *, last_write: int | None = None, seconds: float | None = None) -> bool:
        """Begin or continue a run and kill it; whether it came to its end before."""
        import killing

        begin = ["--resume"] if (run / "config.yaml").exists() else [str(self.tiny)]
        words = [*begin, "--run-dir", str(run), "--iterations", "7", "--tracking.mode", mode]
        output = self.folder / "output"
        process = self.context.Process(target=killing.run, args=(words, output, run, last_write))
        process.start()
        process.join(seconds if seconds is not None else 60)
        if process.is_alive():
            assert seconds is not None, output.read_text()
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        assert process.exitcode in (0, -signal.SIGKILL), output.read_text()
        self.kills += process.exitcode != 0
        if mode == "offline":
            time.sleep(1.1)  # W&B's own process ends after ours, and names a part after the second
        return process.exitcode == 0

    @property
    def writes(self) -> int:
        """Of the run that ended last."""
        return int((self.folder / "output").read_text().split()[-1])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_200_kills_change_nothing(tiny, tmp_path, monkeypatch):
    """At every write of a run, then at random moments, at last with W&B."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "tests"))))
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    killer, rng = Killer(tiny, tmp_path), random.Random(0)
    killer.context.set_forkserver_preload(["killing"])
    whole = tmp_path / "whole"
    killer.live(tmp_path / "first", "disabled")  # the fork server imports
    began = time.monotonic()
    assert killer.live(whole, "disabled")
    lasts, writes = time.monotonic() - began, killer.writes

    run = tmp_path / "run"
    for write in range(writes):
        assert not killer.live(run, "disabled", last_write=write)
        assert killer.live(run, "disabled")
        assert_same_run(run, whole)
        shutil.rmtree(run)
    print(f"killed at each of {writes} writes")

    while killer.kills < KILLS:
        mode = "offline" if killer.kills >= KILLS - WITH_WANDB else "disabled"
        longest = lasts + 1.0 if mode == "offline" else lasts
        for _ in range(LIVES):
            if killer.live(run, mode, seconds=rng.uniform(0.1, 1.0) * longest):
                break
        killer.live(run, mode)
        assert_same_run(run, whole)
        if mode == "offline":
            assert_recorded_once(run)
        shutil.rmtree(run)
        print(f"{killer.kills} kills")
