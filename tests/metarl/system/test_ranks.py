"""Training on several ranks, which are processes that find each other by the environment variables of torchrun."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metarl.system import ranks

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
    found = {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", RUN, calls],
            env={**os.environ, **found, "RANK": str(rank), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]


def ends(processes):
    """The exit status, stdout and stderr of each."""
    outputs = [process.communicate(timeout=300) for process in processes]
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


def trained(folder: Path, number: int) -> dict[str, Path]:
    trainings = {
        name: ["--run-dir", str(folder / name), *flags(TRAINING | settings)] for name, settings in ALGORITHMS.items()
    }
    found = ends(start([["half_cheetah_vel/promp", *arguments] for arguments in trainings.values()], number))
    assert [status for status, *_ in found] == [0] * number, found
    assert [out for _, out, _ in found[1:]] == [""] * (number - 1)
    return {name: folder / name for name in trainings}


@pytest.mark.parametrize("number", [2, 3])
def test_any_number_of_ranks_computes_the_same_bits(alone, number, tmp_path):
    for name, run_dir in trained(tmp_path, number).items():
        assert written(run_dir) == written(alone[name]), name
