"""Training on several ranks, which are processes that find each other by the environment variables of torchrun."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from metarl.runs import checkpoints
from metarl.system import ranks

ROOT = Path(__file__).parents[3]
TRAINING = {
    "sampling.tasks": 5,
    "sampling.episodes": 3,
    "env.horizon": 10,
    "policy.hidden_sizes": "16 16",
    "evaluation.tasks": 4,
    "evaluation.episodes": 2,
    "evaluation.every": 2,
    "evaluation.videos": 0,
    "tracking.mode": "disabled",
    "iterations": 3,
}
"""Five tasks, which neither two nor three ranks share out evenly."""
ALGORITHMS = {
    "maml_trpo": {"algorithm": "maml_trpo", "algorithm.curvature_stride": 2},
    "meta_sgd": {"algorithm": "maml_trpo", "algorithm.inner.learned_step_sizes": "true"},
    "e_maml": {
        "algorithm": "maml_trpo",
        "algorithm.inner.loss": "reinforce",
        "algorithm.exploration_credit": 0.1,
        "algorithm.inner.steps": 2,
    },
    "maml_sgd": {"algorithm": "maml_sgd", "algorithm.exploration_credit": 0.1, "algorithm.inner.loss": "reinforce"},
    "promp": {"algorithm": "promp", "algorithm.adaptive_kl_penalty": "true", "algorithm.target_kl": 0.01},
    "latent": {"algorithm": "promp", "policy.latent_size": 1},
    "reptile": {"algorithm": "reptile"},
    "sb3_ppo": {"algorithm": "reptile", "algorithm.inner": "sb3_ppo", "algorithm.inner.minibatches": 2},
}
RUN = """
import json, os, sys
from metarl.commands import train
for port, arguments in json.loads(sys.argv[1]):
    os.environ["MASTER_PORT"] = str(port)
    train.main(arguments)
"""
TALK = """
import os, signal, sys
from datetime import timedelta
from metarl.errors import UserError, exits_cleanly
from metarl.system import ranks

@exits_cleanly
def main(case):
    ranks.TIMEOUT = timedelta(seconds=5)
    with ranks.joined():
        print("a line")
        last = ranks.count() - 1
        is_last = ranks.from_all(os.getpid())[last] == os.getpid()
        if case == "all fail" or (case == "one fails" and is_last):
            raise UserError("a mistake")
        if case == "one is killed" and is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        if case == "one is silent" and is_last:
            os.kill(os.getpid(), signal.SIGSTOP)
        while True:
            ranks.from_first(lambda: 1)

main(sys.argv[1])
"""


def flags(settings):
    return [word for name, value in settings.items() for word in (f"--{name}", *str(value).split())]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(trainings, number, **variables):
    """`metarl train` with each of these lists of arguments, one after the other, on so many ranks."""
    calls = json.dumps([*zip(free_ports(len(trainings)), trainings, strict=True)])
    return [rank_of(number, rank, RUN, calls, **variables) for rank in range(number)]


def rank_of(number, rank, code, *arguments, port=0, cwd=None, **variables):
    """The process of one rank, which runs this code."""
    found = {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "RANK": rank, "MASTER_PORT": port}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={
            **os.environ,
            "MASTER_ADDR": "127.0.0.1",
            **{name: str(value) for name, value in found.items()},
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def ends(processes):
    """The exit status, stdout and stderr of each."""
    outputs = [process.communicate(timeout=1800) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def written(run_dir):
    """What a run computed: its checkpoints, and its metrics without durations."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    metrics = [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]
    return [(run_dir / name).read_bytes() for name in ("checkpoint.pt", "best.pt")], metrics


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("tasks", [8, 11, 40])
def test_a_sum_over_tasks_has_the_same_bits_for_any_number_of_ranks(tasks, number, monkeypatch):
    values = torch.randn(tasks, 100, generator=torch.Generator().manual_seed(0))
    expected = ranks.total(values, tasks)
    torch.testing.assert_close(expected, values.sum(0))
    monkeypatch.setattr(ranks, "_world", number)
    shares = [ranks.share(tasks, rank) for rank in range(number)]
    assert [i for share in shares for i in range(tasks)[share]] == [*range(tasks)]
    known = {}
    for share in shares:
        own = {(i, i + 1): values[i] for i in range(tasks)[share]}
        known |= {branch: ranks._sum(own, *branch) for branch in ranks._branches(0, tasks, share)}
    assert torch.equal(ranks._sum(known, 0, tasks), expected)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run directories of one process, by algorithm."""
    return trained(tmp_path_factory.mktemp("alone"), 1)


def trained(folder: Path, number: int, more: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Path]:
    """The run directories of so many ranks, by algorithm."""
    trainings = {
        name: ["--run-dir", str(folder / name), *flags(TRAINING | settings | dict(more))]
        for name, settings in ALGORITHMS.items()
    }
    found = ends(start([["half_cheetah_vel/reptile", *arguments] for arguments in trainings.values()], number))
    assert [status for status, *_ in found] == [0] * number, found
    assert [out for _, out, _ in found[1:]] == [""] * (number - 1)
    return {name: folder / name for name in trainings}


def test_three_ranks_compute_the_same_bits_as_one(alone, tmp_path):
    for name, run_dir in trained(tmp_path, 3).items():
        assert written(run_dir) == written(alone[name]), name


LOST = "error: rank . of 3 lost another rank, which ended or did not answer for 5 s"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("one fails", "error: a mistake"),
        ("all fail", "error: a mistake"),
        ("one is killed", LOST),
        ("one is silent", LOST),
    ],
)
def test_one_rank_says_what_is_wrong_and_all_end(case, message):
    (port,) = free_ports(1)
    processes = [rank_of(3, rank, TALK, case, port=port) for rank in range(3)]
    found = ends(processes[:2])
    processes[2].kill()  # where it is silent, it has stopped
    found += ends(processes[2:])
    said = [line for _, _, stderr in found for line in stderr.splitlines() if line.startswith("error: ")]
    (line,) = said
    assert re.match(message, line)
    assert 0 not in [status for status, *_ in found]


def test_a_rank_that_never_comes_is_waited_for_so_long():
    found = ends([rank_of(3, 0, TALK, "wait", port=free_ports(1)[0])])
    assert [status for status, *_ in found] == [1]
    assert re.search(LOST, found[0][2])
    assert "1/3 clients joined" in found[0][2]


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = ends([rank_of(3, 0, TALK, "wait", port=port)])
    assert [status for status, *_ in found] == [1]
    assert re.search(f"127.0.0.1:{port}.*EADDRINUSE", found[0][2])


def catches(process, signum):
    """Whether a process has a handler for a signal."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return caught is not None and int(caught[1], 16) >> (signum - 1) & 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_run_goes_on_with_another_number_of_ranks(alone, tmp_path):
    """Two ranks end after the iteration in which one of them gets SIGUSR1; a single process goes on."""
    arguments = ["half_cheetah_vel/reptile", "--run-dir", str(tmp_path), *flags(TRAINING | ALGORITHMS["promp"])]
    processes = start([arguments], 2)
    while not catches(processes[1], signal.SIGUSR1):
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGUSR1)
    (status, said, _), (of_other, *_) = ends(processes)
    assert (status, of_other) == (0, 0)
    assert "Go on with" in said
    assert checkpoints.load(tmp_path / "checkpoint.pt")["iteration"] == 1
    assert [status for status, *_ in ends(start([[*arguments, "--resume"]], 1))] == [0]
    assert written(tmp_path) == written(alone["promp"])


