"""Training on two machines, of which one is lost and comes back.

The machines are two network namespaces of this one, joined by a virtual cable. That needs Linux, root and `ip` of the
package iproute2:

    pytest -m slow tests/test_two_machines.py
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

NAMES = ("metarl-a", "metarl-b")
ADDRESSES = ("10.99.7.1", "10.99.7.2")
TRAINING = (
    "half_cheetah_vel/promp --sampling.tasks 5 --sampling.episodes 3 --env.horizon 20 --evaluation.tasks 4 "
    "--evaluation.episodes 2 --evaluation.every 10 --evaluation.videos 0 --tracking.mode disabled --iterations 12"
)


def ip(*words: object) -> str:
    return subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def cable() -> Generator[None]:
    """Two namespaces with a network card each."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and ip")
    try:
        for name in NAMES:
            ip("netns", "add", name)
        ip("link", "add", "card-a", "netns", NAMES[0], "type", "veth", "peer", "name", "card-b", "netns", NAMES[1])
        for name, card, address in zip(NAMES, ("card-a", "card-b"), ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", card)
            for each in (card, "lo"):
                ip("-n", name, "link", "set", each, "up")
        yield
    finally:
        for name in NAMES:
            lose(name)
            subprocess.run(["ip", "netns", "delete", name], check=False)


def lose(name: str) -> None:
    """Kill all processes of a machine."""
    for pid in subprocess.run(
        ["ip", "netns", "pids", name], check=False, capture_output=True, text=True
    ).stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def launch(machine: int, run_dir: Path, log: Path) -> subprocess.Popen[bytes]:
    """torchrun on one of the machines, with one rank."""
    launcher = (
        f"{sys.executable} -m torch.distributed.run --nnodes 2 --nproc-per-node 1 --max-restarts 5 --rdzv-backend c10d "
        f"--rdzv-endpoint {ADDRESSES[0]}:29400 --rdzv-conf is_host={1 - machine} --local-addr {ADDRESSES[machine]}"
    )
    command = ["ip", "netns", "exec", NAMES[machine], *launcher.split(), "-m", "metarl", "train", *TRAINING.split()]
    own = {"GLOO_SOCKET_IFNAME": f"card-{'ab'[machine]}", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    env = {**os.environ, **own}
    with log.open("a") as file:
        return subprocess.Popen([*command, "--run-dir", str(run_dir)], stdout=file, stderr=file, env=env)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_machine_that_is_lost_and_comes_back_changes_nothing(cable, tmp_path):
    expected, run_dir, log = tmp_path / "expected", tmp_path / "run", tmp_path / "log"
    alone = [sys.executable, "-m", "metarl", "train", *TRAINING.split(), "--run-dir", str(expected)]
    subprocess.run(alone, check=True, stdout=subprocess.DEVNULL)
    first, second = (launch(machine, run_dir, log) for machine in (0, 1))
    while not (run_dir / "metrics.jsonl").exists() or (run_dir / "metrics.jsonl").read_bytes().count(b"\n") < 5:
        assert (first.poll(), second.poll()) == (None, None), log.read_text()
        time.sleep(0.05)
    lose(NAMES[1])
    second.wait()
    assert (run_dir / "metrics.jsonl").read_bytes().count(b"\n") < 12
    again = launch(1, run_dir, log)
    assert (first.wait(), again.wait()) == (0, 0), log.read_text()
    for name in ("checkpoint.pt", "best.pt"):
        assert (run_dir / name).read_bytes() == (expected / name).read_bytes()
