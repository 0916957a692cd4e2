"""Cores and memory of a process, on folders that look like those of Linux's control groups."""

import os
import subprocess
import sys

import pytest

from metarl.system import machine
from metarl.system.machine import available_cores, available_memory

GIB = 2**30


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """linux(**files): a machine with such files and many cores."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)

    def linux(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")

    return linux


INSIDE = {"proc/self/cgroup": "0::/job/step"}
OWN_NAMESPACE = {"proc/self/cgroup": "0::/"}
VERSION_1 = {"proc/self/cgroup": "4:memory:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/\n0::/"}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        (OWN_NAMESPACE | {"sys/fs/cgroup/cpu.max": "max 100000"}, 64),
        (OWN_NAMESPACE | {"sys/fs/cgroup/cpu.max": "300000 100000"}, 3),
        (OWN_NAMESPACE | {"sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
        (OWN_NAMESPACE | {"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        (INSIDE | {"sys/fs/cgroup/job/step/cpu.max": "max 100000", "sys/fs/cgroup/job/cpu.max": "400000 100000"}, 4),
        ({"proc/self/cgroup": "0::/not/seen/here", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        (VERSION_1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 64),
        (
            VERSION_1
            | {"sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "500000", "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000"},
            5,
        ),
    ],
)
def test_cores_are_those_that_the_quota_fills(linux, files, cores):
    linux(files)
    assert available_cores() == cores


@pytest.mark.parametrize(("processes", "cores"), [("1", 5), ("2", 2), ("4", 1), ("8", 1), ("", 5)])
def test_processes_that_torchrun_started_share_the_cores_out(linux, monkeypatch, processes, cores):
    linux(OWN_NAMESPACE | {"sys/fs/cgroup/cpu.max": "500000 100000"})
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert available_cores() == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be bound to cores here")
def test_a_process_that_is_bound_to_one_core_has_one():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from metarl.system.machine import available_cores; from metarl.system import threads\n"
        "print(available_cores(), threads._pool._max_workers)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["1", "1"]


MEMINFO = {"proc/meminfo": "MemTotal: 99999999 kB\nMemAvailable:   8388608 kB\nBuffers: 5 kB"}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, None),
        (MEMINFO, 8 * GIB),
        (MEMINFO | OWN_NAMESPACE | {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": "5"}, 8 * GIB),
        (
            MEMINFO
            | OWN_NAMESPACE
            | {"sys/fs/cgroup/memory.max": str(4 * GIB), "sys/fs/cgroup/memory.current": str(GIB)},
            3 * GIB,
        ),
        (
            MEMINFO
            | INSIDE
            | {"sys/fs/cgroup/job/memory.max": str(2 * GIB), "sys/fs/cgroup/job/memory.current": str(GIB)}
            | {"sys/fs/cgroup/job/memory.stat": f"anon 5\ninactive_file {GIB // 2}"},
            3 * GIB // 2,
        ),
        (
            VERSION_1
            | {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(5 * GIB)}
            | {"sys/fs/cgroup/memory/job/memory.usage_in_bytes": str(6 * GIB)},
            0,
        ),
    ],
)
def test_memory_is_what_is_left_up_to_the_nearest_limit(linux, files, left):
    linux(files)
    assert available_memory() == left