@pytest.mark.parametrize(
    ("of_second", "message"),
    [
        (["--seed", "1", "--sampling.tasks", "3"], "rank 0 and rank 1 differ.*setting sampling.tasks: 5 and 3"),
        (["--sampling.tasks", "1"], "error: sampling.tasks = 1 with 2 ranks: every rank needs a task"),
        ([], "rank 1 on .* does not see the run in .*: name a folder of a file system that all machines share"),
    ],
    ids=["settings", "tasks", "folder"],
)
@pytest.mark.slow
def test_ranks_that_do_not_fit_together_are_refused(tmp_path, of_second, message):
    arguments = ["half_cheetah_vel/reptile", *flags(TRAINING), "--run-dir", "run"]
    of_first = of_second if "tasks = 1" in message else []
    (port,) = free_ports(1)
    processes = []
    for rank, own in enumerate((of_first, of_second)):
        folder = tmp_path / (str(rank) if not own else "both")
        folder.mkdir(exist_ok=True)
        calls = json.dumps([(port, [*arguments, *own])])
        path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
        processes.append(rank_of(2, rank, RUN, calls, cwd=folder, PYTHONPATH=path))
    found = ends(processes)
    said = [stderr for _, _, stderr in found if "error: " in stderr]
    assert len(said) == 1
    assert re.search(message, said[0], re.DOTALL)
    assert 0 not in [status for status, *_ in found]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("tasks", [7, 8])
def test_four_ranks_compute_the_same_bits(tasks, tmp_path):
    settings = {"sampling.tasks": tasks, "iterations": 5}
    expected = trained(tmp_path / "1", 1, settings)
    for number in (2, 3, 4):
        for name, run_dir in trained(tmp_path / str(number), number, settings).items():
            assert written(run_dir) == written(expected[name]), (name, number)


def workers_of(launcher):
    """The process ids of the ranks that torchrun has started."""
    return [int(pid) for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_torchrun_starts_lost_ranks_again(tmp_path):
    """Twenty times a random rank is killed at a random moment; then the run is left alone."""
    settings = flags(TRAINING | {"algorithm": "promp", "iterations": 60, "evaluation.every": 20})
    run_dir, expected = tmp_path / "killed", tmp_path / "expected"
    assert [s for s, *_ in ends(start([["half_cheetah_vel/reptile", "--run-dir", str(expected), *settings]], 1))] == [0]
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "3", "--max-restarts", "20"]
    train = ["-m", "metarl", "train", "half_cheetah_vel/reptile", "--run-dir", str(run_dir), *settings]
    rng = random.Random(0)
    with (tmp_path / "log").open("w") as log:
        launcher = subprocess.Popen([sys.executable, "-m", *launch, *train], stdout=log, stderr=log)
        for _ in range(20):
            time.sleep(rng.uniform(0.5, 10))
            while len(workers := workers_of(launcher)) < 3:
                assert launcher.poll() is None
                time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
            while set(workers_of(launcher)) & set(workers):
                time.sleep(0.05)
        assert launcher.wait(timeout=1800) == 0, (tmp_path / "log").read_text()
    assert written(run_dir) == written(expected)
